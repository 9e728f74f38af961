"""What chip-hours cost, by a table that a user can edit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research.errors import UserError, nearest
from research.run import record

LIST_PRICES = Path(__file__).with_name("prices.json")


@dataclass(frozen=True)
class Prices:
    """A price table: {chip: price of one chip for one hour}, in `currency`, as of `date`."""

    path: Path
    currency: str
    date: str
    source: str
    per_chip_hour: dict[str, float]


def load(path: str | Path = LIST_PRICES) -> Prices:
    """Read a price table; `research/dryrun/prices.json` is the one to copy and edit.

    Raises:
        UserError: when the file is missing, is not JSON, or is no such table.
    """
    content = record.read_json(path)
    table = content.get("per_chip_hour") if isinstance(content, dict) else None
    if not isinstance(table, dict):
        raise UserError(
            f'--prices {path}: expected {{"currency", "date", "source", "per_chip_hour": '
            f'{{"v5e": 1.2, ...}}}}, as in {LIST_PRICES}'
        )
    for chip, price in table.items():
        if not _is_price(price):
            raise UserError(f"--prices {path}: per_chip_hour.{chip} is {price!r}, not a price")
    words = {key: str(content.get(key, "")) for key in ("currency", "date", "source")}
    return Prices(Path(path), per_chip_hour=table, **words)


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


def _is_price(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6
