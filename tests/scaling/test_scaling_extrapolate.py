"""Extrapolating learning curves: laws, fits, combination, intervals, and the command."""

import argparse
import json

import numpy as np
import pandas as pd
import pytest

from research.errors import UserError
from research.scaling.commands import extrapolate as extrapolate_command
from research.scaling.extrapolate.combination import (
    PRIOR_DEGREES,
    PRIOR_SIZE,
    PRIOR_SPREAD,
    RIDGE,
    TABLE_SHIFT,
    Pool,
    stack,
    weights,
    widths,
)
from research.scaling.extrapolate.curves import MOST_POINTS, from_frame
from research.scaling.extrapolate.forecast import LAST_VALUE, NAMES, extrapolate


def family(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """A curve (x, y without noise, noise of log y) of one of six kinds."""
    few = kind == "few"
    x = np.geomspace(1e6, 10 ** rng.uniform(7.7, 9), rng.integers(10, 20) if few else 40)
    u = np.log(x / x[0])
    noise = 10 ** rng.uniform(-3, -2)
    if kind in ("offset", "few"):
        y = rng.uniform(0.2, 3) + rng.uniform(0.5, 4) * np.exp(-rng.uniform(0.2, 0.6) * u)
    elif kind == "broken":
        place, f = rng.uniform(0.2, 0.6) * u[-1], rng.uniform(0.2, 0.8)
        bend = (1 + np.exp((u - place) / f)) ** (-rng.uniform(0.1, 0.5) * f)
        y = np.exp(-rng.uniform(0, 0.2) * u) * bend
    elif kind == "saturating":
        odds = np.exp(rng.uniform(0.6, 1.1) * (rng.uniform(0.2, 0.5) * u[-1] - u))
        y = 0.1 + 0.85 * odds / (1 + odds)
    elif kind == "flat":
        y, noise = np.full(len(x), rng.uniform(0.3, 3)), 0.04
    else:
        peak = (u - rng.uniform(0.3, 0.6) * u[-1]) / rng.uniform(0.5, 1.5)
        y = np.exp(-0.15 * u) + rng.uniform(0.05, 0.2) * np.exp(-0.5 * peak**2)
    return x, y, noise


def table(kinds, num, seed=0, decades=0.5) -> pd.DataFrame:
    """Curves of each kind with columns kind, curve, x, y, fit; the last decades are left out."""
    rng = np.random.default_rng(seed)
    rows = []
    for kind in kinds:
        for curve in range(num):
            x, y, noise = family(kind, rng)
            y = y * np.exp(noise * rng.standard_normal(len(x)))
            rows.append(
                pd.DataFrame(
                    {"kind": kind, "curve": curve, "x": x, "y": y, "fit": x < x[-1] / 10**decades}
                )
            )
    return pd.concat(rows, ignore_index=True)


def read(frame: pd.DataFrame, curve="kind,curve"):
    return from_frame(frame, curve=curve, x="x", y="y", fit="fit")


def rmse(frame: pd.DataFrame, result) -> pd.Series:
    """Mean over curves of the RMSE of log y on the rows left out, for each kind."""
    found = result.frame()
    square = np.log(found["prediction"] / frame.loc[found.index, "y"]) ** 2
    by_curve = square.groupby([found["kind"], found["curve"]]).mean() ** 0.5
    return by_curve.groupby("kind").mean()


@pytest.mark.slow
def test_auto_beats_every_single_law_over_kinds_of_curves():
    frame = table(("offset", "broken", "saturating", "flat", "bump", "few"), 12)
    curves = read(frame)
    auto = rmse(frame, extrapolate(curves))
    for name in NAMES:
        single = rmse(frame, extrapolate(curves, name))
        # Nowhere far behind the law that happens to be right there; ahead over all kinds.
        assert np.exp(np.log(auto / single).mean()) < 0.95, name
        assert (auto < 2.0 * single + 0.002).all(), name


@pytest.mark.slow
def test_intervals_cover_nine_tenths_of_what_was_left_out():
    frame = table(("offset", "broken", "saturating", "flat"), 25, seed=1)
    result = extrapolate(read(frame))
    found = result.frame()
    truth = frame.loc[found.index, "y"]
    assert 0.84 < ((found["low"] <= truth) & (truth <= found["high"])).mean() < 0.97
    assert result.coverage is not None and 0.87 < result.coverage < 0.96
    wider = extrapolate(read(frame), level=0.99)
    assert (wider.high / wider.low > result.high / result.low).mean() > 0.99


def test_where_nothing_moves_the_last_value_wins_and_is_said_to():
    x = np.geomspace(1e6, 1e9, 30)
    rows = []
    for curve in range(10):
        # A walk: the best forecast of each point is the one before it, up or down.
        steps = np.random.default_rng(curve).normal(0, 0.05, len(x))
        y = np.exp(np.cumsum(steps))
        rows.append(pd.DataFrame({"kind": "walk", "curve": curve, "x": x, "y": y, "fit": x < 2e8}))
    frame = pd.concat([*rows, table(("offset",), 10)], ignore_index=True)
    result = extrapolate(read(frame))
    assert result.last_value_wins == ("walk",)
    assert "no single law beats the last value in: walk" in "\n".join(
        extrapolate_command.lines(result)
    )


def test_predictions_do_not_depend_on_units_or_row_order():
    frame = table(("offset", "saturating"), 4)
    plain = extrapolate(read(frame)).frame()
    shuffled = frame.sample(frac=1, random_state=0)
    moved = extrapolate(read(shuffled.assign(x=shuffled["x"] * 1e3, y=shuffled["y"] * 7))).frame()
    both = plain.merge(moved.assign(x=moved["x"] / 1e3), on=["kind", "curve", "fit"])
    both = both[np.isclose(both["x_x"], both["x_y"], rtol=1e-9)]
    assert len(both) == len(plain)
    for column in ("prediction", "low", "high"):
        np.testing.assert_allclose(both[column + "_y"], 7 * both[column + "_x"], rtol=1e-4)


def test_the_rows_to_predict_keep_their_y_unread(tmp_path):
    frame = table(("offset", "flat"), 3)
    expected = extrapolate(read(frame)).prediction
    for hidden in (np.nan, -1.0, "later"):
        other = frame.assign(y=frame["y"].astype(object).where(frame["fit"], hidden))
        np.testing.assert_array_equal(extrapolate(read(other)).prediction, expected)


def test_curves_of_one_or_two_points_get_their_last_value_and_a_wide_interval():
    frame = table(("offset",), 8)
    short = (frame["curve"] == 0) & frame["fit"]
    kept = frame[~short | (frame.groupby("curve").cumcount() < 2)]
    result = extrapolate(read(kept))
    found = result.frame()
    mine = found[found["curve"] == 0]
    assert (mine["law"] == LAST_VALUE).all()
    np.testing.assert_allclose(mine["prediction"], frame["y"][1], rtol=1e-12)
    width = np.log(found["high"] / found["low"])
    assert width[mine.index].min() > 10 * width.drop(mine.index).median()
    assert any("under 3 fitted points" in note for note in result.notes)
    alone = extrapolate(read(kept[kept["curve"] == 0]))
    assert any("not calibrated" in note for note in alone.notes) and alone.coverage is None
    np.testing.assert_allclose(alone.high / alone.low, 4.0, rtol=1e-12)


@pytest.mark.parametrize("law", ["auto", *NAMES])
@pytest.mark.parametrize("rows", [3, 4, 5, 6])
def test_the_shortest_curves_are_predicted_by_every_law(law, rows):
    x = np.geomspace(1e6, 1e8, rows + 3)
    frame = pd.DataFrame({"kind": 0, "curve": 0, "x": x, "y": 1 + x**-0.1, "fit": x <= x[rows - 1]})
    result = extrapolate(read(frame), law)
    assert (0 < result.low).all() and (result.low < result.prediction).all()
    assert (result.prediction < result.high).all() and np.isfinite(result.high).all()
    assert (result.prediction > 0.3 * frame["y"].iloc[-1]).all()


def test_long_curves_are_averaged_into_bins_and_keep_the_scatter_of_a_row():
    rng = np.random.default_rng(0)
    x = np.linspace(1e5, 1e8, 20_000)
    y = (1 + 50 * x**-0.3) * np.exp(0.03 * rng.standard_normal(len(x)))
    frame = pd.DataFrame({"kind": 0, "curve": 0, "x": x, "y": y, "fit": x < 5e7})
    curves = read(frame)
    assert len(curves.x) <= MOST_POINTS and curves.scatter == pytest.approx([0.03], rel=0.05)
    result = extrapolate(curves)
    truth = y[x >= 5e7]
    assert 0.9 < ((result.low <= truth) & (truth <= result.high)).mean() < 0.99


def test_points_before_training_are_left_out():
    frame = table(("offset", "flat"), 3)
    first = frame.groupby(["kind", "curve"], as_index=False).first().assign(x=0, y=9.0)
    expected = extrapolate(read(frame)).prediction
    for fitted in (True, False):
        whole = pd.concat([first.assign(fit=fitted), frame], ignore_index=True)
        result = extrapolate(read(whole))
        np.testing.assert_array_equal(result.prediction, expected)
    assert "6 fitted rows have x 0" in read(pd.concat([first, frame])).notes[0]


def test_means_are_shrunk_from_curve_to_group_to_table_without_the_backtest_itself():
    curve = np.array([0, 1, 0, 0, 1])
    backtest = np.array([False, False, True, True, True])
    pool = Pool(curve, np.array([0.0, 0.0, 1.0, 0.5, 1.0]), backtest, np.array([0, 1]))
    values = np.array([[0.0], [0.0], [3.0], [6.0], [9.0]])
    means = np.array([(3 + 2 * 6) / 3, 9])  # weights 1/h
    group = (means + 3 * means.mean()) / 4
    expected = [
        (2 * means[0] + 8 * group[0]) / 10,
        (1 * means[1] + 8 * group[1]) / 9,
        (1 * 6 + 8 * group[0]) / 9,
        (1 * 3 + 8 * group[0]) / 9,
        group[1],
    ]
    np.testing.assert_allclose(pool.shrunk(values, 8.0)[:, 0], expected, rtol=1e-12)


def test_stacking_sees_errors_that_cancel():
    rng = np.random.default_rng(0)
    num = 40
    up = rng.normal(0.1, 0.02, (num, 1, 6))
    backtest = np.arange(num) > 0
    pool = Pool(np.zeros(num, int), np.ones(num), backtest, np.zeros(1, int))

    def found(second):
        errors = np.concatenate([up, second, 0.9 * up], 1)
        errors[0] = np.nan
        return weights(errors, np.full(num, 1e-3), pool)[0]

    # By its own size of error the second law is worth the same either way.
    assert found(-up)[1] > found(up)[1] + 0.05 and found(up)[0] == pytest.approx(found(up)[1])
    np.testing.assert_allclose(found(-up).sum(), 1, rtol=1e-12)
    none = Pool(np.zeros(1, int), np.ones(1), np.zeros(1, bool), np.zeros(1, int))
    equal = weights(np.full((1, 3, 6), np.nan), np.ones(1), none)
    np.testing.assert_allclose(equal, 1 / 3, rtol=1e-12)


def test_stacking_weights_are_a_minimum():
    cancel = np.array([1.0, -1.0, 0.9])
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(20, 9, 4))
    for products in (np.outer(cancel, cancel)[None] / 0.81, factors @ factors.transpose(0, 2, 1)):
        found = stack(products)
        matrix = products + RIDGE * np.eye(products.shape[1])
        slope = (matrix @ found[..., None])[..., 0]
        # The gap bounds how far above the minimum it is.
        value = (found * slope).sum(1)
        assert ((value - slope.min(1)) < 0.02 * value).all()


