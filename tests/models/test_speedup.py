"""What speculative decoding gains: published numbers, planted counts and seconds, and the verb."""

import json

import numpy as np
import pandas as pd
import pytest

from research import speculation
from research.__main__ import main
from research.sampling import speedup
from research.sampling.speculative import Speculated
from tests.report import synthetic


def test_the_formula_is_the_published_one():
    """Table 1 of Leviathan et al. 2023, which leaves the small network's cost out; its ends."""
    published = {(0.6, 2): 1.96, (0.7, 3): 2.53, (0.8, 5): 3.69, (0.9, 2): 2.71, (0.9, 10): 6.86}
    for (alpha, guesses), times in published.items():
        assert round(speedup.improvement(alpha, guesses, 0.0), 2) == times
        tokens = (1 - alpha ** (guesses + 1)) / (1 - alpha)
        assert speedup.tokens_a_look(alpha, guesses) == pytest.approx(tokens, rel=1e-12)
    assert speedup.tokens_a_look(1.0, 4) == 5 and speedup.tokens_a_look(0.0, 4) == 1
    assert speedup.improvement(0.3, 1, 0.3) == 1  # corollary 3.9: alpha is to be above c
    assert speedup.improvement(1.0, 4, 1.0) == 1


def planted(alpha: float) -> speedup.Gain:
    """Of two prompts, whose shares are alpha -.1 and alpha + .1; the second took ten times long."""
    held = np.rint(100 * np.array([alpha - 0.1, alpha + 0.1])).astype(int)
    guessed = [[Speculated([], 100, 1, n, 100), Speculated([], 50, 4, n, 100)] for n in held]
    seconds = np.array([[2.0, 1.0, 4.0, 1.0], [20.0, 10.0, 40.0, 10.0]])
    return speedup._gain(guessed, seconds, 110, (1, 4))


def test_a_gain_is_summed_up_over_prompts():
    gain = planted(0.5)
    assert gain.alpha.value == 0.5 and gain.alpha.interval == (0.4, 0.6) and gain.judged == 400
    assert gain.cost == 0.5 and gain.speed == 10
    assert gain.looks == (speedup.Look(1, 1.5, 5.0, 0.5), speedup.Look(4, 2.0, 20.0, 2.0))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A sweep, whose runs draw nothing and are as fast as planted."""

    def opened(folder, trial, length):
        params = trial["params"]["total"]
        return speculation.Guesser(trial["id"], params, 2.0, 2.0 * params, length)

    def measure(large, small, prompts, count, guesses, drawing, *, seed):
        assert (large, small, prompts, count, drawing.top_k) == (40, 40, [[1, 2]], 5, 7)
        assert guesses == (1, 4)
        return planted(0.5)

    synthetic.write_study(tmp_path / "sweep", parts=synthetic.PARTS[:2], samples=False)
    monkeypatch.setattr(speculation, "_prompts", lambda *_: ([[1, 2]], 40))
    monkeypatch.setattr(speculation, "_open", opened)
    monkeypatch.setattr(speculation.speedup, "measure", measure)
    return str(tmp_path / "sweep")


def test_the_verb_pairs_every_two_sizes(folder, tmp_path, capsys):
    """Each at its largest budget, of parts that draw tokens in order; in all three forms."""
    out = tmp_path / "out.csv"
    words = ["speculation", folder, "--tokens", "5", "--top_k", "7", "--guesses", "4,1"]
    assert main([*words, "--out", str(out)]) == 0
    first = " ".join(capsys.readouterr().out.splitlines()[2].split())
    assert first.startswith("820k 415k 0.500 [0.400, 0.600] 1.50 2.00 0.506 1 1.00x 0.50")
    assert first.endswith("4 2.00x 10")  # the best of two numbers of guesses
    table = pd.read_csv(out)
    assert len(table) == 2 * 28 and {*table.part} == {"text"}  # of 8 sizes
    assert all(table.large_params > table.small_params)
    wide = (f"text-{size}-3e12-s0" for size in ("24k", "50k", "101k", "203k", "407k", "812k"))
    assert {*table.large, *table.small} == {"text-6k-1e11-s1", "text-12k-3e11-s0", *wide}
    row = table.iloc[1]
    assert row.guesses == 4 and row.measured == 2 and row.c_seconds == 0.5
    assert row.c_flops == pytest.approx(row.small_params / row.large_params, rel=1e-4)
    assert row.expected_by_seconds == pytest.approx(1.9375 / 3, rel=1e-4)
    assert main([*words, "--json"]) == 0
    pairs = json.loads(capsys.readouterr().out)["pairs"]
    np.testing.assert_allclose([pair["c_flops"] for pair in pairs], table.c_flops, rtol=1e-4)


def test_what_cannot_be_measured_is_one_line(folder, tmp_path, capsys):
    for words, said in (
        (["--guesses", "0,2"], "--guesses 0,2: expected whole numbers from 1 up"),
        (["--prompts", "1"], "--prompts 1 must be at least 2"),
        (["--tokens", "0"], "--tokens 0 must be at least 1"),
        (["--top_p", "0"], "--top_p 0.0 must be above 0"),
        (["--out", "gain.json"], "--out gain.json: expected a name ending in .csv"),
        (["--part", "images"], "with that name draws tokens in order"),
        (["--part", "txt"], "did you mean 'text'"),
    ):
        assert main(["speculation", folder, *words]) == 2
        assert said in capsys.readouterr().err
    assert main(["speculation", str(tmp_path)]) == 2
    assert "study.json" in capsys.readouterr().err
