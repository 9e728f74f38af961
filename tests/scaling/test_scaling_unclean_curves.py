"""Learning curves as people have them: spikes, bends, accuracies, repeats, warm-ups, one curve."""

import argparse

import numpy as np
import pandas as pd
import pytest

from research.errors import UserError
from research.scaling.commands import extrapolate as extrapolate_command
from research.scaling.extrapolate.curves import from_frame
from research.scaling.extrapolate.forecast import extrapolate
from research.scaling.extrapolate.spikes import find_spikes

STEPS = np.arange(1, 41) * 250.0
CLEAN = 2 + 8 * STEPS**-0.35


def curve(y=CLEAN, x=STEPS, fitted=30, noise=0.004, seed=0, **columns) -> pd.DataFrame:
    y = y * np.exp(noise * np.random.default_rng(seed).standard_normal(len(x)))
    return pd.DataFrame({"x": x, "y": y, "fit": np.arange(len(x)) < fitted, **columns})


def read(frame, **options):
    return from_frame(frame, x="x", y="y", fit="fit", **options)


def held(result, truth) -> float:
    return float(((result.low <= truth) & (truth <= result.high)).mean())


@pytest.mark.parametrize("count", [1, 3, 5])
def test_spikes_that_recover_do_not_move_the_forecast(count):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        frame = curve(seed=seed)
        places = rng.choice(np.arange(2, 29), count, replace=False)
        spiked = frame.copy()
        spiked.loc[places, "y"] *= 1 + np.exp(rng.uniform(np.log(0.05), np.log(3), count))
        clean, result = extrapolate(read(frame)), extrapolate(read(spiked))
        assert set(result.curves.set_aside) <= set(places + 1) and len(result.curves.set_aside)
        np.testing.assert_allclose(result.prediction, clean.prediction, rtol=0.01)
        assert (np.log(result.high / result.low) < 2 * np.log(clean.high / clean.low)).all()
        assert (
            "set aside: row" in result.notes[0]
            and str(result.curves.set_aside[0]) in result.notes[0]
        )


def test_spikes_of_several_points_and_near_the_end_are_found_and_the_rest_is_kept():
    u = np.log(STEPS[:30])
    for places in ([5], [28], [1], [12, 13], [12, 14], [12, 13, 14], [3, 9, 20, 28]):
        value = np.log(curve(seed=1)["y"].to_numpy()[:30])
        value[places] += 0.3
        assert np.flatnonzero(find_spikes(u, value)).tolist() == places
    for places in ([5], [28], [12, 13], [12, 13, 14], [5, 9, 20, 28]):
        value = np.log(curve(seed=1)["y"].to_numpy()[:30])
        value[places] -= 0.3
        assert np.flatnonzero(find_spikes(u, value)).tolist() == places


