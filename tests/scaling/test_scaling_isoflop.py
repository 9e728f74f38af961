"""IsoFLOP valleys: planted exponents come back, budgets without a minimum are dropped by name."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from research.__main__ import main
from research.errors import UserError
from research.scaling.isoflop import projection
from research.scaling.isoflop.budgets import budget_rows, points
from research.scaling.isoflop.fit import budgets, disagreement, has_budgets, isoflop
from research.scaling.isoflop.minima import Minima, power_law
from tests.scaling.planted import grid, losses, planted_study, table, valleys


def planted(exponent=0.5, noise=0.0, keep=lambda budget, offset: True, seed=0, lean=0.0):
    """Exact parabolas in log N about 0.1 C^exponent; `keep` chooses the runs that were made."""
    params, data = valleys(exponent=exponent)
    flops = 6 * params * data
    offset = np.log10(params / (0.1 * flops**exponent))
    loss = (1 + 40 * flops**-0.1) * (1 + 0.05 * offset**2 + lean * np.abs(offset) * offset)
    loss = loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(loss)))
    chosen = np.array([keep(*pair) for pair in zip(flops, offset, strict=True)])
    return table(params[chosen], data[chosen], loss[chosen])


@pytest.mark.parametrize("method", ["parabola", "akima"])
@pytest.mark.parametrize("exponent", [0.35, 0.5, 0.73])
def test_planted_exponent_and_coefficient(method, exponent):
    fit = isoflop(planted(exponent), method, bootstrap=200)
    tolerance = 1e-9 if method == "parabola" else 1e-3
    assert fit.params_exponent == pytest.approx(exponent, abs=tolerance)
    assert fit.data_exponent == pytest.approx(1 - exponent, abs=tolerance)
    assert fit.params_coefficient == pytest.approx(0.1, rel=0.05 if method == "akima" else 1e-6)
    assert len(fit.kept) == 5 and fit.findings == [] and fit.refused is None
    assert fit.params_interval is not None
    low, high = fit.params_interval
    assert high - low < 0.02, "no noise, little width"


def test_intervals_cover_the_planted_exponent():
    inside = []
    for seed in range(50):
        fit = isoflop(planted(noise=0.003, seed=seed), bootstrap=500, seed=seed)
        assert fit.params_interval is not None
        inside.append(fit.params_interval[0] <= 0.5 <= fit.params_interval[1])
    assert np.mean(inside) >= 0.86


@pytest.mark.parametrize(
    ("keep", "why"),
    [
        (lambda c, o: c < 3e20 or o < 0.1, "at the largest size"),
        (lambda c, o: c < 3e20 or o > -0.1, "at the smallest size"),
        (lambda c, o: c < 3e20 or o < 0.3, "one run only on the larger side"),
        (lambda c, o: c < 3e20 or o > -0.3, "one run only on the smaller side"),
        (lambda c, o: c < 3e20 or abs(o) < 0.1, "1 sizes"),
    ],
)
def test_6_a_budget_without_a_minimum_inside_is_dropped_and_why(keep, why):
    runs = planted(keep=keep)
    fit = isoflop(runs, bootstrap=200)
    (dropped,) = [valley for valley in fit.valleys if not valley.kept]
    assert dropped.flops == pytest.approx(1e21) and why in dropped.why
    assert dropped.params is None
    assert [finding.code for finding in fit.findings] == [6]
    assert why in fit.findings[0].message
    assert fit.params_exponent == pytest.approx(0.5, abs=1e-9), "the rest still tells"


def test_6_concave_losses_are_dropped():
    runs = planted()
    flops = runs["C"]
    offset = np.log10(runs["N"] / (0.1 * flops**0.5))
    # Lowest in the middle by one lucky run, on losses that fall off on both sides.
    hill = 2 - 0.2 * offset**2 - np.where(np.abs(offset) < 0.1, 0.13, 0)
    fit = isoflop(replace(runs, frame=runs.frame.assign(L=hill)))
    assert fit.refused is not None and "0 of 5" in fit.refused
    assert fit.params_exponent is None and fit.params_interval is None
    assert all("concave" in str(valley.why) for valley in fit.valleys)
    json.dumps(fit.to_json(), allow_nan=False)


def test_budgets_are_the_nominal_ones_or_clusters_of_flops():
    runs = planted()
    jitter = np.exp(np.random.default_rng(0).uniform(-0.02, 0.02, len(runs)))
    uneven = replace(runs, frame=runs.frame.assign(C=runs["C"] * jitter))
    assert len(np.unique(budgets(uneven))) == 5 and has_budgets(uneven)
    named = replace(uneven, frame=uneven.frame.assign(budget=np.arange(35) % 5))
    np.testing.assert_array_equal(budgets(named), np.arange(35) % 5)
    assert not has_budgets(named), "runs named alike that differ 10,000 times in FLOPs"
    params, data = grid(8, 6, 3.0)
    assert not has_budgets(table(params * 1.3 ** np.arange(48), data, losses(params, data)))


def test_seeds_of_a_size_count_once():
    runs = planted()
    twice = replace(runs, frame=runs.frame.loc[np.repeat(runs.frame.index, 2)].reset_index())
    once, doubled = isoflop(runs, bootstrap=100), isoflop(twice, bootstrap=100)
    assert doubled.params_exponent == pytest.approx(once.params_exponent, abs=1e-12)
    assert all(len(valley.rows) == 14 for valley in doubled.valleys)


def test_7_methods_that_disagree():
    fit = isoflop(planted(noise=0.002), bootstrap=300)
    assert fit.params_exponent is not None
    assert disagreement(fit, fit.params_exponent + 1e-4, 0.01) is None
    found = disagreement(fit, fit.params_exponent + 0.3, 0.01)
    assert found is not None and found.code == 7 and "standard errors" in found.message


def test_unknown_method():
    with pytest.raises(UserError, match="akima, parabola, projection"):
        isoflop(planted(), "spline")


SURFACE = {"E": 1.7, "A": 400.0, "B": 2000.0, "alpha": 0.34, "beta": 0.37}
EXPONENT = SURFACE["beta"] / (SURFACE["alpha"] + SURFACE["beta"])


def surface(offsets, num_budgets=6, noise=0.0, seed=0, tilt=0.0):
    """Chinchilla runs at decades of size from the optimum; `tilt` shifts them from budget on."""
    flops = np.logspace(18, 21, num_budgets)
    ratio = SURFACE["alpha"] * SURFACE["A"] / (SURFACE["beta"] * SURFACE["B"])
    total = SURFACE["alpha"] + SURFACE["beta"]
    best = ratio ** (1 / total) * (flops / 6) ** EXPONENT
    shift = np.asarray(offsets) + tilt * np.linspace(-1, 1, num_budgets)[:, None]
    params = (best[:, None] * 10**shift).ravel()
    data = np.repeat(flops, len(offsets)) / (6 * params)
    return table(params, data, losses(params, data, SURFACE, noise, seed))


def test_a_lopsided_valley_misleads_the_parabola_and_it_is_said():
    # Half a decade of sizes below each optimum; above it from over half to three.
    offsets = np.linspace(-0.6, 3.0, 25)
    reach = np.repeat(np.linspace(0.6, 3.0, 6), len(offsets))
    runs = surface(offsets, noise=1e-5).select(np.tile(offsets, 6) <= reach + 1e-9)
    akima, parabola = isoflop(runs, "akima"), isoflop(runs, "parabola")
    assert akima.params_exponent == pytest.approx(EXPONENT, abs=1e-4)
    assert abs(parabola.params_exponent - EXPONENT) > 0.015, "the bias that is warned of"
    for fit in (akima, parabola):
        (warning,) = [found.line for found in fit.findings if found.code == 7]
        assert "lopsided valley" in warning
        assert f"akima a={akima.params_exponent:.4f}" in warning
        assert f"parabola a={parabola.params_exponent:.4f}" in warning


def test_a_symmetric_valley_is_no_reason_to_warn():
    assert isoflop(planted(noise=1e-4), "parabola").findings == []


def test_projection_knows_the_shape_and_needs_no_minimum_inside():
    # Budgets see one flank each, the lower half the small sizes, the upper half the large ones.
    runs = surface(np.linspace(-0.9, 0.9, 7))
    offset = np.tile(np.linspace(-0.9, 0.9, 7), 6)
    flank = np.where(runs["C"] < 3e19, offset < 0.1, offset > -0.1)
    half = runs.select(flank)
    fit = isoflop(half, "projection")
    assert fit.params_exponent == pytest.approx(EXPONENT, abs=1e-7)
    assert fit.data_exponent == pytest.approx(1 - EXPONENT, abs=1e-7)
    refused = isoflop(half, "akima")
    assert refused.refused is not None and "0 of 6 budgets" in refused.refused
    default = isoflop(half)
    assert default.method == "projection" and default.params_exponent == fit.params_exponent
    assert any("one shape fitted to all" in found.message for found in default.findings)


def test_three_point_budgets():
    runs = surface([-0.4, 0.0, 0.5])
    refused = isoflop(runs, "akima")
    assert refused.refused is not None and "3 sizes" in str(refused.valleys[0].why)
    fit = isoflop(runs)
    assert fit.method == "projection"
    assert fit.params_exponent == pytest.approx(EXPONENT, abs=0.002)


def test_projection_refuses_where_noise_drowns_the_valley():
    runs = surface(np.linspace(-0.1, 0.1, 5), noise=0.05)
    fit = isoflop(runs, "projection", bootstrap=100)
    assert fit.refused is not None and "beyond their noise" in fit.refused
    assert fit.params_exponent is None and fit.draws.shape == (0, 3)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["akima", "parabola", "projection"])
def test_intervals_cover_the_exponent_of_noisy_surfaces(method):
    """A Chinchilla surface, sizes up to a tenth of a decade off centre, 1% noise: 40 tables."""
    inside, widths = [], []
    for seed in range(40):
        runs = surface(np.linspace(-0.8, 0.8, 7), noise=0.01, seed=seed, tilt=0.1)
        fit = isoflop(runs, method, bootstrap=1000, seed=seed)
        assert fit.params_interval is not None
        low, high = fit.params_interval
        inside.append(low <= EXPONENT <= high)
        widths.append(high - low)
    assert np.mean(inside) >= 0.85, "40 of .95 are at least that in 98 of 100 cases"
    assert np.median(widths) < {"akima": 0.4, "parabola": 0.15, "projection": 0.15}[method]


def test_a_budget_of_few_sizes_has_the_larger_error():
    runs = surface(np.linspace(-0.8, 0.8, 9), noise=0.002)
    last = runs["C"] > 9e20
    few = runs.select(~last | (np.arange(len(runs)) % 9 % 2 == 0))
    errors = [valley.error or np.nan for valley in isoflop(few, "parabola").kept]
    assert errors[-1] > 1.2 * np.mean(errors[:-1])


def test_a_minimum_of_large_error_hardly_moves_the_law():
    runs = surface(np.linspace(-0.8, 0.8, 7))
    sizes = points(runs, budget_rows(runs))
    shape = projection.fit(sizes)
    place = np.tile(shape.log_params(sizes.budgets), (200, 1))
    place[:, -1] += 1.0
    error = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 10.0])
    kept = np.zeros((200, 6), int)
    found = power_law(sizes, shape, Minima("akima", place, kept, error, error))
    even_handed = power_law(sizes, shape, Minima("akima", place, kept, error**0, error))
    assert found is not None and even_handed is not None
    slope, even = found[0], even_handed[0]
    assert slope[0] == pytest.approx(EXPONENT, abs=2e-4)
    assert slope[1] == pytest.approx(1 - EXPONENT, abs=2e-4)
    assert even[0] > EXPONENT + 0.05


def test_copies_of_a_row_tell_nothing_new():
    runs = surface(np.linspace(-0.8, 0.8, 7), noise=0.01)
    copied = replace(runs, frame=runs.frame.loc[np.repeat(runs.frame.index, 3)].reset_index())
    once, thrice = isoflop(runs, bootstrap=200), isoflop(copied, bootstrap=200)
    assert thrice.params_exponent == pytest.approx(once.params_exponent, rel=1e-9)
    assert thrice.params_interval == pytest.approx(once.params_interval, rel=1e-6)


def test_seeds_narrow_the_interval():
    tables = [surface(np.linspace(-0.8, 0.8, 7), noise=0.01, seed=seed) for seed in range(4)]
    frame = pd.concat([each.frame for each in tables], ignore_index=True)
    fit = isoflop(replace(tables[0], frame=frame), "projection", bootstrap=500)
    alone = isoflop(tables[0], "projection", bootstrap=500)
    assert np.diff(fit.params_interval or ()) < 0.75 * np.diff(alone.params_interval or ())


def test_runs_that_missed_their_budget_are_moved_to_it():
    runs = surface(np.linspace(-0.8, 0.8, 7))
    missed = np.random.default_rng(0).uniform(-0.08, 0.08, len(runs))
    data = runs["D"] * np.exp(missed)
    loss = losses(runs["N"], data, SURFACE)
    off = replace(runs, frame=runs.frame.assign(D=data, C=6 * runs["N"] * data, L=loss))
    fit = isoflop(off, "projection", bootstrap=200)
    assert len(fit.valleys) == 6
    assert fit.params_exponent == pytest.approx(EXPONENT, abs=0.004)
    assert fit.noise < 0.002, "unmoved, the misses look like noise of .004"


def test_15_rows_of_a_group_share_their_noise():
    runs = surface(np.linspace(-0.8, 0.8, 7), noise=0.005)
    curves = replace(runs, frame=runs.frame.assign(group=(np.arange(len(runs)) % 7).astype(str)))
    fit = isoflop(curves, "parabola", bootstrap=500)
    alone = isoflop(runs, "parabola", bootstrap=500)
    assert fit.params_exponent == pytest.approx(alone.params_exponent, abs=0.05)
    assert fit.params_interval != alone.params_interval
    clash = replace(runs, frame=runs.frame.assign(group="one"))
    (found,) = [f for f in isoflop(clash, "parabola", bootstrap=500).findings if f.code == 15]
    assert "several sizes of one budget" in found.message
    assert isoflop(clash, "parabola", bootstrap=500).params_interval == alone.params_interval


def write(runs, path, **columns):
    runs.frame.rename(columns={"N": "n", "D": "tokens", "L": "loss", "C": "flops"}).assign(
        **columns
    ).drop(columns="group").to_csv(path, index=False)
    names = "--params n --data tokens --loss loss --flops flops --bootstrap 200"
    return ["isoflop", str(path), *names.split()]


def test_the_command_writes_what_it_prints(tmp_path, capsys):
    words = write(surface(np.linspace(-0.8, 0.8, 7), noise=0.003), tmp_path / "t.csv")
    out = tmp_path / "isoflop.json"
    assert main([*words, "--json", "--out", str(out)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(out.read_text())
    keys = ("params_exponent", "params_interval", "data_exponent", "data_interval")
    assert set(printed) >= {*keys, "coefficients", "optima", "warnings"}
    assert set(printed["optima"][0]) >= {"flops", "params", "data", "loss", "kept", "why"}
    low, high = printed["params_interval"]
    assert low < EXPONENT < high
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "N_opt ~ C^a" in said and "6 of 6 budgets" in said


def test_the_command_takes_one_experiment_of_a_harmonised_file(tmp_path, capsys):
    runs = surface(np.linspace(-0.8, 0.8, 7), noise=0.003)
    words = write(runs, tmp_path / "one.csv", experiment="one")
    one = pd.read_csv(tmp_path / "one.csv")
    other = one.assign(experiment="two", loss=one.loss * 1.3, n=one.n * one.flops**0.1)
    pd.concat([one, other]).rename(columns={"flops": "budget"}).to_csv(
        tmp_path / "both.csv", index=False
    )
    assert main([*words, "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    both = [word.replace("one.csv", "both.csv").replace("flops", "budget") for word in words]
    both[both.index("--budget")] = "--flops"
    assert main([*both, "--where", "experiment == 'one'", "--json"]) == 0
    chosen = json.loads(capsys.readouterr().out)
    assert chosen["params_exponent"] == pytest.approx(alone["params_exponent"], rel=1e-9)
    assert len(chosen["optima"]) == 6


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--method", "akimo"], "--method: no method 'akimo' (did you mean 'akima'?)"),
        (["--bootstrap", "3"], "--bootstrap 3: expected"),
        (["--level", "95"], "--level 95: expected a share"),
        (["--seed", "-1"], "--seed -1"),
        (["--part", "text"], "--part: only for a run folder"),
    ],
)
def test_options_that_are_wrong(words, match, tmp_path, capsys):
    given = write(surface([-0.4, -0.2, 0, 0.2, 0.4]), tmp_path / "t.csv")
    assert main([*given, *words]) == 2
    assert match in capsys.readouterr().err


def test_the_command_reads_a_run_folder(tmp_path, capsys):
    folder = planted_study(tmp_path / "study")
    assert main(["isoflop", str(folder), "--bootstrap", "200"]) == 0
    assert "budgets)" in capsys.readouterr().out
    assert main(["isoflop", str(folder), "--params", "N"]) == 2
    assert "a run folder knows its own columns" in capsys.readouterr().err
