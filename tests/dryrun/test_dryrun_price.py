"""Price tables: the one that ships, and what a mistake in a user's own is told."""

import json

import pytest

from research.dryrun import price
from research.errors import UserError
from research.hardware import CHIPS


def test_the_table_that_ships_prices_every_chip_and_says_when_and_where():
    table = price.load()
    assert set(table.per_chip_hour) == set(CHIPS)
    assert table.currency == "USD" and table.date and "list prices" in table.source
    assert price.price(table, "v5e", 10.0) == 10 * table.per_chip_hour["v5e"]


@pytest.mark.parametrize(
    "content, said",
    [
        ([], "expected"),
        ({"v5e": 1.2}, "per_chip_hour"),
        ({"per_chip_hour": {"v5e": "cheap"}}, 'per_chip_hour.v5e: expected a number, got "cheap"'),
        ({"per_chip_hour": {"v5e": -1}}, "per_chip_hour.v5e: expected a number >= 0.0, got -1"),
        ({"per_chip_hour": {"v5e": True}}, "per_chip_hour.v5e: expected a number, got true"),
        ({"per_chip_hour": {"v5": 1.2}}, "no 'v5e' (did you mean 'v5'?)"),
    ],
)
def test_a_table_that_is_none(tmp_path, content, said):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        price.price(price.load(path), "v5e", 1.0)
    assert said in str(caught.value) and str(path) in str(caught.value)
