"""How a page is made: one file that asks the network for nothing, in English and Chinese, light and dark.

Everything that comes from a journal is escaped: by Jinja2 in the markup, in the data as JSON that no markup can end,
and as text nodes by the page's scripts. A content security policy lets nothing run but those scripts, whose hash it
has, and nothing be loaded.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from reports.outcome import FAILURES, Outcome
from reports.verdict import CONFORMANT, INCOMPLETE, NOT_CONFORMANT

TONES = {
    **{outcome.value: "bad" for outcome in FAILURES},
    **{Outcome.PASS.value: "good", Outcome.XFAIL.value: "known"},
    **{outcome.value: "open" for outcome in (Outcome.UNSUPPORTED, Outcome.NOT_RUN, Outcome.INFRA)},
    **{CONFORMANT: "good", NOT_CONFORMANT: "bad", INCOMPLETE: "open"},
}
FOLDER = "pages"
# What ASCII JSON may contain and HTML would take for more than data.
_DANGEROUS = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}


def render(template: str, scripts: tuple[str, ...], **values: Any) -> bytes:
    """The page that a template of reports/pages makes of values, in UTF-8; ``scripts`` are files there, run in order.

    Raises:
        jinja2.UndefinedError: the template uses a value that was not given.
    """
    script = "\n".join(_asset(name) for name in ("common.js", *scripts))
    digest = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode()
    page = _templates().get_template(template)
    text = page.render(words=words(), style=Markup(_asset("page.css")), script=Markup(script), digest=digest, **values)
    return text.encode("utf-8", "replace")  # JSON can bring halves of characters


@functools.cache
def words() -> dict[str, list[str]]:
    """The words of the interface: key -> [English, Chinese]."""
    return json.loads(_asset("words.json"))


def word(key: str, tag: str = "span", **values: Any) -> Markup:
    """A word of the interface, in English; the page's script says it in Chinese. An unknown key is its own word."""
    pair = words().get(key)
    text = pair[0].format(**values) if pair else key.replace("_", " ")
    given = Markup(' data-values="{}"').format(json.dumps(values)) if values else ""
    return Markup('<{} data-t="{}"{}>{}</{}>').format(Markup(tag), key, given, text, Markup(tag))


def badge(outcome: str) -> Markup:
    """An outcome, or a verdict, in its colour."""
    tone = TONES.get(outcome, "open")
    return Markup('<span class="outcome o-{}" data-t="{}">{}</span>').format(tone, outcome, words()[outcome][0])


def data(value: Any) -> Markup:
    """A value as JSON that can stand in a script element."""
    return Markup(json.dumps(value, separators=(",", ":")).translate(_DANGEROUS))


def link(nodeid: str) -> str:
    """The part of a page's address that opens a test."""
    return "#" + quote(nodeid, safe="/:[]!'()*~", errors="replace")


def percent(used: float) -> str:
    """How much of a limit was used: in per cent up to it, beyond it as a multiple."""
    if used > 100:
        return "> 100 ×"
    return f"{used:.3g} ×" if used >= 1.005 else f"{100 * used:.2g} %"


def milliseconds(seconds: float) -> str:
    """A short time."""
    return f"{1000 * seconds:.1f} ms"


def mebibytes(size: float) -> str:
    """A size in memory."""
    return f"{size / 2**20:.1f} MiB"


def why(reason: str, lines: int = 14) -> str:
    """Why a test ended as it did, without what a page says elsewhere; cut after so many lines."""
    elsewhere = ("requirement:", "reproduce:", "AssertionError: requirement:")
    kept = [line.rstrip() for line in reason.strip().splitlines() if not line.lstrip().startswith(elsewhere)]
    return "\n".join([*kept[:lines], *(["[...]"] if len(kept) > lines else [])])


@functools.cache
def _asset(name: str) -> str:
    return files("reports").joinpath(FOLDER, name).read_text(encoding="utf-8")


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(t=word, badge=badge, tones=TONES)
    environment.filters.update(
        data=data, link=link, percent=percent, milliseconds=milliseconds, mebibytes=mebibytes, svg=Markup, why=why
    )
    return environment