def pool_of(num, tests=1) -> Pool:
    """`num` curves of one group: their forecasts, then `tests` backtests of each."""
    curve = np.concatenate([np.arange(num), np.repeat(np.arange(num), tests)])
    return Pool(curve, np.ones(len(curve)), np.arange(len(curve)) >= num, np.zeros(num, int))


def with_forecasts(ratios, num):
    return np.concatenate([np.full((num, ratios.shape[1]), np.nan), ratios])


def test_widths_hold_what_comes_after_backtests_that_are_off_by_a_common_factor():
    rng = np.random.default_rng(0)
    num = 400
    ratios = with_forecasts(np.abs(rng.standard_normal((num, 10))), num)
    for level in (0.5, 0.9):
        found = widths(ratios, pool_of(num), level)
        shift = np.exp(TABLE_SHIFT * np.sqrt(1.5) * rng.integers(-1, 2, (num, 500)))
        held = np.abs(rng.standard_normal((num, 500))) * shift < found[:, None]
        assert held.mean() == pytest.approx(level, abs=0.02)


def test_a_curve_of_large_errors_gets_wider_and_the_table_of_many_its_own_width():
    num = 300
    ratios = np.abs(np.random.default_rng(0).standard_normal((num, 10)))
    ratios[7] *= 5
    found = widths(with_forecasts(ratios, num), pool_of(num), 0.9)
    assert found[7] > 1.05 * np.median(found)
    larger = widths(with_forecasts(8 * ratios, num), pool_of(num), 0.9)
    assert np.median(larger / found) == pytest.approx(8, rel=0.06)


