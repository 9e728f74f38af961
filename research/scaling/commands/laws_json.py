"""The options by which verbs that predict name a fitted law, and what is asked of it."""

import argparse
import re
from typing import Any

from research.errors import UserError, nearest
from research.run.record import read_json

LARGEST = 1e45  # of parameters, tokens or FLOPs: nothing that is asked for is larger
SHORT = re.compile(r"(\d*\.?\d+)\s*([KMBGT])", re.IGNORECASE)
POWERS = {"k": 3, "m": 6, "b": 9, "g": 9, "t": 12}


def add_law_options(parser: argparse.ArgumentParser, does: str) -> None:
    """Declare LAWS.json, whose law it holds, the law's variables and --anyway."""
    add = parser.add_argument
    add("laws", metavar="LAWS.json", help="what `fit --out` wrote")
    add("--law", metavar="FILE.py", help="the file of the law, where it is your own")
    add(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="the law's other variables"
    )
    add("--part", help="the part of a study's laws.json (default: its first)")
    add("--anyway", action="store_true", help=f"{does} even where check 13 says not to extrapolate")


def law_content(args: argparse.Namespace) -> Any:
    """The JSON of the law that `args` name: the file's own, or that of a part.

    Raises:
        UserError: a file that cannot be read, or a part it has not.
    """
    content = read_json(args.laws)
    if args.part is None:
        return content
    parts = content.get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, dict) or args.part not in parts:
        known = f"it has {', '.join(parts)}" if isinstance(parts, dict) else "it has none"
        near = nearest(args.part, parts) if isinstance(parts, dict) else ""
        raise UserError(f"--part: no part {args.part!r} in {args.laws}{near}; {known}")
    return parts[args.part]


def own_law(args: argparse.Namespace) -> Any:
    """The law that --law names, or None: no other file is ever run.

    Raises:
        UserError: there is no such law.
    """
    from research.scaling import laws

    return laws.get(args.law) if args.law else None


def amount(option: str, text: str) -> float:
    """The positive number that `text` says: 163e6, or 163M.

    Raises:
        UserError: it is none, or past what anybody trains.
    """
    short = SHORT.fullmatch(text.strip())
    try:
        value = float(short[1]) * 10.0 ** POWERS[short[2].lower()] if short else float(text)
    except ValueError as error:
        raise UserError(f"{option} {text!r}: expected a number, such as 1e21") from error
    if value > LARGEST:
        raise UserError(f"{option} {text}: expected at most {LARGEST:g}")
    if not 0 < value:
        raise UserError(f"{option} {text}: expected a positive number, such as 1e21")
    return value


def assignments(words: list[str]) -> dict[str, float]:
    """Name -> value, as --set gives them.

    Raises:
        UserError: a word that is not NAME=NUMBER, or a name given twice.
    """
    found: dict[str, float] = {}
    for word in words:
        name, _, value = word.partition("=")
        name = name.strip()
        try:
            number = float(value)
        except ValueError as error:
            raise UserError(
                f"--set {word!r}: expected NAME=VALUE, such as granularity=8"
            ) from error
        if not abs(number) <= LARGEST:
            raise UserError(f"--set {word!r}: expected a number of at most {LARGEST:g}")
        if name in found:
            raise UserError(f"--set {word!r}: {name} is given twice")
        found[name] = number
    return found