SHAPES = {
    "clean": lambda u: 1 + 3 * np.exp(-0.4 * u),
    "step down": lambda u: (1 + np.exp(-0.4 * u)) * np.where(u > 2.5, 0.8, 1),
    "step up": lambda u: (1 + np.exp(-0.4 * u)) * np.where(u > 2.5, 1.3, 1),
    "bump": lambda u: np.exp(-0.15 * u) + 0.2 * np.exp(-2 * (u - 2.5) ** 2),
    "last point": lambda u: (1 + np.exp(-0.4 * u)) * np.where(u == u[-1], 2, 1),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_bumps_noise_and_last_points_are_no_spikes(shape):
    u = np.linspace(0, 5, 40)
    for noise in (0, 0.003, 0.03):
        for seed in range(10):
            value = np.log(SHAPES[shape](u)) + noise * np.random.default_rng(seed).standard_normal(
                40
            )
            assert find_spikes(u, value).sum() == 0
    # Many of them are how the curve is.
    value = np.log(SHAPES["clean"](u))
    value[1:-1:3] += 0.3
    assert not find_spikes(u, value).any()


def cooling(until: float, seed=0, noise=0.003) -> pd.DataFrame:
    """A constant rate for three quarters of 60 points, then a cooldown, fitted up to `until`."""
    x = np.arange(1, 61) * 250.0
    cooled = np.clip((np.arange(1, 61) / 60 - 0.75) / 0.25, 0, 1)
    y = 2 + 8 * x**-0.35 - 0.3 * cooled
    return curve(y, x, int((cooled < until).sum()), noise, seed)


@pytest.mark.parametrize("until", [0.4, 0.6, 0.8])
def test_an_unfinished_cooldown_is_said_and_its_end_is_inside_the_interval(until):
    for seed in range(4):
        frame = cooling(until, seed)
        result = extrapolate(read(frame))
        said = [note for note in result.notes if "unfinished cooldown" in note]
        # Of one that is nearly over the laws follow the most.
        assert until > 0.7 or "'all rows'" in said[0]
        assert result.low[-1] < frame["y"].iloc[-1] < result.high[-1]


def test_a_rise_at_the_end_is_said():
    y = CLEAN * np.where(STEPS > 6000, (STEPS / 6000) ** 1.5, 1)
    result = extrapolate(read(curve(y)))
    assert any("rise at their end" in note for note in result.notes)
    assert result.low[-1] < y[-1] < result.high[-1]


def test_a_jump_in_the_last_points_is_said_and_not_set_aside():
    for places, said in (([29], True), ([28, 29], True), ([28], False), ([], False)):
        frame = curve()
        frame.loc[places, "y"] *= 1.3
        curves = read(frame)
        assert any("'all rows' ends in a jump" in note for note in curves.notes) == said
        assert len(curves.x) == (29 if places == [28] else 30)


def test_curves_that_the_laws_follow_are_not_said_to_bend():
    u = np.linspace(0, 6, 40)
    for y in (
        1 + 2 * np.exp(-0.5 * u),
        np.exp(-0.1 * u) * (1 + np.exp((u - 2) / 0.4)) ** (-0.3 * 0.4),
        0.1 + 0.85 / (1 + np.exp(0.8 * (u - 3))),
        np.exp(-0.15 * u) + 0.1 * np.exp(-0.5 * (u - 3) ** 2),
    ):
        frame = pd.concat([curve(y, np.exp(u), 32, 0.003, s, c=s) for s in range(6)])
        assert not any("at their end" in note for note in extrapolate(read(frame, curve="c")).notes)


@pytest.mark.parametrize("best", [1, 100])
def test_an_accuracy_is_extrapolated_as_what_it_lacks(best):
    error = 0.1 + 0.8 * (STEPS / 250) ** -0.5
    frame = curve(error)
    expected = extrapolate(read(frame))
    score = frame.assign(y=best * (1 - frame["y"])).rename(columns={"y": "val/acc"})
    result = extrapolate(from_frame(score, x="x", y="val/acc", fit="fit"))
    np.testing.assert_allclose(result.prediction, best * (1 - expected.prediction), rtol=1e-9)
    np.testing.assert_allclose(result.low, best * (1 - expected.high), rtol=1e-9)
    np.testing.assert_allclose(result.high, best * (1 - expected.low), rtol=1e-9)
    assert f"rises: read as a score of at most {best}" in result.notes[0]
    assert result.to_json()["best"] == best


def test_what_rises_and_is_called_a_loss_is_left_as_it_is_and_best_decides():
    frame = curve(0.3 * (STEPS / 250) ** 0.1).rename(columns={"y": "val_loss"})

    def named(best=None):
        return from_frame(frame, x="x", y="val_loss", fit="fit", best=best)

    curves = named()
    assert curves.score.best == 0 and "--best 1 says so" in curves.notes[0]
    assert named(1).score.best == 1
    assert named(0).notes == ()
    assert read(curve()).score.best == 0 and read(curve(0.1 * CLEAN)).notes == ()
    percent = frame.assign(val_loss=100 * frame["val_loss"]).rename(columns={"val_loss": "y"})
    assert "--best 100" in read(percent).notes[0]
    with pytest.raises(UserError, match="'val_loss' is 0.3.* in row 1; read as a score below 0.2"):
        named(0.2)
    with pytest.raises(UserError, match="--best -1: expected 1 or 100"):
        named(-1)


def test_rows_of_one_x_are_repeats_whose_scatter_widens_the_interval():
    seeds = [curve(noise=0.03, seed=seed, seed_number=seed) for seed in range(5)]
    frame = pd.concat(seeds, ignore_index=True)
    curves = read(frame)
    assert curves.scatter == pytest.approx([0.03], rel=0.15)
    mean = np.exp(np.mean([np.log(seed["y"][:30]) for seed in seeds], 0))
    np.testing.assert_allclose(curves.y, mean, rtol=1e-9)
    assert "150 fitted rows share their x" in curves.notes[0] and "(up to 5)" in curves.notes[0]
    result = extrapolate(curves)
    assert 0.85 <= held(result, frame.loc[~frame["fit"], "y"]) and len(result.prediction) == 50
    assert np.log(result.high / result.low).max() < 0.3
    once = pd.concat([curve(), curve()], ignore_index=True)
    np.testing.assert_allclose(
        extrapolate(read(once)).prediction[:10], extrapolate(read(curve())).prediction, rtol=1e-12
    )


def test_rows_of_several_curves_at_one_x_name_the_column_that_parts_them():
    parts = [curve(CLEAN * (1 + k), seed=k, model=f"m{k}", task="t") for k in range(3)]
    frame = pd.concat(parts, ignore_index=True)
    with pytest.raises(UserError, match="which column tells curves apart; --curve 'model'"):
        read(frame)
    assert "apart; --curve 'task,model'?" in read(frame, curve="task").notes[0]
    assert read(frame, curve="task,model").notes == ()


def test_rows_inside_the_fitted_range_are_no_predictions():
    frame = curve().assign(fit=(STEPS > 2000) & (STEPS <= 7500))
    result = extrapolate(read(frame))
    assert list(result.frame().index) == list(range(30, 40))
    assert any("8 rows before the last fitted one of their curve" in note for note in result.notes)
    np.testing.assert_array_equal(
        result.prediction, extrapolate(read(frame[8:].reset_index(drop=True))).prediction
    )


def test_where_takes_rows_and_keeps_their_numbers():
    other = curve(9 * CLEAN, split="train")
    frame = pd.concat([other, curve(split="val")], ignore_index=True)
    frame.loc[50, "y"] *= 2
    curves = read(frame, where="split == 'val'")
    assert len(curves) == 1 and curves.set_aside == (51,)
    assert list(extrapolate(curves).frame().index) == list(range(70, 80))


def test_the_command_needs_no_curve_column(tmp_path, capsys):
    frame = curve()
    frame.loc[20, "y"] *= 2
    path = tmp_path / "one.csv"
    frame.assign(fit=frame["fit"].astype(int)).to_csv(path, index=False)
    parser = argparse.ArgumentParser()
    extrapolate_command.add_arguments(parser)
    words = [path, "--x", "x", "--y", "y", "--fit", "fit == 1", "--where", "x > 300"]
    assert extrapolate_command.run(parser.parse_args([str(word) for word in words])) == 0
    printed = capsys.readouterr().out
    assert "10 rows of 1 curves predicted" in printed and "set aside: row 21" in printed


@pytest.mark.slow
def test_intervals_of_single_curves_hold_what_they_promise():
    """Each curve alone, of several kinds, lengths, noises and reaches."""
    rng = np.random.default_rng(0)
    inside = []
    for seed in range(36):
        num = int(rng.integers(12, 50))
        u = np.linspace(0, rng.uniform(3, 7), num)
        kind = seed % 3
        y = rng.uniform(0.2, 3) + rng.uniform(0.5, 4) * np.exp(-rng.uniform(0.2, 0.7) * u)
        if kind == 1:
            y = np.exp(-rng.uniform(0.05, 0.2) * u)
        elif kind == 2:
            y = 0.1 + 0.85 / (1 + np.exp(rng.uniform(0.6, 1.1) * (u - 0.4 * u[-1])))
        frame = curve(y, np.exp(u), int(num * rng.uniform(0.5, 0.85)), 10 ** rng.uniform(-3, -1.7))
        inside.append(held(extrapolate(read(frame)), frame.loc[~frame["fit"], "y"]))
    assert 0.85 < np.mean(inside) < 0.99
