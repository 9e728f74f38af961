"""The rows of metrics.jsonl on the dashboards people have: TensorBoard always, W&B if asked for.

metrics.jsonl stays the truth. The event file is made of its rows alone, so a run that goes on
writes it anew up to where it goes on from, and no point is there twice. It lies in the run's
folder under one name: `tensorboard --logdir runs/STUDY` names the curves as trials are named.

Weights & Biases takes part when its package is installed and either WANDB_MODE says so (online,
offline, shared) or one is logged in; WANDB_MODE=disabled leaves it out. A run goes on under the
id it had. Whatever goes wrong there is one warning, and the training goes on.
"""

import contextlib
import importlib
import importlib.util
import logging
import netrc
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from research import config as configs
from research import processes
from research.run.storage import Appending

FILE = "events.out.tfevents.metrics"  # TensorBoard knows its files by "tfevents"
PLACE = ("step", "amount", "flops", "seconds")  # columns that say where a row is: no curve
WAIT_SECONDS = 20  # for W&B's servers, at a run's start and at its end
log = logging.getLogger("research")

Row = dict[str, Any]


class Dashboards:
    """Draws the rows of one run, wherever they are drawn; in the first process alone.

    Args:
        labels: {"study", "part", "arm", "id"} as for result.json.
        unit: of "amount" in the rows, "tokens" or "images".
        began: when the run was first taken up, in seconds since 1970.
        rows: what the run goes on from.
    """

    def __init__(
        self,
        folder: Path,
        config: ConfigDict,
        labels: dict[str, Any],
        unit: str,
        began: float,
        rows: Sequence[Row],
    ):
        self.unit, self.before, self.drawing = unit, None, []
        if processes.first():
            self.drawing.append(TensorBoard(folder / FILE, began))
            if wandb_wanted():
                self.drawing.append(WeightsAndBiases(folder, config, labels, began))
        for row in rows:
            self.row(row)

    def row(self, row: Row) -> None:
        """Draw a row of metrics.jsonl, newer than the ones before."""
        curves, self.before = scalars(row, self.before, self.unit), row
        for each in self.drawing:
            each.draw(curves, row)

    def done(self, result: dict[str, Any]) -> None:
        """Draw the score of a finished run at its last row; nothing is drawn after that."""
        score = result.get("score", {"value": None})
        if score["value"] is not None and self.before:
            for each in self.drawing:
                each.draw({f"score/{score['split']}": score["value"]}, self.before)
        for each in self.drawing:
            each.close()


def scalars(row: Row, before: Row | None, unit: str) -> dict[str, float]:
    """Return the curves of a row by tag: train/..., and speed/... since the row `before` it."""
    curves = {f"train/{name}": value for name, value in row.items() if name not in PLACE}
    if before and row["seconds"] > before["seconds"]:
        seconds = row["seconds"] - before["seconds"]
        curves[f"speed/{unit}_per_second"] = (row["amount"] - before["amount"]) / seconds
        curves["speed/flops_per_second"] = (row["flops"] - before["flops"]) / seconds
    return curves


class TensorBoard:
    """The event file of a run, begun anew.

    A point's time is `began` and the row's own seconds, so that TensorBoard's relative axis is
    time in the loop. Each record is written at once: a kill leaves whole ones, and at most a piece
    of the last. In a bucket the file is there at the end.
    """

    def __init__(self, path: Path, began: float):
        self.began = began
        start = Event(wall_time=began, file_version="brain.Event:2")
        self.file = Appending(path, _record(start))

    def draw(self, curves: dict[str, float], row: Row) -> None:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in curves.items()]
        time = self.began + row["seconds"]
        event = Event(wall_time=time, step=row["step"], summary=Summary(value=values))
        self.file.add(_record(event))

    def close(self) -> None:
        self.file.flush()


def _record(event: Event) -> bytes:
    """An event as the file holds it: length, its masked CRC-32C, content, its masked CRC-32C."""
    content = event.SerializeToString()
    parts = (struct.pack("<Q", len(content)), content)
    return b"".join(part + struct.pack("<I", masked_crc32c(part)) for part in parts)


def wandb_wanted() -> bool:
    """Whether Weights & Biases is installed and is either asked for or logged in to."""
    mode = os.environ.get("WANDB_MODE", "")
    if importlib.util.find_spec("wandb") is None or mode == "disabled":
        return False
    return bool(mode or os.environ.get("WANDB_API_KEY") or _in_netrc())


def _in_netrc() -> bool:
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


class WeightsAndBiases:
    """A run in the project named as the study; its id is the trial's and when it first began."""

    def __init__(self, folder: Path, config: ConfigDict, labels: dict[str, Any], began: float):
        self.folder, self.run = folder, None
        with self._no_more_than_a_warning():
            wandb = importlib.import_module("wandb")  # no requirement of ours
            waits = {"init_timeout": WAIT_SECONDS, "finish_timeout": WAIT_SECONDS}
            self.run = wandb.init(
                project=labels.get("study", "isoflop"),
                group=labels.get("part"),
                name=labels.get("id", folder.name),
                id=f"{labels.get('id', folder.name)}-{began:.0f}",
                resume="allow",
                dir=folder,
                config=configs.to_plain(config),
                settings=wandb.Settings(
                    console="off", silent=True, reinit="create_new", **waits
                ),  # for several runs may train in one process
            )

    def draw(self, curves: dict[str, float], row: Row) -> None:
        with self._no_more_than_a_warning():
            if self.run and row["step"] >= self.run.step:  # what is there already stays there
                place = {f"progress/{name}": row[name] for name in PLACE if name != "step"}
                self.run.log(curves | place, step=row["step"])

    def close(self) -> None:
        with self._no_more_than_a_warning():
            if self.run:
                self.run.finish()

    @contextlib.contextmanager
    def _no_more_than_a_warning(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            log.warning("%s: nothing more goes to Weights & Biases (%s)", self.folder, reason)
            self.run = None
