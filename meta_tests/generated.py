"""Parts of documents that a command writes, between two marks."""

from __future__ import annotations


def between(old: str, begin: str, end: str, text: str, name: str) -> str:
    """A document with ``text`` in the place of what stands between the marks, which stay.

    Raises:
        ValueError: the document, called ``name``, lacks a mark.
    """
    before, begins, rest = old.partition(begin)
    _, ends, after = rest.partition(end)
    if not begins or not ends:
        raise ValueError(f"{name}: expected the lines {begin.strip()} and {end.strip()}")
    return f"{before}{begin}{text}{end}{after}"