def test_a_few_curves_are_believed_little_and_none_have_the_width_of_other_tables():
    def found(scale, num):
        ratios = scale * np.abs(np.random.default_rng(0).standard_normal((num, 4)))
        return np.exp(np.log(widths(with_forecasts(ratios, num), pool_of(num), 0.9)).mean())

    assert found(0.3, 2) > 1.7 * found(0.3, 300) and found(5.0, 2) < 0.8 * found(5.0, 300)
    nothing, none = np.full((1, 10), np.nan), pool_of(1, tests=0)
    draws = np.random.default_rng(1).standard_t(PRIOR_DEGREES, 40_000) / PRIOR_SPREAD * PRIOR_SIZE
    draws *= np.exp(TABLE_SHIFT * np.random.default_rng(2).standard_normal(len(draws)))
    for level in (0.5, 0.9):
        expected = np.quantile(np.abs(draws), level)
        assert widths(nothing, none, level) == pytest.approx(expected, rel=0.05)


def run(*arguments) -> int:
    parser = argparse.ArgumentParser()
    extrapolate_command.add_arguments(parser)
    return extrapolate_command.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def csv(tmp_path):
    frame = table(("offset", "flat"), 3).rename(columns={"x": "Seen Examples", "y": "Loss"})
    frame.assign(fit=frame["fit"].astype(int)).to_csv(tmp_path / "curves.csv", index=False)
    return tmp_path / "curves.csv"


