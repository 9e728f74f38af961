import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.errors import UserError
from research.scaling import forecast_ledger as ledger

VALUES = st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.integers() | st.none()
RECORDS = st.lists(
    st.dictionaries(st.text().filter(lambda k: k not in ("hash", "previous")), VALUES), max_size=4
)


def written(records):
    text, previous = "", ledger.FIRST
    for record in records:
        text += ledger.line(record, previous)
        previous = ledger.chained({**record, "previous": previous})
    return text


@given(RECORDS)
def test_what_is_written_is_read(records):
    read = ledger.parse(written(records), "it")
    assert [{k: v for k, v in r.items() if k not in ("hash", "previous")} for r in read] == records


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


@given(RECORDS.filter(len), st.data())
def test_any_other_character_is_seen(records, data):
    text = written(records)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(exclude_characters=text[at], codec="ascii"))
    changed = text[:at] + other + text[at + 1 :]
    try:
        read = ledger.parse(changed, "it")
    except UserError as error:
        assert "line" in str(error) and "\n" not in str(error)
        return
    assert read == ledger.parse(text, "it")  # only spaces between words, or another writing


def test_a_key_that_stands_twice_is_refused():
    text = written([{"loss": 1.5}])
    with pytest.raises(UserError, match="line 1 is no forecast"):
        ledger.parse(text.replace("{", '{"loss": 1.5, ', 1), "it")
