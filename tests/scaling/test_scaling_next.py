"""`next`: losses read only once chosen, the budget kept, planted laws recovered, mistakes named."""

import argparse
import json

import numpy as np
import pandas as pd
import pytest

from research.errors import UserError
from research.scaling import laws
from research.scaling.commands import next as next_command
from research.scaling.next.design import best_plan, plan
from research.scaling.next.laws import candidates, general, published
from research.scaling.next.posterior import Posterior, make_space, update
from research.scaling.next.runs import next_runs
from tests.scaling.planted import TRUTH, grid, losses


def tables(noise=0.0):
    """A pool of 60 runs and a target of 4 runs of ten times the cost."""
    params, data = grid(10, 6, 2.5)
    pool = {"N": params, "D": data}
    target = {"N": np.array([1e10, 3e10, 1e10, 5e9]), "D": np.array([3e11, 6e11, 1e12, 1e12])}
    return pool, losses(params, data, noise=noise), 6 * params * data, target


def chosen_from(pool, loss, cost, target, **options):
    revealed = []

    def read(row):
        revealed.append(row)
        return loss[row]

    return next_runs(pool, cost, read, target, **options), revealed


def test_a_loss_is_read_only_once_its_row_is_chosen():
    pool, loss, cost, target = tables()
    result, revealed = chosen_from(pool, loss, cost, target)
    assert revealed == result.rows
    hidden = np.full(len(loss), np.nan)
    hidden[result.rows] = loss[result.rows]
    again, _ = chosen_from(pool, hidden, cost, target)
    assert again == result


def test_the_budget_is_kept_and_spent():
    pool, loss, cost, target = tables(0.003)
    for budget in (0.01, 0.1, 1.0):
        result, _ = chosen_from(pool, loss, cost, target, budget=budget)
        assert len(set(result.rows)) == len(result.rows)
        assert result.costs == cost[result.rows].tolist()
        assert result.shares[-1] == pytest.approx(cost[result.rows].sum() / cost.sum(), rel=1e-12)
        assert result.shares[-1] <= budget * (1 + 1e-9)
        left = np.setdiff1d(np.arange(len(cost)), result.rows)
        assert not len(left) or cost[left].min() > (budget - result.shares[-1]) * cost.sum()
    assert len(result.rows) == len(cost)


def test_a_planted_law_is_predicted_ten_times_beyond_the_pool():
    pool, loss, cost, target = tables(0.003)
    truth = losses(target["N"], target["D"], TRUTH)
    result, _ = chosen_from(pool, loss, cost, target)
    assert np.abs(np.log(np.array(result.prediction) / truth)).max() < 0.01
    assert np.all((np.array(result.low) < truth) & (truth < np.array(result.high)))
    assert result.weights["additive"] > 0.3 and sum(result.weights.values()) == pytest.approx(1)


def test_the_unit_of_cost_does_not_matter():
    pool, loss, cost, target = tables(0.003)
    result, _ = chosen_from(pool, loss, cost, target)
    scaled, _ = chosen_from(pool, loss, cost * 2.0**-60, target)
    assert scaled.rows == result.rows and scaled.prediction == result.prediction


def test_runs_that_have_not_been_made_are_asked_for_until_the_budget_is_spent():
    pool, loss, cost, target = tables(0.003)
    known = np.full(len(loss), np.nan)
    rounds = 0
    while True:
        result, _ = chosen_from(pool, known, cost, target, law="additive", budget=0.03)
        if not result.waiting:
            break
        assert result.prediction is None and np.isnan(known[result.waiting]).all()
        known[result.waiting] = loss[result.waiting]
        rounds += 1
    assert rounds > 3
    assert result == chosen_from(pool, loss, cost, target, law="additive", budget=0.03)[0]


def belief(covariance, noise=0.01):
    size = len(covariance)
    none = np.zeros((1, size))
    return Posterior(np.zeros(size), covariance, noise, {}, np.ones(1), none, none)


