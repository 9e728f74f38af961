"""Assemble the page: one self-contained HTML file that opens from disk without a network."""

import base64
import json
import math
import re
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import jinja2
import markupsafe

from research.numbers import count, gib
from research.report import export, theme
from research.report.load import Part, Study

COLUMNS = (
    # name, column of the table, format (None: text), what it means
    ("run", "id", None, "Trial, and the name of its folder"),
    ("part", "part", None, "Part of the study"),
    ("N", "N", ",.0f", "Parameters, in the convention of the part"),
    ("D", "D", ",.0f", "Data seen in training, in tokens or images"),
    ("C (FLOPs)", "C", ".3e", "Ledger FLOPs of the whole training, forward and backward"),
    ("C / 6ND", "ratio", ".3f", "Ledger FLOPs over the usual approximation"),
    ("loss", "loss", ".5g", "Validation score, in the unit beside it"),
    ("unit", "unit", None, "Unit of the loss"),
    ("kind", "kind", None, "Exact, or a bound, or an estimate"),
    ("in fit", "role", None, "Open to the fits, held out to test them, or left out"),
    ("epochs", "epochs", ".2f", "Passes over the unique data"),
    ("steps", "steps", ",.0f", "Optimiser steps"),
    ("batch", "batch_size", ",.0f", "Examples a step"),
    ("learning rate", "learning_rate", ".2e", "Peak learning rate"),
    ("seconds", "seconds", ".1f", "Wall-clock seconds of this run alone (its trunk is shared)"),
    ("GFLOP/s", "gflops_per_second", ".1f", "FLOPs this run spent over its seconds"),
    ("goodput", "goodput", ".1%", "Share of the time since it began that trained what was kept"),
    ("seed", "seed", ".0f", "Seed of the run"),
    ("flags", "flags", None, "What to know before trusting the point"),
)


@dataclass(frozen=True)
class Figure:
    """A figure on the page: the id of its box, its words, and its Vega-Lite spec."""

    name: str
    heading: str
    caption: str
    spec: dict
    height: int = 330


@dataclass(frozen=True)
class Chapter:
    """What the page says of one part of the study."""

    part: Part
    description: str
    sentences: list[str]
    refusals: list[str]
    tiles: list[dict[str, str]]
    parameters: list[dict[str, str]]
    wide: list[Figure] = field(default_factory=list)
    pair: list[Figure] = field(default_factory=list)
    outlook: list[Figure] = field(default_factory=list)
    doubts: list[Figure] = field(default_factory=list)
    residuals: list[Figure] = field(default_factory=list)
    curves: list[Figure] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)

    def figures(self) -> list[Figure]:
        """Return every figure of the chapter in the order of the page."""
        laws = [*self.wide, *self.pair, *self.doubts, *self.residuals, *self.outlook]
        return [*laws, *self.curves]


def render(
    study: Study, chapters: list[Chapter], stamp: str = "", time: Figure | None = None
) -> str:
    """Return the HTML of the report: styles, scripts, figures and images all inside it.

    `stamp` goes into its head (see stamp.py); `time` is where the time went, if that is known.
    """
    figures = [figure for chapter in chapters for figure in chapter.figures()]
    figures += [time] if time else []
    content = {
        "specs": {figure.name: export.page_spec(figure.spec) for figure in figures},
        "themes": {name: theme.config(name) for name in ("light", "dark")},
    }
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["powers"] = _powers
    template = environment.from_string(_resource("page.html.j2"))
    return template.render(
        study=study,
        stamp=stamp,
        font=_safe(theme.FONT),
        summary=_summary(study),
        provisional=_provisional(study, chapters),
        parts=[_part(chapter) for chapter in chapters],
        warnings=[row for chapter in chapters for row in chapter.warnings],
        runs_caption=_runs_caption(chapters),
        columns=[{"name": name, "text": style is None, "title": title}
                 for name, _, style, title in COLUMNS],
        time=time,
        rows=[row for chapter in chapters for row in _rows(chapter.part)],
        provenance=_provenance(study),
        javascript=_safe(export.javascript()),
        figures=_safe(_json(content)),
        script=_safe(_resource("page.js")),
    )  # fmt: skip


def _part(chapter: Chapter) -> dict[str, Any]:
    part = chapter.part
    samples = [
        {
            "id": sample.id,
            "size": f"{count(sample.params)} parameters",
            "score": f"{sample.loss:.4g} {part.unit}",
            "text": sample.text,
            "image": base64.b64encode(sample.png or b"").decode(),
        }
        for sample in part.samples
    ]
    return {
        "name": part.name,
        "title": part.title,
        "description": chapter.description,
        "sentences": chapter.sentences,
        "refusals": chapter.refusals,
        "tiles": chapter.tiles,
        "parameters": chapter.parameters,
        "wide": chapter.wide,
        "pair": chapter.pair,
        "outlook": chapter.outlook,
        "doubts": chapter.doubts,
        "residuals": chapter.residuals,
        "residual_caption": "Measured loss over the loss fitted by E + A/N^α + B/D^β, minus one. "
        "A slope or a bend here is something the law does not explain; diamonds were held out.",
        "curves": chapter.curves,
        "samples": samples,
    }


