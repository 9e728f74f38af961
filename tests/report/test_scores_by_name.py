"""A law picks a score by name: its table, its page; what cannot be picked is refused in a line."""

import numpy as np
import pytest

from research.__main__ import main
from research.errors import UserError
from research.scaling.table import read_runs
from tests.scaling.planted import losses, result, valleys, write_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs with three scores, one of them better when it is higher, and a part with one."""
    params, data = valleys()
    rows = []
    budgets = np.repeat(np.logspace(17, 21, 5), 7)
    for row in zip(np.round(params), data, losses(params, data), budgets, strict=True):
        content = result(*row)
        main = {**content["score"], "better": "lower"}
        distance = {**main, "value": 10 * main["value"], "unit": "distance", "kind": "estimate"}
        scores = {"bits": main, "distance": distance, "accuracy": {**main, "better": "higher"}}
        rows.append({**content, "scores": scores, "floor": {"value": 0.1}})
    rows.append(result(1e7, 1e9, 3.0, 1e17, part="old"))
    return write_study(tmp_path_factory.mktemp("scores") / "study", rows)


def test_a_score_by_its_name_is_the_loss_of_the_table(folder):
    main, distance = read_runs(folder), read_runs(folder, loss="distance")
    assert list(main) == ["text", "old"] and list(distance) == ["text"]
    np.testing.assert_array_equal(distance["text"]["L"], 10 * main["text"]["L"])
    np.testing.assert_array_equal(main["text"]["score_distance"], distance["text"]["L"])
    assert distance["text"].loss_unit == "distance" and main["text"].loss_unit == "bits/byte"
    assert (main["text"].floor, distance["text"].floor) == (0.1, None)
    assert read_runs(folder, loss="bits")["text"].floor == 0.1
    scores = {name for name in main["old"].frame if name.startswith("score_")}
    assert scores == {"score_kind"}


@pytest.mark.parametrize(
    "name, said",
    [("distanse", "did you mean 'distance'"), ("accuracy", "higher is better")],
)
def test_a_score_that_is_no_loss_is_refused(folder, name, said):
    with pytest.raises(UserError, match=said) as error:
        read_runs(folder, loss=name)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_fit_and_report_take_a_score_by_name(folder, tmp_path, capsys):
    quick = ["--bootstrap", "100", "--part", "text"]
    assert main(["fit", str(folder), "--loss", "distance", *quick]) == 0
    page = tmp_path / "page.html"
    assert main(["report", str(folder), "--loss", "distance", "--out", str(page)]) == 0
    assert "distance" in page.read_text() and "bits/byte" not in page.read_text()
