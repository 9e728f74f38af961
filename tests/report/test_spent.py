"""Where the time went, in a sentence and a figure: every second of every run, trunks too."""

import json

import pytest

from research.report import chapters, spent
from research.report.load import read_study
from tests.report.synthetic import PARTS, write_study


@pytest.fixture
def folder(tmp_path):
    write_study(tmp_path, parts=PARTS[2:], samples=False)
    return tmp_path


def test_every_second_is_in_the_figure(folder):
    """Shares of a part sum to 100, its seconds to those of its runs; the study's above all."""
    study = read_study(folder)
    results = [json.loads(path.read_text()) for path in folder.glob("*/result.json")]
    (rows,) = spent.draw_time(study.time).to_dict()["datasets"].values()  # held to the schema
    assert list(dict.fromkeys(row["part"] for row in rows)) == [
        spent.WHOLE, "Markov chain, autoregressive", "Gaussian mixture, diffusion",
    ]  # fmt: skip
    titles = {part.title: {part.name} for part in PARTS} | {spent.WHOLE: {"markov", "mixture"}}
    for title in {row["part"] for row in rows}:
        own = [row for row in rows if row["part"] == title]
        totals = [r["goodput"]["seconds"]["total"] for r in results if r["part"] in titles[title]]
        assert sum(row["seconds"] for row in own) == pytest.approx(sum(totals), rel=1e-12)
        assert sum(row["share"] for row in own) == pytest.approx(100, rel=1e-12)


def test_goodput_in_words(folder):
    study = read_study(folder)
    useful = study.time[study.time.phase == "useful"].seconds.sum()
    total = study.time.seconds.sum()
    said = chapters.time_figure(study.time).caption
    assert said.startswith(f"Goodput {100 * useful / total:.1f}%: of {total / 60:.1f} minutes ")
    assert f"{useful / 60:.1f} trained what was kept" in said
    rest = said.partition("Most of the rest: ")[2]
    assert [word.split()[0] for word in rest.split(", ")] == ["compile", "lost", "away"]


def test_the_share_of_each_run_is_in_the_table(folder):
    study = read_study(folder)
    for run in study.parts[0].runs.itertuples():
        result = json.loads((folder / run.id / "result.json").read_text())
        assert run.goodput == result["goodput"]["share"] > 0


def test_runs_that_do_not_say(folder):
    """They are left out, and where none says it there is nothing to draw."""
    paths = sorted(folder.glob("*/result.json"))
    for path in paths:
        result = json.loads(path.read_text())
        del result["goodput"]
        path.write_text(json.dumps(result))
    study = read_study(folder)
    assert len(study.time) == 0 and study.parts[0].runs.goodput.isna().all()


def test_one_part_needs_no_sum(tmp_path):
    write_study(tmp_path, parts=PARTS[2:3], samples=False)
    (rows,) = spent.draw_time(read_study(tmp_path).time).to_dict()["datasets"].values()
    assert {row["part"] for row in rows} == {"Markov chain, autoregressive"}