def _rows(part: Part) -> list[dict[str, Any]]:
    table = part.runs.assign(ratio=part.runs.C / part.runs.flops_6nd)
    rows = []
    for run in table.to_dict("records"):
        run["role"] = "held out" if run["held_out"] else "yes" if run["usable"] else "left out"
        cells = [_cell(run[column], style) for _, column, style, _ in COLUMNS]
        rows.append({"usable": run["usable"], "cells": cells})
    return rows


def _cell(value: Any, style: str | None) -> dict[str, Any]:
    """Return what a cell shows, and what it is sorted by (empty when there is nothing)."""
    if style is None:
        return {"text": True, "raw": value, "shown": value}
    if value is None or not math.isfinite(value):
        return {"text": False, "raw": "", "shown": "–"}
    return {"text": False, "raw": repr(float(value)), "shown": f"{value:{style}}"}


def _summary(study: Study) -> str:
    runs = sum(len(part.runs) for part in study.parts)
    flops, seconds = _totals(study)
    minutes = f", {seconds / 60:.1f} worker minutes" if seconds else ""
    return (
        f"{runs} runs, {flops:.3g} FLOPs{minutes}. "
        "Intervals are bootstrapped over runs; every number can be traced to the table below."
    )


def _totals(study: Study) -> tuple[float, float]:
    """Return the FLOPs and seconds really spent, the shared trunks counted once."""
    flops = sum(part.runs.flops_spent.sum() for part in study.parts) + study.trunk_flops
    seconds = sum(part.runs.seconds.sum() for part in study.parts) + study.trunk_seconds
    return float(flops), float(seconds)


def _provisional(study: Study, chapters: list[Chapter]) -> list[str]:
    lines = [
        f"{title}: no trial of this part has a score, so it is left out."
        for title in study.left_out
    ]
    lines += [f"Could not be read, and is left out: {reason}." for reason in study.unread]
    for chapter in chapters:
        missing = chapter.part.missing
        if missing:
            shown = ", ".join(missing[:4]) + (", …" if len(missing) > 4 else "")
            total = len(missing) + len(chapter.part.runs)
            lines.append(
                f"{chapter.part.title}: {len(missing)} of {total} trials have no result yet "
                f"({shown}). Its laws may still move."
            )
    return lines


def _runs_caption(chapters: list[Chapter]) -> str:
    parts = [chapter.part for chapter in chapters]
    params = sorted({part.params_convention.replace("_", "-") for part in parts})
    flops = sorted({part.flops_convention for part in parts})
    return (
        f"Click a column to sort by it. N counts parameters: {' / '.join(params)}. "
        f"C counts FLOPs: {' / '.join(flops)}. Struck-out runs are in no fit."
    )


DIRTY = {
    True: " with uncommitted changes",
    False: "",
    None: ", and who built its image did not say whether with changes",
}


def _provenance(study: Study) -> list[tuple[str, str]]:
    records = study.provenance
    flops, seconds = _totals(study)
    versions = sorted({f"{name} {version}" for record in records
                       for name, version in record["versions"].items()})  # fmt: skip
    machines = {
        f"{record['machine']['cpu']}, {record['machine']['cores']} cores, "
        f"{gib(record['machine']['memory_bytes'], 1)}, "
        f"devices {', '.join(map(str, record['machine']['devices']))}"
        for record in records
    }
    revisions = {
        record["git_revision"] + DIRTY[record["dirty"]]
        if record["git_revision"]
        else "not under git"
        for record in records
    }
    prints = {f"{part.data}: {_fingerprint(study, part)}" for part in study.parts}
    lines = [
        ("Code", _join(revisions)),
        ("Command", _join({" ".join(record["argv"]) for record in records}, most=3)),
        ("Machine", _join(machines)),
        ("Python", _join({record["python"] for record in records})),
        ("Packages", ", ".join(versions)),
        ("Data (sha256 of the content)", _join(prints)),
        ("Spent", f"{flops:.4g} FLOPs in {seconds / 60:.1f} worker minutes, shared trunks once"),
        ("Loss", _join({f"{part.title}: {part.unit}, {part.kind}" for part in study.parts})),
        ("N counts", _join({part.params_convention.replace("_", "-") for part in study.parts})),
        ("C counts", _join({part.flops_convention for part in study.parts})),
        ("Began", min((record["started_at"] for record in records), default="")),
    ]
    return [(name, value) for name, value in lines if value]


def _fingerprint(study: Study, part: Part) -> str:
    ids = set(part.runs.id)
    found = {r["data_fingerprint"] for r in study.provenance if r["id"] in ids}
    return " / ".join(sorted(map(str, found))) or "not recorded"


def _join(values: set[str], most: int = 8) -> str:
    ordered = sorted(values)
    more = f" (and {len(ordered) - most} more)" if len(ordered) > most else ""
    return "; ".join(ordered[:most]) + more


def _powers(text: str):
    """Return `text` escaped, with every `x^y` set as a power."""
    escaped = str(markupsafe.escape(text))
    return _safe(re.sub(r"\^([−-]?[\w.]*\w)", r"<sup>\1</sup>", escaped))


def _json(content: Any) -> str:
    """Return JSON that a browser's parser takes and that cannot end its <script> element."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _resource(name: str) -> str:
    return resources.files("research.report").joinpath(name).read_text(encoding="utf-8")


def _safe(text: str):
    """Mark our own styles and scripts as not to be escaped."""
    return markupsafe.Markup(text)