def test_a_plan_leaves_the_variance_of_the_exact_posterior():
    generator = np.random.default_rng(0)
    factor = generator.standard_normal((8, 3))
    covariance = factor @ factor.T
    cost = np.array([1.0, 1.0, 2.0, 4.0, 1.0, 3.0])
    order, left = plan(belief(covariance), range(6), [6, 7], cost, 5.0)
    assert cost[order].sum() <= 5
    known = covariance[np.ix_(order, order)] + 0.01 * np.eye(len(order))
    cross = covariance[np.ix_([6, 7], order)]
    exact = covariance[6:, 6:] - cross @ np.linalg.solve(known, cross.T)
    assert left == pytest.approx(np.trace(exact), rel=1e-9)


def test_one_dear_row_beats_many_cheap_ones_where_it_says_more():
    # Row 0 is the target itself; rows 1 to 9 say nearly nothing of it, but more per cost.
    covariance = np.eye(11)
    covariance[0, 10] = covariance[10, 0] = 0.99
    covariance[1:10, 10] = covariance[10, 1:10] = 0.05
    cost = np.array([1000.0] + [1.0] * 9)
    assert plan(belief(covariance), range(10), [10], cost, 1000.0)[0][0] != 0
    assert best_plan(belief(covariance), range(10), [10], cost, 1000.0, 40) == [0]


def test_few_rows_are_charged_for_what_they_must_also_fit():
    # One row would leave a little less variance than nine, and no law can be fitted to one.
    covariance = np.eye(11)
    covariance[0, 10] = covariance[10, 0] = 0.69
    covariance[1:10, 10] = covariance[10, 1:10] = 0.22
    cost = np.array([10.0] + [1.0] * 9)
    assert best_plan(belief(covariance), range(10), [10], cost, 10.0, 40) == [0]
    assert len(best_plan(belief(covariance), range(10), [10], cost, 10.0, 0)) == 9


@pytest.mark.parametrize(
    "candidate",
    [
        *general(("N", "D", "U", "experts")),
        published(laws.CHINCHILLA),
        published(laws.MUENNIGHOFF),
        published(laws.get("parallel")),
        published(laws.get("moe_clark")),
    ],
    ids=lambda candidate: candidate.name,
)
def test_derivatives_are_those_of_the_values(candidate):
    generator = np.random.default_rng(0)
    names = ("N", "D", "U", "experts", "streams")
    columns = {name: np.exp(generator.uniform(1, 4, 7)) for name in names}
    columns["D"] = columns["U"] * np.exp(generator.uniform(0.5, 3, 7))
    if candidate.name not in ("moe_clark", "parallel"):
        columns = {name: columns[name] for name in ("N", "D", "U", "experts")}
    centre = {name: float(np.log(value).mean()) for name, value in columns.items()}
    evaluate = candidate.make(columns, centre)
    theta = candidate.mean + 0.1 * candidate.sd * generator.standard_normal(len(candidate.mean))
    _, slope = evaluate(theta[None])
    step = 1e-5 * np.eye(len(theta))
    numeric = (evaluate(theta + step)[0] - evaluate(theta - step)[0]) / 2e-5
    np.testing.assert_allclose(slope[0], numeric.T, rtol=1e-5, atol=1e-8)


def test_a_coefficient_is_its_term_at_the_centre():
    columns = {"N": np.array([1e7, 1e9]), "D": np.array([1e9, 1e11])}
    centre = {name: float(np.log(value).mean()) for name, value in columns.items()}
    chosen = published(laws.OVERTRAINING)
    middle = {name: np.exp([value]) for name, value in centre.items()}
    theta = np.array([np.log(2.0), np.log(0.3), np.log(0.4), 0.15])
    assert np.exp(chosen.make(middle, centre)(theta[None])[0][0, 0]) == pytest.approx(2.7)


