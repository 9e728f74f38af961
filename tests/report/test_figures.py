"""Axes with round ticks, specs that hold to the schema, words that say their numbers."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from research.numbers import power_of_ten
from research.report import chapters, figures, grammar, words
from research.report.findings import Drop, Quantity, find
from research.report.load import read_study
from tests.report.synthetic import PARTS, write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_study(folder, parts=(PARTS[2],))
    return read_study(folder)


@pytest.fixture(scope="module")
def found(study):
    return find(study)["markov"]


def test_figures_hold_to_the_schema(study, found):
    (part,) = study.parts
    titles = part.titles
    # to_dict validates every channel and mark against Vega-Lite's schema.
    chapters.loss_chart(part, found, 300).to_dict()
    chapters.headline([chapters.Chapter(part, found, [])] * 2).to_dict()
    figures.isoflop(titles, found.runs, found.parabolas, found.minima).to_dict()
    figures.residuals(titles, found.residuals, "D").to_dict()
    figures.learning_curves(titles, part.curves).to_dict()
    figures.floor_gap(titles, found.runs, 2.0, part.unit).to_dict()
    figures.optimum(titles, found.minima, found.size_law, "N").to_dict()


def test_the_gap_is_above_the_floor(study, found):
    (part,) = study.parts
    floor = part.floor["value"]
    chart = figures.floor_gap(part.titles, found.runs, floor, part.unit)
    (rows,) = chart.to_dict()["datasets"].values()
    assert len(rows) == len(part.runs)
    assert all(row["gap"] == row["loss"] - floor > 0 for row in rows)


def test_one_run_and_no_run_still_draw(study, found):
    (part,) = study.parts
    for runs in (found.runs[:1], found.runs[:0]):
        few = {"runs": runs, "frontier": runs[["C", "loss"]]}
        few = replace(found, **few, law=found.law[:0], held_out=found.held_out[:0])
        chart = figures.loss_against_compute(part.titles, few, part.curves[:0], None)
        assert chart.to_dict()["layer"]


@pytest.mark.parametrize(
    ("domain", "ticks"),
    [
        ([8e9, 2e12], [1e10, 3e10, 1e11, 3e11, 1e12]),
        ([9e2, 2e7], [1e3, 1e4, 1e5, 1e6, 1e7]),
        ([2.2, 4.7], [2.5, 3.0, 3.5, 4.0, 4.5]),
        ([2.301, 2.349], [2.31, 2.32, 2.33, 2.34]),
    ],
)
def test_log_ticks(domain, ticks):
    assert grammar.log_ticks(domain) == ticks


@pytest.mark.parametrize("low", [1e-3, 0.7, 2.2, 3e9])
@pytest.mark.parametrize("ratio", [1.01, 1.3, 2.9, 3.1, 10, 1e3, 1e6])
def test_log_ticks_are_few_and_inside(low, ratio):
    ticks = grammar.log_ticks([low, low * ratio])
    assert 3 <= len(ticks) <= 9
    assert all(low <= tick <= low * ratio for tick in ticks)


def test_loss_axis_is_linear_where_a_log_is_not():
    assert grammar.loss([1.0, 2.0], "loss", "")["scale"]["type"] == "log"
    assert grammar.loss([-0.4, 2.0], "loss", "")["scale"]["type"] == "linear"
    assert grammar.loss([math.nan, 2.0, 3.0], "loss", "")["scale"]["domain"][0] > 1.9


def test_powers_of_ten():
    assert power_of_ten(1e12) == "10¹²"
    assert power_of_ten(3e9) == "3×10⁹"
    assert power_of_ten(2.5e-4) == "2.5×10⁻⁴"


def test_sentences_carry_their_intervals():
    drop = Drop(start=1e11, before=3.0, after=2.4, share=0.2, low=0.19, high=0.213)
    said = words.said("drop_sentence", drop, "bits/byte", True)
    assert "by 20.0% [19.0%, 21.3%], from 3 to 2.4 bits/byte" in said
    assert "%" not in words.said("drop_sentence", drop, "bits/dim", False)
    exponent = Quantity("isoFLOP minima", "a", 0.52, 0.4, 0.6)
    grown = words.said("growth_sentence", "parameters", exponent)
    assert grown == "Optimal parameters grow as C^0.52 [0.4, 0.6] (by isoFLOP minima)."
    bare = words.said("growth_sentence", "images", Quantity("", "b", 0.5))
    assert bare == "Optimal images grow as C^0.5."
    run = {"predicted": 2.31, "low": 2.30, "high": 2.33, "loss": 2.29, "budget": 3e12}
    said = words.said("prediction_sentence", run, "bits/byte", True)
    assert "predicted 2.31 [2.3, 2.33] bits/byte and 2.29 was measured" in said
    assert "error 0.87%; the measurement lies outside the interval" in said
    said = words.said("prediction_sentence", run, "bits/byte", False)
    assert "error 0.02 bits/byte;" in said


def test_size_order_is_by_parameters():
    table = pd.DataFrame({"size": ["12k", "1.2M", "101k"], "N": [12e3, 1.2e6, 101e3]})
    assert figures.size_order(table) == ["12k", "101k", "1.2M"]
