"""What chip-hours cost, by a table that a user can edit."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec

from research.errors import UserError, nearest
from research.run import record

LIST_PRICES = Path(__file__).with_name("prices.json")


@dataclass(frozen=True)
class Prices:
    """The file: {chip: price of one chip for one hour} in `currency`, as of `date`; its `path`."""

    per_chip_hour: dict[str, Annotated[float, msgspec.Meta(ge=0, lt=1e6)]]
    currency: str = ""
    date: str = ""
    source: str = ""
    path: str = ""


def load(path: str | Path = LIST_PRICES) -> Prices:
    """Read a price table; `research/dryrun/prices.json` is the one to copy and edit.

    Raises:
        UserError: when the file is missing, is not JSON, or is no such table.
    """
    try:
        return replace(record.read_json(path, Prices), path=str(path))
    except UserError as error:
        raise UserError(f"--prices: {error}; expected a table as {LIST_PRICES}") from error


def price(prices: Prices, chip: str, hours: float) -> float:
    """Money for `hours` of one `chip`.

    Raises:
        UserError: when the table has no price for it.
    """
    if chip not in prices.per_chip_hour:
        raise UserError(
            f"--prices {prices.path}: per_chip_hour has no {chip!r}"
            f"{nearest(chip, prices.per_chip_hour)}; add its price for one chip and hour"
        )
    return prices.per_chip_hour[chip] * hours