def test_overfitting_is_a_power_of_few_repeats_and_constant_after_many():
    epochs = np.exp(np.linspace(1.0, 9.0, 9))
    columns = {"N": np.full(9, 1e9), "D": 1e8 * epochs, "U": np.full(9, 1e8)}
    law = next(law for law in general(("N", "D", "U")) if law.name == "overfitting")
    evaluate = law.make(columns, {"N": np.log(1e8), "D": np.log(1e10), "U": np.log(1e8)})
    # Nothing but the penalty P (S (1 - exp(-r / S)))^p, r = (D / U - 1) / e^2, N / U = 10.
    power, scale, ratio = 1.5, 3.0, 0.7
    theta = np.array([-30.0, -30, 0, -30, 0, np.log(0.5), power, scale, ratio])
    repeats = (epochs - 1) / np.exp(2)
    saturated = np.exp(scale) * -np.expm1(-repeats / np.exp(scale))
    expected = 0.5 * saturated**power * (10 * np.e) ** ratio
    np.testing.assert_allclose(np.exp(evaluate(theta[None])[0][0]), expected, rtol=1e-9)
    theta[7] = 30.0
    ratios = np.exp(evaluate(theta[None])[0][0]) / expected
    np.testing.assert_allclose(ratios, (repeats / saturated) ** power, rtol=1e-6)


def test_overfitting_that_has_ended_is_not_extrapolated():
    generator = np.random.default_rng(0)
    params = np.exp(generator.uniform(np.log(1e7), np.log(1e9), 80))
    unique = np.exp(generator.uniform(np.log(1e8), np.log(2e9), 80))
    epochs = np.exp(generator.uniform(0, np.log(400), 80))
    params[70:], unique[70:], epochs[70:] = 3e8, 1e8, np.geomspace(500, 4000, 10)
    data = unique * epochs
    loss = losses(params, data) - 0.3 * np.expm1(-(epochs - 1) / 60) * params / unique
    noisy = loss * np.exp(0.003 * generator.standard_normal(80))
    pool = {"N": params[:70], "D": data[:70], "U": unique[:70]}
    target = {"N": params[70:], "D": data[70:], "U": unique[70:]}
    cost = (params * data)[:70]
    result, _ = chosen_from(pool, noisy, cost, target, law="overfitting", budget=0.3)
    assert np.abs(np.log(np.array(result.prediction) / loss[70:])).max() < 0.03


def test_the_belief_returns_to_the_losses_it_has_seen():
    params, data = grid(8, 5, 3.0)
    space = make_space({"N": params, "D": data}, candidates("auto", ("N", "D")))
    # No law here has this wave: what is left of it must be found by the discrepancy.
    log_loss = np.log(losses(params, data)) + 0.05 * np.sin(np.log(params))
    rows = np.arange(0, 40, 2)
    found = update(space, rows, log_loss[rows], None, 0, True)
    np.testing.assert_allclose(found.mean[rows], log_loss[rows], atol=0.01)
    unseen = np.arange(1, 40, 2)
    assert np.diag(found.covariance)[unseen].mean() > np.diag(found.covariance)[rows].mean()


def test_a_large_pool_is_thinned_to_well_spread_rows(monkeypatch):
    monkeypatch.setattr("research.scaling.next.runs.MOST_CANDIDATES", 20)
    pool, loss, cost, target = tables()
    truth = losses(target["N"], target["D"], TRUTH)
    result, _ = chosen_from(pool, loss, cost, target, budget=0.3)
    assert len(result.rows) <= 20 and max(result.rows) > 20
    assert np.abs(np.log(np.array(result.prediction) / truth)).max() < 0.02


def command(*arguments) -> int:
    parser = argparse.ArgumentParser()
    next_command.add_arguments(parser)
    return next_command.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def files(tmp_path):
    pool, loss, _, target = tables(0.003)
    pd.DataFrame({**pool, "L": loss, "hours": pool["N"]}).to_csv(tmp_path / "pool.csv", index=False)
    pd.DataFrame({**target, "name": list("abcd")}).to_parquet(tmp_path / "target.parquet")
    return tmp_path


