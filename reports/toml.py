"""The one reader of TOML files: bounded, with messages that name file and line."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.errors import ReportError
from reports.files import read_bounded

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST = 4 * 1024 * 1024  # bytes


@dataclass(frozen=True)
class Table:
    """One ``[[name]]`` of a TOML file: its content, its file and the line of its head."""

    content: dict[str, Any]
    file: str
    line: int

    @property
    def place(self) -> str:
        """File and line, as messages name it."""
        return f"{self.file}, line {self.line}"


def tables(path: Path, name: str, beside: Collection[str] = ()) -> list[Table]:
    """All ``[[name]]`` tables of a file that has nothing else but the keys ``beside``.

    Raises:
        ReportError: it cannot be read, is no TOML, or has anything beside these tables.
    """
    data = read_bounded(path, LARGEST, f"a TOML file of [[{name}]] tables")
    try:
        text = data.decode("utf-8")
        content = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ReportError(f"{path}: not TOML: byte {error.start} is no UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ReportError(f"{path}: not TOML: {error or 'nested too deeply'}") from None
    others = sorted(set(content) - {name, *beside})
    found = content.get(name, [])
    if others or not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        what = f"found {', '.join(others)}" if others else f"{name} is something else"
        raise ReportError(f"{path}: expected nothing but [[{name}]] tables; {what}")
    heads = [number for number, line in enumerate(text.splitlines(), 1) if re.match(rf"\s*\[\[\s*{name}\s*\]\]", line)]
    lines = heads if len(heads) == len(found) else [1] * len(found)
    return [Table(table, path.name, line) for table, line in zip(found, lines, strict=True)]
