"""Parts on one ruler: planted powers and ratios of compute are found, or why not is said."""

import json

import pytest

from research.report import command
from research.report.chapters import ruler_figure
from research.report.load import read_study
from research.report.page import render
from research.report.rulers import read_rulers
from tests.report.synthetic import PlantedPart, write_study

SIZES = (1_500, 3_000, 6_000, 12_000, 24_000, 48_000)
BUDGETS = (1e10, 4e10, 1.6e11, 6.4e11)
POWER = 0.5  # of size and of data; with both, compute has half of it
TWICE = 2.0 ** (2 / POWER)  # times the compute, where every loss is twice as high


def part(name, title, data="ising", times=1.0):
    law = dict(E=0.0, A=2 * times, B=8 * times, alpha=POWER, beta=POWER)
    about = name, title, name, data, "bits/dim", "upper bound", "images"
    return PlantedPart(*about, **law, sizes=SIZES, budgets=BUDGETS, positions=16)


PARTS = (
    part("flow", "Flows on Ising lattices"),
    part("vae", "VAEs on Ising lattices", times=2.0),
    part("lone", "Flows on glyphs", data="glyphs"),
    part("silent", "Energies on Ising lattices"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study whose parts but the last ask for a ruler, of two scores; of one there is nothing."""
    folder = tmp_path_factory.mktemp("rulers") / "study"
    write_study(folder, parts=PARTS, noise=0.002, samples=False)
    study = json.loads((folder / "study.json").read_text())
    for name in ("flow", "vae", "lone"):
        study["parts"][name]["rulers"] = ["excess", "frechet"]
    (folder / "study.json").write_text(json.dumps(study))
    for path in folder.glob("*/result.json"):
        result = json.loads(path.read_text())
        if "score" in result:
            result["scores"] = {"bound": result["score"], "excess": result["score"]}
            path.write_text(json.dumps(result))
    return folder


@pytest.fixture(scope="module")
def ruler(folder):
    (found,) = read_rulers(read_study(folder))  # glyphs have one part, frechet no run
    return found


def test_families_stand_in_the_order_of_their_best_run(ruler):
    assert [family.name for family in ruler.families] == ["Flows", "VAEs"]
    assert ruler.heading == "Above the entropy on Ising lattices"
    assert set(ruler.runs.family) == {"Flows", "VAEs"}
    assert ruler.families[0].best == ruler.runs.loss.min()


def test_the_planted_power_of_compute_is_found(ruler):
    for family in ruler.families:
        assert family.exponent.low - 0.02 <= POWER / 2 <= family.exponent.high + 0.02
        assert family.at.low <= family.at.value <= family.at.high
    first, second = ruler.families
    assert second.at.value / first.at.value == pytest.approx(2, rel=0.05)


def test_the_planted_ratio_of_compute_is_found(ruler):
    first, second = ruler.families
    assert first.multiplier is None
    assert second.multiplier.low < TWICE < second.multiplier.high
    assert second.multiplier.value == pytest.approx(TWICE, rel=0.2)


def test_the_line_never_rises(ruler):
    for _, runs in ruler.runs[ruler.runs.best].groupby("family"):
        assert runs.sort_values("C").loss.is_monotonic_decreasing
        assert len(runs) == len(BUDGETS)


def test_runs_that_chance_puts_below_the_truth_are_counted_and_not_drawn(folder, ruler):
    runs = ruler.runs.copy()
    runs.loc[runs.loss.idxmin(), "loss"] = -1e-4
    below = type(ruler)(**{**vars(ruler), "runs": runs})
    figure = ruler_figure(below)
    assert "1 runs at the truth or below it" in figure.caption
    assert "-0.0001" not in json.dumps(figure.spec)
    assert "by chance" not in ruler_figure(ruler).caption


def test_the_page_has_the_ruler_and_its_numbers(folder, ruler):
    text = render(read_study(folder), [], rulers=[(ruler, ruler_figure(ruler))])
    assert "On one ruler" in text and 'id="ruler-ising-excess"' in text
    assert "FLOPs to match Flows" in text
    assert "On one ruler" not in render(read_study(folder), [])


@pytest.mark.slow
def test_the_report_draws_rulers_first(folder):
    page = command.write_report(folder)
    assert 'id="ruler-ising-excess"' in page.read_text()
    pictures = page.parent / "figures"
    assert (pictures / "ruler-ising-excess.png").exists()
    assert "Above the entropy on Ising lattices" in (pictures / "headline.svg").read_text()


def test_a_part_no_law_fits_says_why(tmp_path):
    few = [part("flow", "Flows on Ising lattices"), part("vae", "VAEs on Ising lattices")]
    few = [PlantedPart(**{**vars(each), "budgets": BUDGETS[:1]}) for each in few]
    write_study(tmp_path, parts=tuple(few), samples=False)
    study = json.loads((tmp_path / "study.json").read_text())
    for about in study["parts"].values():
        about["rulers"] = ["bound"]
    (tmp_path / "study.json").write_text(json.dumps(study))
    for path in tmp_path.glob("*/result.json"):
        result = json.loads(path.read_text())
        if "score" in result:
            path.write_text(json.dumps(result | {"scores": {"bound": result["score"]}}))
    (found,) = read_rulers(read_study(tmp_path))
    assert all(family.exponent is None and family.refused for family in found.families)
    assert len(ruler_figure(found).spec["layer"]) == 4