def options(files, **changes):
    given = {
        "pool": files / "pool.csv",
        "target": files / "target.parquet",
        "params": "N",
        "data": "D",
        "loss": "L",
        "cost": "6*N*D",
        "out": files / "predictions.csv",
        **changes,
    }
    return [word for key, value in given.items() if value for word in (f"--{key}", value)]


def test_predictions_beside_the_targets_columns(files, capsys):
    assert command(*options(files)) == 0
    written = pd.read_csv(files / "predictions.csv")
    assert list(written) == ["N", "D", "name", "prediction", "low", "high"]
    assert ((written.low < written.prediction) & (written.prediction < written.high)).all()
    printed = capsys.readouterr().out
    assert "share so far" in printed and "laws: " in printed and "R2" not in printed


def test_scores_where_the_target_has_losses_that_are_never_used(files, capsys):
    command(*options(files), "--json")
    without = json.loads(capsys.readouterr().out)
    target = pd.read_parquet(files / "target.parquet")
    target["L"] = losses(target.N, target.D)
    target.to_parquet(files / "target.parquet")
    command(*options(files), "--json")
    scored = json.loads(capsys.readouterr().out)
    assert scored["scores"]["r2"] > 0.9 and scored["scores"]["num_rows"] == 4
    assert without == {**scored, "scores": None}


def test_the_loop_a_lab_would_make(files, capsys):
    pool = pd.read_csv(files / "pool.csv")
    measured = pool["L"].copy()
    pool["L"] = np.nan
    for _ in range(100):
        pool.to_csv(files / "pool.csv", index=False)
        assert command(*options(files, law="additive", budget="0.02"), "--json") == 0
        found = json.loads(capsys.readouterr().out)
        if not found["waiting"]:
            break
        assert not (files / "predictions.csv").exists()
        rows = np.array(found["waiting"]) - 1
        pool.loc[rows, "L"] = measured[rows]
    assert (files / "predictions.csv").exists()
    assert set(np.flatnonzero(pool["L"].notna()) + 1) == set(found["rows"])


def test_one_run_to_make_is_said_in_one_line(files, capsys):
    assert command(*options(files)) == 0
    row = int(capsys.readouterr().out.splitlines()[-4].split()[1])
    pool = pd.read_csv(files / "pool.csv")
    pool.loc[row - 1, "L"] = np.nan
    pool.to_csv(files / "pool.csv", index=False)
    (files / "predictions.csv").write_text("before")
    assert command(*options(files)) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"row {row} was chosen and has no loss: run it, fill it in, and run the " + (
        "command again"
    )
    assert (files / "predictions.csv").read_text() == "before"


def test_where_keeps_the_files_row_numbers(files, capsys):
    for name, read, write in (
        ("pool.csv", pd.read_csv, lambda f, p: f.to_csv(p, index=False)),
        ("target.parquet", pd.read_parquet, lambda f, p: f.to_parquet(p)),
    ):
        frame = read(files / name)
        other = frame.assign(L=-1.0, corpus="other")
        write(pd.concat([other, frame.assign(corpus="pile")]), files / name)
    command(*options(files), "--where", "corpus == 'pile'", "--json")
    found = json.loads(capsys.readouterr().out)
    assert min(found["rows"]) > 60
    assert len(pd.read_csv(files / "predictions.csv")) == 4


def test_other_variables_by_name(files, capsys):
    pool, target = pd.read_csv(files / "pool.csv"), pd.read_parquet(files / "target.parquet")
    pool.assign(e=np.tile([1.0, 8.0, 64.0], 20)).to_csv(files / "pool.csv", index=False)
    target.assign(e=8.0).to_parquet(files / "target.parquet")
    given = options(files, data=None, cost="hours")
    assert command(*given, "--column", "experts=e", "--law", "moe_clark", "--json") == 0
    assert list(json.loads(capsys.readouterr().out)["weights"]) == ["moe_clark"]


