"""Where builds are kept: one folder per content hash, object files beside them, and what is thrown away when.

<cache>/lock               held while a build is in progress, so that two processes build once
<cache>/<hash>/            a finished build: *.so, cann/ (the empty folders of ASCEND_HOME_PATH) and build.json
<cache>/objects/<hash>.o   compiled sources, so that an edit recompiles one file
<cache>/precompiled/       torch's headers, precompiled
<cache>/tmp-*              a build in progress, or what an interrupted one left; never taken for a build
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import EmulatorError

KEPT_BUILDS = 4
NOT_WRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
VARIABLE = "NPU_EMULATOR_CACHE"


def cache_folder() -> Path:
    """NPU_EMULATOR_CACHE, else npu-conformance/emulator in XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG specification says that a relative path is to be ignored
        base = os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        raise EmulatorError(f"This user has no home folder to keep the build in. Choose one: {VARIABLE}=/path/to/it")
    return Path(base, "npu-conformance", "emulator")


@contextlib.contextmanager
def writing(cache: Path) -> Iterator[None]:
    """Turns a full disk, a folder of somebody else and the like into one clear message."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise EmulatorError(
                f"The file system of {cache} has no locks (flock). Choose a folder on another: {VARIABLE}=/path/to/it"
            ) from error
        if error.errno in NOT_WRITABLE:
            raise EmulatorError(
                f"The emulator's build cannot be written to {cache}: {error.strerror or error}. "
                f"Make room there, or choose another folder: {VARIABLE}=/path/to/folder"
            ) from error
        raise


@contextlib.contextmanager
def build_lock(cache: Path, report, patience: float = 1800) -> Iterator[None]:
    """Lets one process at a time build; others wait up to `patience` seconds and then find the build done."""
    with writing(cache):
        cache.mkdir(parents=True, exist_ok=True)
        lock = FileLock(cache / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report("another process is building; waiting for it")
            try:
                lock.acquire(timeout=patience)
            except Timeout as error:
                raise EmulatorError(
                    f"Another process has held {cache / 'lock'} for {patience:.0f} s. End it (fuser {cache / 'lock'}), "
                    f"or choose another folder: {VARIABLE}=/path/to/folder"
                ) from error
    try:
        yield
    finally:
        lock.release()


def work_folder(cache: Path) -> Path:
    """A new folder for the build in progress. Called with the lock held, so all older ones are left-overs."""
    with writing(cache):
        for left in cache.glob("tmp-*"):
            shutil.rmtree(left)
        return Path(tempfile.mkdtemp(prefix="tmp-", dir=cache))


def manifest(build: Path) -> dict | None:
    """What build.json says, or None where the folder is no finished build."""
    try:
        return json.loads((build / "build.json").read_text())
    except FileNotFoundError:
        return None


def use(build: Path) -> int | None:
    """Marks a build as in use by this process and what it becomes by exec. Returns the descriptor that holds the mark.

    None where there is no such build.
    """
    with writing(build.parent):
        try:
            descriptor = os.open(build, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    if manifest(build) is None:  # thrown away in between
        os.close(descriptor)
        return None
    os.set_inheritable(descriptor, True)
    with contextlib.suppress(PermissionError):  # a build that another user made is fine, its age is theirs to keep
        os.utime(build)
    return descriptor


def prune(cache: Path, keep: int = KEPT_BUILDS) -> None:
    """Removes all builds but the `keep` last used and those in use, and the objects that none of the rest needs."""
    builds = [path.parent for path in cache.glob("*/build.json") if not path.parent.name.startswith("tmp-")]
    builds.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    kept = [build for index, build in enumerate(builds) if index < keep or not _removed(build, cache)]
    needed = {name for build in kept for name in (manifest(build) or {}).get("objects", [])}
    for path in [*cache.glob("objects/*"), *cache.glob("precompiled/*")]:
        if path.name not in needed:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _removed(build: Path, cache: Path) -> bool:
    descriptor = os.open(build, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    condemned = Path(tempfile.mkdtemp(prefix="tmp-", dir=cache))
    build.rename(condemned / build.name)
    shutil.rmtree(condemned)
    return True
