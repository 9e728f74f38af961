"""`python -m research batch`: the critical batch size of each network of a study."""

import argparse
from typing import Any

import pandas as pd

from research.errors import UserError
from research.run import files, storage
from research.run.rows import FILE, read_rows
from research.scaling.commands.answer import add_answer_options, aligned, answer
from research.scaling.commands.options import share, within
from research.scaling.critical_batch import critical_batch
from research.scaling.table.cells import number_of
from research.scaling.table.columns import finite_numbers
from research.scaling.table.file import read_frame

EXAMPLE = """examples:
  python -m research batch runs/critical_batch --out batch.json
  python -m research batch runs/critical_batch --target 3.2 --json
  python -m research batch batches.csv

Of runs with several batches and rates, scored along their way, it says how many steps the best rate
of each batch takes to one loss, and fits steps = S (1 + B_crit / B). The gradient's noise scale is
said beside it where config.train.noise_scale was set. Units are examples. A table has a row a score
with columns size, batch, rate, seed, step and loss, perhaps part.
"""

NUMBERS = ("size", "batch", "rate", "seed", "step", "loss")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `batch`."""
    add = parser.add_argument
    add("source", metavar="FOLDER", help="a run folder, or a table of learning curves")
    loss = within("--target", number_of, lambda value: value > 0, "a loss, such as 2.5")
    add("--target", type=loss, help="the loss (default: what all batches reach)")
    add("--level", type=share("--level", 0.95), default=0.95, help="of the intervals")
    add_answer_options(parser)


def run(args: argparse.Namespace) -> int:
    """Fit, print, and write what was asked for.

    Raises:
        UserError: no such folder, no scores along its runs, or networks that cannot be fitted.
    """
    rows = _rows(args.source)
    found = {
        key: critical_batch(own, args.target, args.level)
        for key, own in rows.groupby(["part", "size"])
    }
    content, lines = [], []
    for (part, size), each in found.items():
        content.append({"part": part, "size": size, **each.to_json()})
        lines.append(f"{part}, size {size:g}, to a loss of {each.target:.4g}:".lstrip(", "))
        for name, value in (("B_crit", each.batch), ("fewest steps", each.fewest_steps)):
            lines.append(f"  {name} {value.value:.3g} [{value.low:.3g}, {value.high:.3g}]")
        if each.noise_scale is not None:
            lines.append(f"  noise scale {each.noise_scale:.3g}")
        head = ("batch", "rate", "seed", "steps")
        cells = [[f"{row[name]:.4g}" for name in head] for row in each.steps.to_dict("records")]
        lines += aligned(head, cells)
    answer(args, {"networks": content}, lines)
    return 0


def _rows(source: str) -> pd.DataFrame:
    """Scores along the runs of a folder: part, size, batch, rate, seed, step, loss and noise."""
    if not storage.is_folder(source):
        return _of_table(source)
    folder = storage.path(source)
    found: list[dict[str, Any]] = []
    for trial in files.read_runs(folder).trials:
        about = {"part": trial["part"], "size": trial["size"], "seed": trial["seed"]}
        about |= {"batch": trial["batch_size"], "rate": trial["learning_rate"]}
        for row in read_rows(folder / trial["id"] / FILE):
            noise = {
                name: row[name] for name in ("gradient_square", "gradient_noise") if name in row
            }
            if row.get("score") is not None:
                found.append({**about, "step": row["step"], "loss": row["score"], **noise})
    if not found:
        raise UserError(
            f"{folder}: no run was scored along its way (config.evaluation.every_steps)"
        )
    return pd.DataFrame(found)


def _of_table(source: str) -> pd.DataFrame:
    """The same of a table, without noise."""
    frame = read_frame(source)
    numbers = {name: finite_numbers(frame, "batch", name, source) for name in NUMBERS}
    return pd.DataFrame(numbers).assign(part=frame.get("part", pd.Series("", frame.index)))