def test_costs_of_whole_numbers_do_not_overflow(files, capsys):
    pool = pd.read_csv(files / "pool.csv")
    whole = pool.assign(N=(pool.N * 1e3).astype("int64"), D=(pool.D * 1e3).astype("int64"))
    whole.to_csv(files / "pool.csv", index=False)
    assert (whole.N * whole.D * 6).min() < 0
    command(*options(files, law="additive", budget="0.02"), "--json")
    found = json.loads(capsys.readouterr().out)
    first = whole.loc[found["rows"][0] - 1]
    assert found["costs"][0] == 6 * first.N * first.D


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"budget": "0"}, "--budget 0: expected a share"),
        ({"budget": "1.5"}, "--budget 1.5: expected a share"),
        ({"budget": "1e-9"}, "--budget 1e-09: buys no row; the cheapest costs 3"),
        ({"level": "90"}, "--level 90"),
        ({"seed": "-1"}, "--seed -1"),
        ({"law": "chinchila"}, "did you mean 'chinchilla'"),
        ({"law": "muennighoff"}, "needs 'U', which no option gives .*--unique"),
        ({"law": "moe_clark"}, "needs 'experts'.*--column experts=COLUMN"),
        ({"law": "loss_to_error"}, "predicts error, not the loss"),
        ({"params": "M"}, "--params: no column 'M'"),
        ({"loss": "l"}, "--loss: no column 'l'.*did you mean 'L'"),
        ({"cost": "hour"}, "--cost: no column 'hour'.*did you mean 'hours'"),
        ({"cost": "6*N*tokens"}, "--cost: no column 'tokens'"),
        ({"cost": "6*N*"}, "--cost: cannot evaluate"),
        ({"cost": "N - 1e7"}, "not positive in row"),
        ({"params": None, "data": None}, "name at least one variable"),
        ({"column": "experts"}, "expected NAME=COLUMN"),
        ({"column": "N=D"}, "N is taken: use --params"),
        ({"column": "experts=e"}, "--column experts: no column 'e'"),
        ({"where": "N > 1e99"}, "no rows where"),
        ({"target": "nowhere.csv"}, "no such file"),
    ],
)
def test_mistakes_write_nothing(files, changes, match):
    with pytest.raises(UserError, match=match):
        command(*options(files, **changes))
    assert not (files / "predictions.csv").exists()


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda f: f.assign(D=-f.D), "column 'D' is not positive in rows 1, 2"),
        (lambda f: f.assign(N=f.N.where(f.index != 3)), "column 'N' is missing .* in row 4"),
        (lambda f: f.assign(hours=np.nan), "column 'hours' is missing"),
        (lambda f: f.assign(L=np.inf), "column 'L' is infinite in row"),
        (lambda f: f.assign(L="x"), "column 'L' is not a number in row"),
        (lambda f: f.head(0), "no rows"),
    ],
)
def test_pools_that_cannot_be_used(files, spoil, match):
    spoil(pd.read_csv(files / "pool.csv")).to_csv(files / "pool.csv", index=False)
    with pytest.raises(UserError, match=match):
        command(*options(files, cost="hours"))
    assert not (files / "predictions.csv").exists()


def test_a_target_without_a_variable_or_with_our_columns(files):
    target = pd.read_parquet(files / "target.parquet")
    target.drop(columns="D").to_parquet(files / "target.parquet")
    with pytest.raises(UserError, match=r"--data: no column 'D' in .*target.parquet"):
        command(*options(files))
    target.assign(low=1.0).to_parquet(files / "target.parquet")
    with pytest.raises(UserError, match="has a column 'low' already"):
        command(*options(files))


def test_bad_losses_of_rows_that_are_not_chosen_do_no_harm(files, capsys):
    command(*options(files), "--json")
    found = json.loads(capsys.readouterr().out)
    pool = pd.read_csv(files / "pool.csv").astype({"L": object})
    rest = np.setdiff1d(np.arange(len(pool)), np.array(found["rows"]) - 1)
    pool.loc[rest, "L"] = "not yet"
    pool.to_csv(files / "pool.csv", index=False)
    command(*options(files), "--json")
    assert json.loads(capsys.readouterr().out) == found
