"""One arm against another: planted multipliers come back, what is no comparison is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from research.__main__ import main
from research.scaling import compare, from_frame
from research.scaling.compare.verdict import Comparison, Multiplier, against_first, corrected, holm
from tests.scaling.planted import ARM_LAW, MIDDLE, arms_study, planted_arms

COLUMNS = ["--flops", "C", "--loss", "L"]


def tables(*frames, names="abc"):
    return {
        name: from_frame(frame, params="N", data="D", flops="C", loss="L")
        for name, frame in zip(names, frames, strict=False)
    }


def flops(found: Comparison) -> Multiplier:
    assert found.flops is not None
    return found.flops


def width(found: Multiplier) -> float:
    return float(np.log(found.value.high / found.value.low))


def planted_at(loss: float, multiplier: float, exponent: float, sizes) -> float:
    """The planted multiplier where B, at the best of `sizes`, reaches `loss`."""
    law, n = ARM_LAW, np.asarray(sizes, float)
    above = loss - law["E"] - law["A"] / n ** law["alpha"]
    with np.errstate(invalid="ignore"):
        needed = np.nanmin(6 * n * (law["B"] / above) ** (1 / law["beta"]))
    return multiplier * (needed / MIDDLE) ** exponent


@pytest.mark.parametrize("num_sizes", [3, 1])
@pytest.mark.parametrize(("multiplier", "exponent"), [(1.0, 0.0), (2.5, 0.0), (2.0, 0.1)])
def test_a_planted_multiplier_without_noise_comes_back(multiplier, exponent, num_sizes):
    first, second = planted_arms(multiplier, exponent, noise=0.0, num_sizes=num_sizes)
    found = flops(compare(tables(first, second)))
    truth = planted_at(found.at_loss, multiplier, exponent, second["N"].unique())
    assert found.value.value == pytest.approx(truth, rel=1e-3)
    assert found.trend is not None
    assert found.trend.value == pytest.approx(exponent, abs=1e-3)
    for resource, loss, value, *_ in found.curve:
        assert value == pytest.approx(multiplier * (resource / MIDDLE) ** exponent, rel=3e-3)
        assert found.losses[0] - 1e-9 <= loss <= found.losses[1] + 1e-9


def test_an_arm_against_itself_is_exactly_one():
    first, _ = planted_arms()
    for again in (first, first.sample(frac=1, random_state=0), first.drop(columns="seed")):
        found = compare(tables(first, again))
        value = flops(found)
        assert (value.value, value.trend) == ((1, 1, 1), (0, 0, 0))
        assert (value.says, found.p_value) == ("constant", 1.0)


def test_swapped_arms_are_the_inverse():
    first, second = planted_arms(2.5, shared=0.02)
    one = flops(compare(tables(first, second)))
    other = flops(compare(tables(second, first)))
    assert one.value.value * other.value.value == pytest.approx(1, rel=0.01)
    assert one.value.low > 1 > other.value.high and one.value.low < 2.5 < one.value.high


def test_pairing_takes_out_what_pairs_share():
    first, second = planted_arms(1.1, seeds=3, noise=0.002, shared=0.03)
    _, apart = planted_arms(1.1, seeds=3, noise=0.002, shared=0.03, draw=1)
    apart["seed"] += 10
    found = [compare(tables(first, other)) for other in (second, apart)]
    assert [each.paired for each in found] == [True, False]
    widths = [width(flops(each)) for each in found]
    assert widths[0] < widths[1] / 4
    assert flops(found[0]).value.low < 1.1 < flops(found[0]).value.high


def test_the_same_in_parameters_data_and_seconds():
    first, second = (rows.assign(seconds=rows["C"] / 1e9) for rows in planted_arms(1.5))
    second["seconds"] *= 2  # B has less to do, at half the speed
    found = compare(tables(first, second))
    seconds, tokens = found.others["seconds"], found.others["tokens"]
    assert isinstance(seconds, Multiplier) and isinstance(tokens, Multiplier)
    assert seconds.value.value == pytest.approx(flops(found).value.value / 2, rel=1e-6)
    assert tokens.value.low < 1.5 < tokens.value.high  # A is B with its data divided
    assert found.to_json()["in"]["tokens"]["multiplier"]["value"] == tokens.value.value
    assert "smallest or largest" in str(found.others["parameters"])


@pytest.mark.parametrize(
    ("exponent", "noise", "says"),
    [
        (0.0, 0.001, "constant"),
        (0.15, 0.002, "grows"),
        (-0.15, 0.002, "fades"),
        (0, 0.1, "unknown"),
    ],
)
def test_what_it_says_of_the_trend(exponent, noise, says):
    assert flops(compare(tables(*planted_arms(1.5, exponent, noise=noise)))).says == says


def test_many_arms_are_corrected_and_say_so():
    arms = [planted_arms(m, draw=k)[0] for k, m in enumerate((2.0, 1.9, 1.0))]
    alone = [compare(tables(arms[0], arm)) for arm in arms[1:]]
    both = corrected(against_first(tables(*arms)))
    assert [each.p_value for each in both] == holm([flops(each).p_value for each in alone])
    assert all("Holm" in each.findings[-1].message for each in both)
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert [flops(a).value for a in alone] == [flops(b).value for b in both]


def test_branches_of_one_trunk_are_not_taken_for_runs():
    first, second = planted_arms(2.0, seeds=3, noise=0.001, num_sizes=1)
    rough = np.random.default_rng(1).normal(0, 0.02, 3)
    first["L"] *= np.exp(rough[first["seed"]])  # one noise for all budgets of a trunk
    plain = flops(compare(tables(first, second)))
    of_trunks = [rows.assign(trunk="t" + rows["seed"].astype(str)) for rows in (first, second)]
    grouped = flops(compare(tables(*of_trunks)))
    assert grouped.value.value == plain.value.value
    assert width(grouped) > 1.5 * width(plain)


def test_arms_whose_sizes_differ_by_a_factor():
    first, second = planted_arms(2.5, noise=0.0)
    first["N"] *= 33  # look-up tables, which cost no FLOPs
    found = flops(compare(tables(first, second)))
    assert found.value.value == pytest.approx(2.5, rel=1e-3)


def test_cells_that_the_law_misses_are_said():
    first, second = planted_arms(2.0, seeds=4, noise=0.001)
    assert not [each for each in compare(tables(first, second)).findings if "fit" in each.name]
    rough = np.random.default_rng(0).normal(0, 0.01, 12)
    bent = first.assign(L=first["L"] * np.exp(np.repeat(rough, 4)))
    found = [each.name for each in compare(tables(bent, second)).findings]
    assert "lack of fit" in found


def test_what_one_arm_alone_says_is_a_warning():
    first, second = planted_arms(2.0)
    found = compare(tables(first.assign(unit="bits/byte"), second)).findings
    assert [each.message for each in found] == [
        "unit is said of a alone: is it the same of both arms?"
    ]


@pytest.fixture
def study(tmp_path):
    first, second = planted_arms(2.0, noise=0.002)
    return arms_study(tmp_path / "runs" / "recipe", {"base": first, "muon": second})


def test_a_study_by_its_arms(study, tmp_path, capsys):
    out = tmp_path / "compare.json"
    command = ["compare", str(study), "--arms", "base,muon", "--json", "--out", str(out)]
    assert main(command) == 0
    content = json.loads(out.read_text())
    assert json.loads(capsys.readouterr().out) == content
    value = content["multiplier"]
    assert value["low"] < 2 < value["high"] and set(value) == {"value", "low", "high", "at_loss"}
    assert set(content["trend"]) == {"exponent", "low", "high", "says"}
    assert content["paired"] is True and content["refused"] is None and content["p_value"] < 1e-6
    assert set(content["range"]) == {"loss", "flops"} and "seconds" in content["in"]


def refused(capsys, *words) -> str:
    assert main(["compare", *map(str, words)]) == 2
    said = capsys.readouterr()
    assert said.err.count("error: ") == 1 and said.err.endswith("\n")
    return said.err.splitlines()[-1]


def test_arms_that_are_not_there(study, capsys):
    said = refused(capsys, study, "--arms", "base,mon")
    assert "no arm 'mon'" in said and "did you mean 'muon'" in said and "base, muon" in said
    assert "no arm 'x'" in refused(capsys, study, "--arms", "x,y")
    assert "expected two names" in refused(capsys, study, "--arms", "base")
    assert "a name stands there twice" in refused(capsys, study, "--arms", "base,base")
    assert "name two arms" in refused(capsys, study)
    assert "--by: no column 'optimiser'" in refused(
        capsys, study, "--arms", "base,muon", "--by", "optimiser"
    )


def test_a_law_of_two_arms_is_refused(study, capsys):
    assert main(["fit", str(study), "--bootstrap", "100"]) == 0
    assert "arm takes 2 values ('base', 'muon')" in capsys.readouterr().out


SCORE = {"value": 0.0, "unit": "bits/byte", "kind": "exact", "split": "validation"}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"score": {"kind": "upper bound"}}, "score_kind differs: base has 'exact', muon 'upper"),
        ({"score": {"unit": "bits/token"}}, "loss_unit differs: base has 'bits/byte'"),
        ({"score": {"split": "train"}}, "split differs"),
        ({"data": {"fingerprint": "1" * 64}}, "fingerprint differs"),
        ({"data": {"unit": "images"}}, "data_unit differs"),
        ({"convention": {"params": "non_embedding"}}, "convention differs"),
    ],
)
def test_arms_of_other_scores_or_data_are_refused(study, capsys, tmp_path, change, match):
    for path in study.glob("*-armmuon/result.json"):
        content = json.loads(path.read_text())
        for key, values in change.items():
            content[key] |= values
        path.write_text(json.dumps(content))
    out = tmp_path / "compare.json"
    assert match in refused(capsys, study, "--arms", "base,muon", "--out", out)
    content = json.loads(out.read_text())
    assert match in content["refused"] and content["multiplier"] is None


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(first=lambda rows: rows, second=lambda rows: rows):
        for name, change, rows in zip("ab", (first, second), planted_arms(2.0), strict=True):
            change(rows).to_csv(f"{name}.csv", index=False)
        return ["a.csv", "b.csv", *COLUMNS]

    return write


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda rows: rows.head(1), "b is one run"),
        (lambda rows: rows.head(2), "b has 2 runs from 4e+11 to 4e+11 FLOPs"),
        (lambda rows: rows[rows["C"] < 5e11], "expected 3 or more, at two budgets"),
        (lambda rows: rows.assign(L=rows["L"] / 9), "losses do not overlap: a has"),
        (
            lambda rows: rows.assign(C=rows["C"] / 8.64e19),
            "times the 'C' of b at the same losses",
        ),
        (lambda rows: rows.assign(L=-rows["L"]), "column 'L' is not positive"),
        (lambda rows: rows.rename(columns={"C": "c"}), "no column 'C' in b.csv"),
        (lambda rows: rows.assign(unit="nats"), "unit differs: a has 'bits', b 'nats'"),
        (
            lambda rows: rows.assign(unit=["nats", "bits"] * (len(rows) // 2)),
            "b mixes unit: nats and bits",
        ),
    ],
)
def test_a_table_that_is_no_arm(files, capsys, change, match):
    words = files(lambda rows: rows.assign(unit="bits"), change)
    assert match in refused(capsys, *words)


@pytest.mark.parametrize("name", ["FLOP/s", "flops_per_second", "TFLOPS"])
def test_flops_a_second_are_no_flops(files, capsys, name):
    words = files(*[lambda rows: rows.rename(columns={"C": name})] * 2)
    words[words.index("C")] = name
    assert "expected FLOPs, not FLOP/s" in refused(capsys, *words)


def test_losses_that_do_not_fall(files, capsys):
    def shuffled(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(L=rows["L"].sample(frac=1, random_state=1).to_numpy())

    assert "losses do not fall with C" in refused(capsys, *files(shuffled, shuffled))


def test_options_that_do_not_go_together(files, capsys):
    words = files()
    assert "--by: only for one table" in refused(capsys, *words, "--by", "arm")
    assert "3 names for two tables" in refused(capsys, *words, "--arms", "a,b,c")
    one = refused(capsys, *words[:1], *words[2:], "--arms", "a,b", "--part", "text")
    assert "--part: only for a run folder" in one
    assert "3 tables" in refused(capsys, "a.csv", *words)
    assert "--score: only for a run folder" in refused(capsys, *words, "--score", "validation")
    assert "--loss: name the column" in refused(capsys, "a.csv", "b.csv", "--flops", "C")


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize(
    ("multiplier", "exponent", "noise", "shared"),
    [(1.0, 0.0, 0.02, 0.0), (2.5, 0.0, 0.01, 0.01), (2.0, 0.1, 0.005, 0.02)],
)
def test_intervals_hold_planted_multipliers(multiplier, exponent, noise, shared, seeds):
    """As often as they say, as near as 200 tables tell; of the exponent a little more often."""
    inside = []
    for draw in range(200):
        arms = planted_arms(multiplier, exponent, seeds, noise, shared, draw=draw)
        found = flops(compare(tables(*arms)))
        truth = planted_at(found.at_loss, multiplier, exponent, arms[1]["N"].unique())
        assert found.trend is not None
        trend = found.trend.low <= exponent <= found.trend.high
        inside.append((found.value.low <= truth <= found.value.high, trend))
    value, trend = np.mean(inside, axis=0)
    assert 0.92 <= value <= 0.985 and 0.92 <= trend <= 1  # up to 0.995 is what we found
