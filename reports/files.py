"""Reading and writing of files by reports: bounded, and whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from reports.errors import ReportError


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file through a temporary neighbour and a rename: at every moment the old content is there, or the new.

    Raises:
        ReportError: the directory is missing or not writable, the disk is full. What was there before is untouched.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    part = None
    try:
        handle, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o666 & ~_umask())
        os.replace(part, path)
    except OSError as error:
        why = error.strerror or error
        raise ReportError(f"{path}: cannot be written: {why}. What was there before is untouched") from None
    finally:
        if part and os.path.exists(part):
            os.unlink(part)


def read_bounded(path: Path, limit: int, what: str) -> bytes:
    """The content of a file of at most ``limit`` bytes.

    Raises:
        ReportError: it cannot be read, or is longer.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror or error}. Give {what}") from None
    if len(data) > limit:
        raise ReportError(f"{path}: longer than {limit} bytes, which no {what} is")
    return data


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
