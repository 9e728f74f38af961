import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.errors import UserError
from research.scaling import forecast_ledger as ledger

VALUES = st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.integers() | st.none()
RECORDS = st.lists(st.dictionaries(st.text().filter(lambda k: k != "hash"), VALUES), max_size=4)


def written(records):
    text, previous = "", ledger.FIRST
    for record in records:
        text += ledger.line(record, previous)
        previous = ledger.chained(record, previous)
    return text


@given(RECORDS)
def test_what_is_written_is_read(records):
    read = ledger.parse(written(records), "it")
    assert [{k: v for k, v in r.items() if k != "hash"} for r in read] == records


@pytest.mark.parametrize("change", ["edited", "deleted", "swapped"])
def test_a_changed_past_is_seen(change):
    lines = written([{"loss": 1.5}, {"loss": 2.5}, {"loss": 3.5}]).splitlines(keepends=True)
    if change == "edited":
        lines[0] = lines[0].replace("1.5", "1.4")
    elif change == "deleted":
        del lines[1]
    else:
        lines[0], lines[1] = lines[1], lines[0]
    with pytest.raises(UserError, match="breaks the chain"):
        ledger.parse("".join(lines), "it")


@given(st.text(min_size=1))
def test_other_text_is_refused_in_one_line(text):
    with pytest.raises(UserError, match="line 1 "):
        ledger.parse(text, "it")
