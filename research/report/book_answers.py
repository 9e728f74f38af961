"""What the law lab says today of a study's table: numbers with intervals, or why there are none.

A study names the verbs that answer its question in `ANSWERS`, each as it is typed but for the
table: `power --loss output --over size --where "part == 'text'"`. Where it names none, the columns
of the table choose (`by_columns`).
"""

import argparse
import contextlib
import io
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from research.errors import UserError, nearest

VERBS = ("power", "compare", "transfer", "batch", "fit", "isoflop")
DATA = ("data", "tokens", "images", "D")
GROWN = ("size", "depth", "steps", "budget")  # along which a best rate may move
SIZES = ("params", "size", "N")
MOST_ARMS = 5  # of a table that does not say which matter
FEWEST_ROWS = 10  # of a law in size and data: the lab refuses fewer


@dataclass(frozen=True)
class Row:
    """A number of an answer: what it is `of`, its name, its interval, where known, and a remark."""

    of: str
    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    remark: str = ""


@dataclass(frozen=True)
class Answer:
    """One verb's answer: `command` as it may be typed, `content` its JSON, `refused` why not."""

    command: str
    verb: str
    args: argparse.Namespace | None = None
    rows: tuple[Row, ...] = ()
    refused: str = ""
    content: dict[str, Any] = field(default_factory=dict, repr=False)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise UserError(message)


def ask(words: str, table: Path) -> Answer:
    """Ask one verb of the law lab of `table`; a mistake in `words` is the answer's refusal."""
    try:
        verb, *options = shlex.split(words) or [""]
    except ValueError as error:
        return Answer(words, "", refused=f"{words!r}: {error}")
    command = f"{verb} {table} {words.strip()[len(verb) :].strip()}".strip()
    if verb not in VERBS:
        known = f"{nearest(verb, VERBS)}; expected one of {', '.join(VERBS)}"
        return Answer(command, verb, refused=f"no verb {verb!r}{known}")
    module = import_module(f"research.scaling.commands.{verb}")
    parser = _Parser(prog=verb, allow_abbrev=False, add_help=False)
    module.add_arguments(parser)
    try:
        args = parser.parse_args([str(table), *options, "--json"])
        if args.out or getattr(args, "figure", None):
            raise UserError("--out and --figure: the book writes nothing else")
        with contextlib.redirect_stdout(io.StringIO()) as said:
            with contextlib.redirect_stderr(io.StringIO()):  # what was read as what
                module.run(args)
    except UserError as error:
        return Answer(command, verb, refused=str(error))
    content = json.loads(said.getvalue())
    return Answer(command, verb, args, tuple(ROWS[verb](content)), content=content)


def by_columns(table: pd.DataFrame) -> tuple[str, ...]:
    """The verbs that the columns of `table` can answer, a verb a part; none where none can."""
    names = {str(name) for name in table}
    parts: list[Any] = [None]
    if "part" in names:
        parts = list(dict.fromkeys(table["part"]))
    found = []
    for part in parts:
        own = table if part is None else table[table["part"] == part]
        if words := _verb(own, names):
            where = "" if part is None else f' --where "part == {str(part)!r}"'
            found.append(words if words == "batch" else words + where)
    return tuple(dict.fromkeys(found))


def _verb(table: pd.DataFrame, names: set[str]) -> str:
    if {"size", "batch", "rate", "seed", "step", "loss"} <= names:
        return "batch"
    if "loss" not in names:
        return ""
    several = {str(name) for name in table if table[name].nunique() >= 3}
    grown = next((name for name in GROWN if name in several), "")
    if "rate" in several and grown:
        return f"transfer --loss loss --rate rate --over {grown}"
    size = next((name for name in SIZES if name in names), "")
    data = next((name for name in DATA if name in names), "")
    columns = f"--params {size}" * bool(size) + f" --data {data}" * bool(data)
    arms = list(dict.fromkeys(table["arm"].astype(str))) if "arm" in names else []
    flops = " --flops flops" * ("flops" in names)
    if 2 <= len(arms) <= MOST_ARMS and size and (data or flops):
        arms = shlex.quote(",".join(arms))
        return f"compare --arms {arms} {columns}{flops} --loss loss"
    if size in several and data and len(table) >= FEWEST_ROWS and len(arms) < 2:
        return f"fit {columns}{flops} --loss loss --law chinchilla"
    over = next((name for name in ("flops", *SIZES) if name in several), "")
    return f"power --loss loss --over {over}" if over else ""


def _of(each: dict[str, Any]) -> str:
    return f"{each['part']} {each['arm']}".strip()


def _number(of: str, name: str, found: dict[str, Any] | None, remark: str = "") -> Iterator[Row]:
    """The row of `{"value" or "exponent": , "low": , "high": }`, or none of None."""
    if found is not None:
        value = found.get("value", found.get("exponent"))
        yield Row(of, name, value, found["low"], found["high"], remark)


def _power(content: dict[str, Any]) -> Iterator[Row]:
    for each in content["arms"]:
        for name in each.keys() - {"part", "arm", "c"}:
            yield from _number(_of(each), f"power of {name}", each[name])


def _transfer(content: dict[str, Any]) -> Iterator[Row]:
    for each in content["arms"]:
        if each["refused"]:
            yield Row(_of(each), "best rate", None, remark=f"refused: {each['refused']}")
        name = f"best rate, power of {each['over']}"
        yield from _number(_of(each), name, each["exponent"], each["says"])


def _batch(content: dict[str, Any]) -> Iterator[Row]:
    for each in content["networks"]:
        of = f"{each['part']}, size {each['size']:g}, to {each['target']:.4g}".lstrip(", ")
        yield from _number(of, "critical batch (examples)", each["critical_batch"])


def _compare(content: dict[str, Any]) -> Iterator[Row]:
    for each in content.get("comparisons", [content]):
        of = " over ".join(each["arms"])
        if each["refused"]:
            yield Row(of, "FLOPs at equal loss", None, remark=f"refused: {each['refused']}")
            continue
        at = f"at a loss of {each['multiplier']['at_loss']:.4g}"
        yield from _number(of, "times the FLOPs at equal loss", each["multiplier"], at)
        if trend := each["trend"]:
            yield from _number(of, "its power of compute", trend, trend["says"])


def _fit(content: dict[str, Any]) -> Iterator[Row]:
    for part, each in content.get("parts", {"": content}).items():
        if each["refused"]:
            yield Row(part, each["law"], None, remark=f"refused: {each['refused']}")
            continue
        for name, value in each["parameters"].items():
            low, high = (each["intervals"] or {}).get(name) or (None, None)
            yield Row(part, name, value, low, high)


def _isoflop(content: dict[str, Any]) -> Iterator[Row]:
    if content["refused"]:
        yield Row("", "best size", None, remark=f"refused: {content['refused']}")
        return
    for name, column in (("size", "params"), ("data", "data")):
        low, high = content[f"{column}_interval"] or (None, None)
        yield Row("", f"best {name}, power of C", content[f"{column}_exponent"], low, high)


ROWS = {
    "power": _power,
    "compare": _compare,
    "transfer": _transfer,
    "batch": _batch,
    "fit": _fit,
    "isoflop": _isoflop,
}
