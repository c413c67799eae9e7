"""The trial as one self-contained HTML page, made from what the trial left in its directory."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import jinja2

TRIAL, NOISE, LIMITS, LOCALISATION = "trial.json", "noise.json", "limits.json", "localisation.json"
SWEEP, PAGE = "sweep.json", "trial.html"


def write(directory: Path) -> Path:
    """Writes trial.html from trial.json and those of the other results that are there. Returns its path."""
    trial = json.loads((directory / TRIAL).read_text(encoding="utf-8"))
    more = {}
    for name in (NOISE, LIMITS, LOCALISATION, SWEEP):
        file = directory / name
        more[file.stem] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    families: dict[str, Counter] = {}
    for fault in trial["faults"]:
        families.setdefault(fault["family"], Counter())[fault["status"]] += 1
    columns = sorted({requirement for fault in trial["faults"] for requirement in fault["cells"]})
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    templates = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    text = templates.get_template("page.html.j2").render(trial=trial, families=families, columns=columns, **more)
    file = directory / PAGE
    file.write_text(text, encoding="utf-8")
    return file
