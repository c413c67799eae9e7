"""Made-up machines for the doctor: a directory tree, an environment, a fake npu-smi, the metadata of packages."""

from __future__ import annotations

import _ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path

from fixtures.doctor.box import Box

HEAD = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 25.5.2                   Version: 25.5.2                                               |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip  {column}            | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
"""
CARD = """\
| {number}     {name}               | {health}            | 93.2        49                0    / 0             |
| {chip}                         | 0000:02:00.0  | 0           0    / 0          {used} / 65536         |
+===========================+===============+====================================================+
"""
PROCESSES = """\
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
"""
IDLE = "| No running processes found in NPU {number}                                                            |\n"
BUSY = "| {number}       0                 | {id}         | python                   | 61440                   |\n"

VERSIONS = {
    **{"torch": "2.9.0+cpu", "torch_npu": "2.9.0", "transformers": "5.23.0", "accelerate": "1.15.0"},
    **{"peft": "0.21.2", "trl": "1.16.0", "pytest": "9.2.0", "pytest-xdist": "3.8.0", "filelock": "4.2.12"},
    **{"psutil": "7.2.2", "packaging": "26.3", "rich": "15.0.0", "numpy": "2.4.6", "datasets": "5.2.0"},
    **{"jinja2": "3.1.6", "matplotlib": "3.11.2"},
    **{"safetensors": "0.8.0", "tomli": "2.0"},
}


def smi(cards: int = 2, name: str = "910B3", health: str = "OK", busy: int = 0) -> str:
    """The tables of a box with that many cards, the first ``busy`` of them in use by somebody."""
    rows = [
        CARD.format(number=n, name=name, health=health, chip=0, used=61440 if n < busy else 3412) for n in range(cards)
    ]
    users = [(BUSY if n < busy else IDLE).format(number=n, id=4200 + n) for n in range(cards)]
    return HEAD.format(column="      ") + "".join(rows) + PROCESSES + "".join(users)


def make(
    root: Path,
    cards: int = 2,
    driver: bool = True,
    sourced: bool = True,
    cann: str = "8.5.0",
    kernels: Sequence[str] = ("ascend910b",),
    tables: str | None = None,
    npu_smi_is_there: bool = True,
    versions: Mapping[str, str | None] | None = None,
    python: str = "3.11",
    **variables: str,
) -> Box:
    """A machine below ``root``, an empty folder: healthy unless told otherwise.

    driver, sourced: whether it is so. cann: its version. kernels: chips with operators. tables: what npu-smi says.
    versions: over VERSIONS, None to take away. Further arguments are variables.
    """
    devices = root / "dev"
    (devices / "shm").mkdir(parents=True)
    nodes = ("davinci_manager", "devmm_svm", "hisi_hdc", *(f"davinci{n}" for n in range(cards)))
    for node in nodes if driver else ():
        (devices / node).write_text("")
    ascend = root / "usr/local/Ascend"
    home = ascend / "ascend-toolkit/latest"
    for part in ("opp", "runtime", "compiler", "lib64"):
        (home / part).mkdir(parents=True)
    (home / "lib64/libascendcl.so").symlink_to(_ctypes.__file__)  # any library that can be loaded
    (home / "ascend_toolkit_install.info").write_text(f"package_name=Ascend-cann-toolkit\nversion={cann}\n")
    (ascend / "ascend-toolkit/set_env.sh").write_text("")
    for chip in kernels:
        (home / "opp/built-in/op_impl/ai_core/tbe/kernel" / chip / "add").mkdir(parents=True)
    for part in ("driver", "firmware") if driver else ():
        (ascend / part).mkdir()
        (ascend / part / "version.info").write_text("Version=25.5.2\n")
    programs = root / "bin"
    programs.mkdir()
    if npu_smi_is_there and driver:
        (programs / "npu-smi").write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{tables or smi(cards)}END\n")
        (programs / "npu-smi").chmod(0o755)
    site = root / "site"
    for name, version in {**VERSIONS, **(versions or {})}.items():
        if version is not None:
            folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
            folder.mkdir(parents=True)
            needs = "Requires-Dist: torch==2.9.0\n" if name == "torch_npu" else ""
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
    environment = {"PATH": str(programs), "HOME": str(root), **variables}
    if sourced:
        environment |= {"ASCEND_HOME_PATH": str(home), "LD_LIBRARY_PATH": str(home / "lib64")}
    return Box(root, environment, (str(site),), python)
