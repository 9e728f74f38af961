"""Assemble the page: one self-contained HTML file that opens from disk without a network."""

import base64
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from research.numbers import gib
from research.report import export, theme
from research.report.chapters import Chapter, Figure
from research.report.load import Part, Study
from research.report.rulers import Ruler
from research.report.words import environment

COLUMNS = (
    # name, column of the table, format ("": text), what it means
    ("run", "id", "", "Trial, and the name of its folder"),
    ("part", "part", "", "Part of the study"),
    ("N", "N", ",.0f", "Parameters, in the convention of the part"),
    ("D", "D", ",.0f", "Data seen in training, in tokens or images"),
    ("C (FLOPs)", "C", ".3e", "Ledger FLOPs of the whole training, forward and backward"),
    ("C / 6ND", "ratio", ".3f", "Ledger FLOPs over the usual approximation"),
    ("loss", "loss", ".5g", "Validation score, in the unit beside it"),
    ("unit", "unit", "", "Unit of the loss"),
    ("kind", "kind", "", "Exact, or a bound, or an estimate"),
    ("in fit", "role", "", "Open to the fits, held out to test them, or left out"),
    ("epochs", "epochs", ".2f", "Passes over the unique data"),
    ("steps", "steps", ",.0f", "Optimiser steps"),
    ("batch", "batch_size", ",.0f", "Examples a step"),
    ("learning rate", "learning_rate", ".2e", "Peak learning rate"),
    ("seconds", "seconds", ".1f", "Wall-clock seconds of this run alone (its trunk is shared)"),
    ("GFLOP/s", "gflops_per_second", ".1f", "FLOPs this run spent over its seconds"),
    ("goodput", "goodput", ".1%", "Share of the time since it began that trained what was kept"),
    ("seed", "seed", ".0f", "Seed of the run"),
    ("flags", "flags", "", "What to know before trusting the point"),
)

DIRTY = {
    True: " with uncommitted changes",
    False: "",
    None: ", and who built its image did not say whether with changes",
}


def render(
    study: Study,
    chapters: list[Chapter],
    stamp: str = "",
    time: Figure | None = None,
    rulers: Sequence[tuple[Ruler, Figure]] = (),
) -> str:
    """Return the HTML of the report: styles, scripts, figures and images all inside it.

    `stamp` goes into its head (see stamp.py); `time` is where the time went, if that is known;
    `rulers` hold parts beside one another.
    """
    figures = [figure for chapter in chapters for figure in chapter.figures]
    figures += [time] if time else []
    figures += [figure for _, figure in rulers]
    content = {
        "specs": {figure.name: export.page_spec(figure.spec) for figure in figures},
        "themes": {name: theme.config(name) for name in ("light", "dark")},
    }
    return environment().get_template("page.html.j2").render(
        study=study,
        stamp=stamp,
        font=theme.FONT,
        chapters=chapters,
        params=_join({_params(part) for part in study.parts}, by=" / "),
        flops=_join({part.flops_convention for part in study.parts}, by=" / "),
        columns=COLUMNS,
        rows=[row for part in study.parts for row in _rows(part)],
        time=time,
        rulers=rulers,
        provenance=_provenance(study),
        base64=lambda content: base64.b64encode(content).decode(),
        javascript=export.javascript(),
        # What a browser's parser takes and cannot end its <script> element.
        figures=json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
    )  # fmt: skip


def _rows(part: Part) -> list[tuple[bool, list[tuple[str, str]]]]:
    """Of each run whether it is usable, and its cells: what they are sorted by, and what they show.

    A cell that says nothing is sorted by nothing.
    """
    roles = np.select([part.runs.held_out, part.runs.usable], ["held out", "yes"], "left out")
    table = part.runs.assign(ratio=part.runs.C / part.runs.flops_6nd, role=roles)
    return [
        (run["usable"], [_cell(run[column], style) for _, column, style, _ in COLUMNS])
        for run in table.to_dict("records")
    ]


def _cell(value: Any, style: str) -> tuple[str, str]:
    if not style:
        return value, value
    return (repr(float(value)), f"{value:{style}}") if math.isfinite(value) else ("", "–")


def _params(part: Part) -> str:
    return part.params_convention.replace("_", "-")


def _provenance(study: Study) -> list[tuple[str, str]]:
    """Return where the runs came from: what is named, and what it is."""
    records, parts = study.provenance, study.parts
    machines = {
        f"{machine['cpu']}, {machine['cores']} cores, {gib(machine['memory_bytes'], 1)}, "
        f"devices {', '.join(machine['devices'])}"
        for machine in (record["machine"] for record in records)
    }
    revisions = {
        f"{record['git_revision']}{DIRTY[record['dirty']]}" if record["git_revision"]
        else "not under git"
        for record in records
    }  # fmt: skip
    versions = [
        f"{name} {version}" for each in records for name, version in each["versions"].items()
    ]
    spent = f"{study.flops:.4g} FLOPs in {study.seconds / 60:.1f} worker minutes"
    lines = [
        ("Code", _join(revisions)),
        ("Command", _join({" ".join(record["argv"]) for record in records}, most=3)),
        ("Machine", _join(machines)),
        ("Python", _join({record["python"] for record in records})),
        ("Packages", ", ".join(sorted(set(versions)))),
        ("Data (sha256 of the content)", _join({_fingerprint(study, part) for part in parts})),
        ("Spent", f"{spent}, shared trunks once"),
        ("Loss", _join({f"{part.title}: {part.unit}, {part.kind}" for part in parts})),
        ("N counts", _join(set(map(_params, parts)))),
        ("C counts", _join({part.flops_convention for part in parts})),
        ("Began", min((record["started_at"] for record in records), default="")),
    ]
    return [(name, value) for name, value in lines if value]


def _fingerprint(study: Study, part: Part) -> str:
    ids = set(part.runs.id)
    found = {each["data_fingerprint"] for each in study.provenance if each["id"] in ids}
    return f"{part.data}: {_join(found, by=' / ') or 'not recorded'}"


def _join(values: set[str], most: int = 8, by: str = "; ") -> str:
    ordered = sorted(values)
    more = f" (and {len(ordered) - most} more)" if len(ordered) > most else ""
    return by.join(ordered[:most]) + more
