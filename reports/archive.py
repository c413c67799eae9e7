"""Archives of handed-over runs: packed alike everywhere, unpacked with suspicion.

An archive comes from anybody. Only regular files with plain relative names are taken out of it, within bounds of number
and size; every one must be in the manifest with its SHA-256, and nothing else may be there.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from reports.errors import ReportError

MANIFEST, SIGNATURE, NAMESPACE = "manifest.sha256", "manifest.sha256.sig", "npu-conformance"
MOST_FILES, LARGEST = 1000, 4 * 1024**3  # bytes of all files together, unpacked
GZIP = b"\x1f\x8b"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def is_archive(path: Path) -> bool:
    """Whether a file begins as a gzip does."""
    try:
        with path.open("rb") as file:
            return file.read(2) == GZIP
    except OSError:
        return False


def pack(files: Mapping[str, bytes]) -> bytes:
    """A tar.gz of files by name; owner, group and times are left out, so that the same files give the same bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), mtime=0)


def manifest(files: Mapping[str, bytes]) -> bytes:
    """The sums of files by name, as ``sha256sum -c`` reads them."""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())).encode()


def sign(content: bytes, key: Path, directory: Path) -> bytes:
    """The signature of a manifest by ``ssh-keygen -Y sign``; ``directory`` is for its files.

    Raises:
        ReportError: there is no ssh-keygen, or it cannot sign with this key.
    """
    file = directory / MANIFEST
    file.write_bytes(content)
    _ssh_keygen(f"--sign {key}", "sign", "-f", str(key), "-n", NAMESPACE, str(file))
    return (directory / SIGNATURE).read_bytes()


def unpack(path: Path, directory: Path, signers: Path | None = None, identity: str | None = None) -> str:
    """Unpacks an archive into an empty directory, if all of it is as its manifest says.

    Args:
        path: the archive.
        directory: where to.
        signers: allowed_signers file of ssh-keygen(1), against which the signature is checked.
        identity: who must have signed, as ``signers`` names them.

    Returns:
        What is known of its signature, in words.

    Raises:
        ReportError: it is damaged, hostile, not as its manifest says, or not signed as demanded.
    """
    try:
        names = _extract(path, directory)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise ReportError(f"{path}: not an archive of a run, or damaged: {error}") from None
    _check_manifest(path, directory, names)
    return _signature(path, directory, names, signers, identity)


def _extract(path: Path, directory: Path) -> set[str]:
    names: set[str] = set()
    total = 0
    with tarfile.open(path, mode="r|gz") as archive:
        for member in archive:
            name = member.name
            if not member.isreg():
                raise ReportError(f"{path}: {name!r} is no regular file (a link, a directory, a device); refused")
            if not _is_plain(name) or name in names:
                raise ReportError(f"{path}: {name!r} is no plain relative name, or occurs twice; refused")
            names.add(name)
            total += member.size
            if len(names) > MOST_FILES or total > LARGEST:
                raise ReportError(f"{path}: more than {MOST_FILES} files or {LARGEST} bytes; refused")
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                shutil.copyfileobj(archive.extractfile(member), file)
    return names


def _is_plain(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and "/".join(parts) == name and name[0] != "/" and ".." not in parts and name.isprintable()


def _check_manifest(path: Path, directory: Path, names: set[str]) -> None:
    if MANIFEST not in names:
        raise ReportError(f"{path}: no {MANIFEST} in it; not an archive of python -m reports bundle")
    listed: dict[str, str] = {}
    text = (directory / MANIFEST).read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        found = _LINE.fullmatch(line)
        if not found or found[2] in listed:
            raise ReportError(f"{path}: {MANIFEST}, line {number}: not a sum and a name, or a name twice")
        listed[found[2]] = found[1]
    there = names - {MANIFEST, SIGNATURE}
    for word, odd in (("not in the manifest", there - set(listed)), ("missing", set(listed) - there)):
        if odd:
            raise ReportError(f"{path}: {', '.join(sorted(odd)[:5])}: {word}")
    for name, digest in listed.items():
        if _digest(directory / name) != digest:
            raise ReportError(f"{path}: {name} is not what the manifest says: it was altered after the hand-over")


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _signature(path: Path, directory: Path, names: set[str], signers: Path | None, identity: str | None) -> str:
    signed = SIGNATURE in names
    if signers is None:
        if not signed:
            return "all sums are right; not signed"
        said = _ssh_keygen(
            f"{path}",
            *("check-novalidate", "-n", NAMESPACE, "-s", str(directory / SIGNATURE)),
            content=(directory / MANIFEST).read_bytes(),
        )
        return f"all sums are right; {said}; whose key that is, --signers FILE --identity WHO decide"
    if not signed:
        raise ReportError(f"{path}: not signed, and --signers demands a signature")
    if not signers.is_file():
        raise ReportError(f"--signers {signers}: cannot be read. Give an allowed_signers file of ssh-keygen(1)")
    _ssh_keygen(
        f"{path}",
        *("verify", "-f", str(signers), "-I", str(identity), "-n", NAMESPACE, "-s", str(directory / SIGNATURE)),
        content=(directory / MANIFEST).read_bytes(),
    )
    return f"all sums are right; signed by {identity}"


def _ssh_keygen(what: str, *arguments: str, content: bytes | None = None) -> str:
    if not shutil.which("ssh-keygen"):
        raise ReportError(f"{what}: ssh-keygen is needed and not installed (Debian: openssh-client)")
    command = ["ssh-keygen", "-Y", *arguments]
    done = subprocess.run(command, input=content, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
    if done.returncode != 0:
        raise ReportError(f"{what}: ssh-keygen -Y {arguments[0]} says: {said[-1]}")
    return said[0]
