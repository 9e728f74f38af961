"""Scores of the runs of a sweep, each at every combination of some keys of config.sampling.

A row is a run and one combination: what it is, the FLOPs it was trained with, those that draw one
sample where its family says how often that calls the network, and the scores with their intervals.
Rows that a table has already are kept, so that a scan which was stopped goes on.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from research import cost, data, defaults, evaluation, families, trained
from research.errors import UserError, nearest
from research.run import files, record, storage
from research.run.files import Trial

COLUMNS = ("arm", "size", "budget", "seed")  # of a run, beside its id, part, params, data and FLOPs


def scan(
    folder: Path,
    names: tuple[str, ...],
    over: Mapping[str, Sequence[str]],
    part: str = "",
    out: str | None = None,
    features: str = "",
) -> Iterator[pd.DataFrame]:
    """Score every run of the sweep in `folder`; yield the table each time that it has grown.

    Args:
        names: of evaluators.
        over: values of each key of config.sampling, as flags say them.
        part: of the sweep; all by default.
        out: a .csv that holds what was found before, and is written at each row.
        features: by which images are judged; as in each run's config by default.

    Raises:
        UserError: when there is no such run, key or evaluator, or `out` has other columns.
    """
    combinations = [
        dict(zip(over, each, strict=True)) for each in itertools.product(*over.values())
    ]
    asked = [  # what cannot be is said before anything is drawn
        (trial, [(e, _config(folder / trial["id"], names, features, e)) for e in combinations])
        for trial in _chosen(folder, part)
    ]
    table = _former(out, over)
    for trial, configs in asked:
        params = None
        for settings, config in configs:
            if _there(table, trial, settings):
                continue
            params = trained.load(folder / trial["id"])[1] if params is None else params
            row = _about(trial, config) | settings | _values(evaluation.scores(config, params))
            table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
            if out:
                record.write_text(out, table.to_csv(index=False, float_format="%.6g"))
            yield table
    yield table


def _chosen(folder: Path, part: str) -> list[Trial]:
    files.read_description(folder)
    trials = [each for each in files.read_runs(folder).trials if each["status"] == "finished"]
    parts = sorted({each["part"] for each in trials})
    if part and part not in parts:
        raise UserError(f"--part {part}: {folder} has no such part{nearest(part, parts)}")
    if not trials:
        raise UserError(f"{folder} has no run that has ended; run the sweep first")
    return [each for each in trials if part in ("", each["part"])]


def _config(run: Path, names: tuple[str, ...], features: str, settings: Mapping[str, str]) -> Any:
    """The config of a run with these settings, checked."""
    config = trained.settings(run)
    evaluation.ask(config, names, features)
    defaults.override(config, [f"--config.sampling.{key}={text}" for key, text in settings.items()])
    spec = data.outline(config.data)
    families.check(config, spec)
    evaluation.check(config, spec)
    return config


def _former(out: str | None, over: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    if not out or not storage.path(out).exists():
        return pd.DataFrame()
    table = pd.read_csv(out, dtype=dict.fromkeys(("id", *over), str), keep_default_na=False)
    if lacking := [key for key in ("id", *over) if key not in table]:
        raise UserError(f"--out {out} is another table: it has no column {lacking[0]!r}")
    return table


def _there(table: pd.DataFrame, trial: Trial, settings: Mapping[str, str]) -> bool:
    if table.empty:
        return False
    same = table["id"] == trial["id"]
    for key, text in settings.items():
        same &= table[key] == text
    return bool(same.any())


def _about(trial: Trial, config: Any) -> dict[str, Any]:
    """What a row says of its run."""
    row: dict[str, Any] = {"id": trial["id"], "part": trial["part"]}
    row |= {name: value for name in COLUMNS if (value := trial.get(name)) is not None}
    row |= {"params": files.counted(trial)[1], "data": trial["data"]["amount"]}
    row |= {"flops": trial["flops"], "loss": files.loss(trial)}
    family = families.load(config.family)
    if hasattr(family, "network_calls"):
        row["sample_flops"] = family.network_calls(config) * cost.ledger(config).flops
    return row


def _values(scores: evaluation.Scores) -> dict[str, float]:
    found = {}
    for name, score in scores.items():
        found[name] = score["value"]
        for end, bound in zip(("low", "high"), score.get("interval", ()), strict=False):
            found[f"{name}_{end}"] = bound
    return found