OPTIONS = {
    "--curve": "kind,curve",
    "--x": "Seen Examples",
    "--y": "Loss",
    "--fit": "fit == 1",
}


def words(**changed):
    options = {**OPTIONS, **{"--" + key: value for key, value in changed.items()}}
    return [word for pair in options.items() for word in pair]


def test_the_command_writes_every_row_outside_fit_with_its_columns(csv, capsys):
    out = csv.parent / "predictions.csv"
    assert run(csv, *words(), "--out", out) == 0
    printed = capsys.readouterr().out
    assert "RMSE of log y" in printed and "last_value" in printed and str(out) in printed
    frame, found = pd.read_csv(csv), pd.read_csv(out)
    rest = frame[frame["fit"] == 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(found[list(frame.columns)], rest)
    assert list(found.columns[-4:]) == ["prediction", "low", "high", "law"]
    assert set(found["law"]) <= set(NAMES)
    assert run(csv, *words(), "--law", "m2", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert set(content["laws"]) == set(NAMES) and content["rows"] == len(rest)
    assert set(content["weights"]["offset, 0"]) == {"m2"}


def test_parquet_is_read_too(csv, capsys):
    pd.read_csv(csv).to_parquet(csv.with_suffix(".parquet"))
    assert run(csv.with_suffix(".parquet"), *words()) == 0


BAD = {
    "misspelt x": (words(x="Seen Example"), "--x: no column 'Seen Example'.*mean 'Seen Examples'"),
    "misspelt key": (words(curve="kind,curv"), "--curve: no column 'curv'.*mean 'curve'"),
    "no key": (words(curve=" , "), "--curve is empty"),
    "misspelt fit": (words(fit="fitt == 1"), "--fit: no column 'fitt'.*mean 'fit'"),
    "no truth": (words(fit="fit + 1"), "--fit: 'fit . 1' is not true or false"),
    "no expression": (words(fit="fit =="), "--fit: cannot evaluate"),
    "nothing": (words(fit="fit == 7"), "--fit: 'fit == 7' holds for no row"),
    "everything": (words(fit="fit < 7"), "--fit: 'fit < 7' holds for every row"),
    "nothing beyond": (words(fit="fit == 0"), "leaves out no row beyond the last fitted"),
    "nothing taken": ([*words(), "--where", "curve > 7"], "no rows where curve > 7"),
    "misspelt where": ([*words(), "--where", "curv > 7"], "--where: no column 'curv'"),
    "one curve": (words(fit="curve == 1"), "holds for no row of curve 'offset, 0'"),
    "no law": ([*words(), "--law", "m5"], "--law: no law 'm5'.*one of last_value, m1"),
    "level": ([*words(), "--level", "90"], "--level 90: expected a share between 0 and 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_get_one_line_and_write_nothing(csv, case):
    arguments, message = BAD[case]
    out = csv.parent / "predictions.csv"
    with pytest.raises(UserError, match=message) as caught:
        run(csv, *arguments, "--out", out)
    assert "\n" not in str(caught.value) and not out.exists()


VALUES = {
    "zero loss": ("Loss", 2, 0.0, r"'Loss' is not positive in row 3 \('0.0'\)"),
    "negative x": ("Seen Examples", 60, -1.0, r"'Seen Examples' is not positive in row 61"),
    "a word": ("Loss", 4, "n/o", r"'Loss' is not a number in row 5 \('n/o'\)"),
    "no loss": ("Loss", 5, np.nan, r"'Loss' is missing \(NaN\) in row 6"),
    "infinite": ("Loss", 5, np.inf, r"'Loss' is infinite in row 6"),
    "no key": ("kind", 7, np.nan, r"'kind' is missing \(NaN\) in row 8"),
}


@pytest.mark.parametrize("case", VALUES)
def test_bad_values_are_named_by_column_and_row(csv, case):
    column, row, value, message = VALUES[case]
    frame = pd.read_csv(csv).astype({column: object})
    frame.loc[row, column] = value
    frame.to_csv(csv, index=False)
    with pytest.raises(UserError, match=message):
        run(csv, *words())


def test_files_that_are_no_table(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("kind,curve,Seen Examples,Loss,fit\n")
    (tmp_path / "false.parquet").write_text("kind")
    for name, message in (
        ("none.csv", "no such file"),
        ("empty.csv", "the file is empty"),
        ("header.csv", "no rows"),
        ("false.parquet", "not a Parquet file"),
    ):
        with pytest.raises(UserError, match=message):
            run(tmp_path / name, *words())


def test_results_do_not_cover_a_column_of_the_table(csv):
    pd.read_csv(csv).assign(low=1).to_csv(csv, index=False)
    with pytest.raises(UserError, match="column 'low' is there already"):
        run(csv, *words())
