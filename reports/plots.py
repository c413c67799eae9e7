"""Plots as SVG, drawn by matplotlib, to stand in a page: colours are the page's variables, words stay in the page.

A plot has no text but the numbers at its axes: legend and caption are HTML, so that they can be read in every language
and found by a search. Only reports that draw import this module.
"""

from __future__ import annotations

import functools
import io
import math
import re
from collections.abc import Iterable, Sequence

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from reports.measurements import Curve

# What is drawn in these colours gets the page's variable instead (reports/pages/page.css).
INK, CARD, CPU, BAND, OTHER = "#010101", "#010102", "#010103", "#010104", "#010105"
VARIABLES = {INK: "--ink-soft", CARD: "--card", CPU: "--cpu", BAND: "--band", OTHER: "--other"}
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "npu-conformance",  # the same plot has the same text, every time
    "font.family": ["sans-serif"],
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
DASHED = (0, (4, 2))
# Heights of the parts of a figure, as (left, bottom, width, height) of it; the figure's height in units of 72 px.
ONE_PANEL = (1.9, ((0.11, 0.15, 0.87, 0.80),))
TWO_PANELS = (3.0, ((0.11, 0.46, 0.87, 0.52), (0.11, 0.10, 0.87, 0.30)))
_PROLOGUE = re.compile(r"^.*?<svg [^>]*?viewBox=\"([^\"]+)\"[^>]*>", re.DOTALL)
_OPENING = (
    r'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" class="plot" role="img" '
    r'viewBox="\1">'
)
# What a page does not need. "style" elements would apply to all of it; ids of groups are not unique there.
_NOISE = re.compile(
    r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<defs>\s*</defs>|(?<=<g) id=\"[^\"]*\"|(?<=\d\.\d\d)\d+",
    re.DOTALL,
)


def curve(drawn: Curve, earlier: Curve | None = None) -> str:
    """Above, the values per step: card, CPU, and with ``earlier`` those of another run. Below, where there is a
    reference, the relative difference from it, with the band that conforms.
    """
    figure, panels = _figure(TWO_PANELS if drawn.reference else ONE_PANEL)
    steps = range(len(drawn.measured))
    before = earlier.measured if earlier else ()
    above = panels[0]
    if drawn.reference:
        above.plot(steps, drawn.reference, color=CPU, linewidth=3.2, clip_on=False)
    _plot(above, before, color=OTHER, linestyle=DASHED)
    _plot(above, drawn.measured, color=CARD)
    longest = max(len(steps), len(before))
    _limit(above, longest - 1, (*drawn.measured, *drawn.reference, *before))
    if drawn.reference:
        _draw_differences(panels[1], drawn, earlier, longest)
    return _svg(figure, panels)


def trend(values: Sequence[float | None]) -> str:
    """One number per run, oldest first, numbered from 1; None where a run does not have it."""
    figure, panels = _figure(ONE_PANEL)
    known = [math.nan if value is None else value for value in values]
    axes = panels[0]
    axes.plot(range(1, len(known) + 1), known, color=CARD, marker="o", markersize=4, linewidth=1.4, clip_on=False)
    _limit(axes, max(2, len(known)), known, first=1)
    return _svg(figure, panels)


def _draw_differences(axes, drawn: Curve, earlier: Curve | None, longest: int) -> None:
    steps = range(len(drawn.measured))
    if drawn.band:
        low = [-limit for limit in drawn.band]
        axes.fill_between(steps, low, drawn.band, color=BAND, linewidth=0, step="mid", clip_on=False)
    axes.plot([0, longest - 1], [0, 0], color=INK, linewidth=0.5, clip_on=False)
    before = earlier.differences if earlier and earlier.reference else ()
    _plot(axes, before, color=OTHER, linestyle=DASHED)
    _plot(axes, drawn.differences, color=CARD)
    reach = max((abs(value) for value in (*drawn.band, *drawn.differences, *before) if math.isfinite(value)), default=0)
    _limit(axes, longest - 1, (-reach, reach))


def _plot(axes, values: Sequence[float], **style) -> None:
    if values:
        axes.plot(range(len(values)), values, linewidth=1.3, marker="o", markersize=2.2, clip_on=False, **style)


def _limit(axes, last: int, values: Iterable[float], first: int = 0) -> None:
    known = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(known), max(known)
    margin = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    axes.set_ylim(low - margin, high + margin)
    axes.set_xlim(first - 0.015 * last, last + 0.015 * last)


@functools.cache
def _figure(layout: tuple) -> tuple[Figure, tuple]:
    """A figure with empty panels. It is used again: making axes and ticks takes most of the time of a plot."""
    height, places = layout
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(6.4, height), dpi=72)
        figure.patch.set_visible(False)
        panels = tuple(figure.add_axes(place) for place in places)
    for number, axes in enumerate(panels):
        axes.patch.set_visible(False)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.yaxis.set_major_formatter(_formatter())
        axes.tick_params(length=2.5, width=0.5, labelbottom=number == len(panels) - 1)
    return figure, panels


def _formatter() -> ScalarFormatter:
    formatter = ScalarFormatter(useOffset=False)
    formatter.set_powerlimits((-3, 4))
    return formatter


def _svg(figure: Figure, panels: Sequence) -> str:
    """The figure as an element of a page; the panels are emptied."""
    written = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context(SETTINGS):
        figure.savefig(written, format="svg", metadata=nothing)
    for axes in panels:
        for artist in (*axes.lines, *axes.collections):
            artist.remove()
    text = " ".join(_NOISE.sub("", _PROLOGUE.sub(_OPENING, written.getvalue(), count=1)).split())
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text
