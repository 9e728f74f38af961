"""Rows that are checkpoints of a few runs: told by themselves, said, and resampled by run."""

import numpy as np
import pandas as pd
import pytest

from research.__main__ import main
from research.scaling.backtest import backtest
from research.scaling.doubt.table_checks import checkpoints, table_findings
from research.scaling.fit import fit_law
from research.scaling.laws import CHINCHILLA
from research.scaling.table import from_frame
from tests.scaling.planted import grid, losses, valleys

COLUMNS = {"params": "N", "data": "D", "loss": "L"}


def logs(num=100, spacing=np.linspace, first=2e8, seeds=1, sizes=5, noise=0.001) -> pd.DataFrame:
    """Runs of several sizes, each with its own luck, and `num` checkpoints of each."""
    luck, parts = np.random.default_rng(3), []
    for k, size in enumerate(np.geomspace(1e7, 1e9, sizes)):
        for seed in range(seeds):
            data = spacing(first, 2e10, num)
            loss = losses(size, data, noise=noise, seed=k) * np.exp(0.01 * luck.standard_normal())
            parts.append(pd.DataFrame({"N": size, "D": data, "L": loss, "seed": seed}))
    return pd.concat(parts, ignore_index=True)


def runs(frame: pd.DataFrame, **options):
    return from_frame(frame, **COLUMNS, **options)


def test_intervals_of_checkpoints_are_those_by_run():
    frame = logs()
    frame["model"] = frame["N"]
    told, named = runs(frame), runs(frame, group="model")
    assert told["group"].tolist() == named["group"].tolist()
    found, by_hand = (fit_law(each, CHINCHILLA, bootstrap=200) for each in (told, named))
    assert found.num_groups == 5 and found.intervals == by_hand.intervals
    lone = frame.assign(row=np.arange(len(frame)))
    apart = fit_law(runs(lone, group="row"), CHINCHILLA, bootstrap=200)
    width = [np.ptp(fit.intervals["alpha"]) for fit in (found, apart) if fit.intervals]
    assert width[0] > 10 * width[1], "as if independent, the interval is a tenth as wide"


def test_what_is_said_names_the_runs_the_rows_and_the_option():
    (found,) = [each for each in table_findings(runs(logs())) if each.name == "checkpoints"]
    assert found.code == 15 and found.numbers == {"rows": 500, "runs": 5}
    assert "500 rows look like checkpoints of 5 runs, one a value of N" in found.message
    assert "--group COLUMN" in found.message
    assert checkpoints(runs(logs(), group="seed")) is None, "--group has said what a run is"


SERIES = {
    "equal steps": (logs(8), 5, "N"),
    "each size its own steps": (
        logs(10).assign(D=lambda f: f["D"] * (f["N"] / 1e7) ** 0.5),
        5,
        "N",
    ),
    "often, in logarithms": (logs(30, np.geomspace), 5, "N"),
    "noisy losses": (logs(100, noise=0.004), 5, "N"),
    "a few left out": (logs(40).drop(index=range(3, 200, 9)), 5, "N"),
    "in any order": (logs(20).sample(frac=1, random_state=0), 5, "N"),
    "two seeds": (logs(12, seeds=2), 10, "N and 'seed'"),
    "a column of runs": (
        logs(12, seeds=2).assign(run=lambda f: f["N"].astype(str) + "-" + f["seed"].astype(str)),
        10,
        "'run'",
    ),
    "the last one twice": (
        pd.concat([logs(20), logs(20).groupby("N").tail(1)], ignore_index=True),
        5,
        "N",
    ),
}


@pytest.mark.parametrize("case", SERIES)
def test_series_are_told(case):
    frame, count, how = SERIES[case]
    table = runs(frame)
    assert table.checkpoints == how
    assert len(np.unique(table["group"])) == count
    assert (table.frame.groupby("group")["N"].nunique() == 1).all()


def planted(pair: tuple[np.ndarray, np.ndarray], noise=0.002) -> pd.DataFrame:
    return pd.DataFrame({"N": pair[0], "D": pair[1], "L": losses(*pair, noise=noise)})


def swept() -> pd.DataFrame:
    """Runs at many learning rates: as many rows of one N, but few D."""
    parts = [planted(grid(5, 4)).assign(lr=rate, L=lambda f: f["L"] * 1.01) for rate in range(12)]
    return pd.concat(parts, ignore_index=True)


INDEPENDENT = {
    "a grid": planted(grid(8, 6, 3.0)),
    "a grid without noise": planted(grid(6, 12), noise=0.0),
    "budgets": planted(valleys(11, 9)),
    "a sweep of rates": swept(),
    "no two sizes alike": planted((np.geomspace(1e7, 1e9, 500), np.linspace(1e9, 1e11, 500))),
    "a few rows": logs(3),
    "a loss that does not fall": logs(20).assign(L=lambda f: f["L"].to_numpy()[::-1]),
}


@pytest.mark.parametrize("case", INDEPENDENT)
def test_runs_are_left_alone(case):
    table = runs(INDEPENDENT[case])
    assert table.checkpoints is None
    assert len(np.unique(table["group"])) == len(table)


@pytest.mark.slow
def test_every_verb_says_it(tmp_path, capsys):
    csv, page = tmp_path / "t.csv", tmp_path / "page.html"
    logs(12).to_csv(csv, index=False)
    words = [str(csv), "--params", "N", "--data", "D", "--loss", "L", "--bootstrap", "100"]
    assert main(["isoflop", *words]) == 0
    assert "60 rows look like checkpoints of 5 runs" in capsys.readouterr().out
    assert main(["report", *words[:7], "--out", str(page)]) == 0
    assert "checkpoints of 5 runs" in page.read_text()
    assert (
        "checkpoints" in backtest(runs(logs(12)), "flops:0.5decade", [CHINCHILLA]).findings[0].name
    )


def test_many_rows_and_odd_columns_cost_little():
    frame = planted(
        (np.repeat(np.geomspace(1e6, 1e9, 5_000), 20), np.tile(np.arange(1, 21), 5_000))
    )
    frame = frame.assign(tags=[["a"]] * len(frame), nested=[{}] * len(frame), empty=np.nan)
    assert runs(frame.assign(D=frame["D"] * 1e9)).checkpoints == "N"


def test_15_next_says_that_its_pool_holds_checkpoints(tmp_path, capsys):
    amounts = np.linspace(1e8, 2e9, 12)
    rows = [(n, d, 1.7 + 400 / n**0.34 + 400 / d**0.28) for n in (1e7, 3e7, 1e8) for d in amounts]
    pool, ends = tmp_path / "pool.csv", tmp_path / "ends.csv"
    head = "N,D,L\n"
    pool.write_text(head + "".join(f"{n},{d},{y}\n" for n, d, y in rows))
    ends.write_text(head + "".join(f"{n},{d},{y}\n" for n, d, y in rows[11::12]))
    options = "--params N --data D --loss L --cost 6*N*D --law additive --budget 0.5".split()
    for path, warned in ((pool, True), (ends, False)):
        assert main(["next", "--pool", str(path), "--target", str(ends), *options]) in (0, 2)
        said = capsys.readouterr().out
        assert ("36 rows of the pool look like checkpoints of 3 runs" in said) == warned
