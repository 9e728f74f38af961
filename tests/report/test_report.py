"""The page: complete, self-contained, honest about what is missing, and equal to its tables."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser

import filelock
import markupsafe
import numpy as np
import pytest
from PIL import Image

from research.errors import UserError
from research.report import command, stamp
from research.report.findings import find
from research.report.load import read_study
from research.run import files
from research.sampling import pictures
from tests.report.synthetic import PARTS, write_study

UNFINISHED = ("text-24k-1e11-s0", "text-50k-1e12-s0")
DIVERGED = ("text-101k-3e11-s0",)


class Resources(HTMLParser):
    """Collects whatever a browser would fetch, and the ids of elements."""

    def __init__(self):
        super().__init__()
        self.fetched, self.ids = [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if "src" in values or (tag == "link" and "href" in values):
            self.fetched.append(values.get("src") or values["href"])
        if "id" in values:
            self.ids.append(values["id"])


@pytest.fixture(scope="module")
def report(data_folder):
    """A complete run folder with its report, of all pytest workers: (folder, ids of trials, html).

    No test changes what is in it.
    """
    home = data_folder.parent / "reports"
    home.mkdir(exist_ok=True)
    folder, names = home / "quickstart", home / "ids.json"
    with filelock.FileLock(home / ".lock"):
        if not names.exists():
            ids = write_study(folder)
            command.write_report(folder)
            names.write_text(json.dumps(ids))
    return folder, json.loads(names.read_text()), (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def found(report):
    """What the law lab finds in that folder, by part."""
    return find(read_study(report[0]))


def specs(html: str) -> dict:
    """Return the figures of a page by name."""
    found = re.search(r'id="figures">(.*?)</script>', html, re.S)
    assert found
    return json.loads(found[1])["specs"]


def test_page_fetches_nothing(report):
    _, _, html = report
    parser = Resources()
    parser.feed(html)
    assert parser.fetched and all(link.startswith("data:") for link in parser.fetched)
    assert not re.search(r"url\(\s*['\"]?http|@import", html)
    assert html.count("window.vegaEmbed=") == 1
    assert len(html) < 6_000_000


def test_every_figure_has_one_box_and_two_pictures(report):
    folder, _, html = report
    parser = Resources()
    parser.feed(html)
    names = list(specs(html))
    assert all(parser.ids.count(name) == 1 for name in names)
    for name in ["headline", *names]:
        with Image.open(folder / "figures" / f"{name}.png") as picture:
            assert picture.width > 600 and picture.height > 300
            small = picture.convert("RGB").resize((200, 150))
            assert len(set(small.tobytes())) > 20
        assert (folder / "figures" / f"{name}.svg").read_text().count("<path") > 5


def test_every_part_has_its_figures(report):
    _, _, html = report
    kinds = ("loss", "isoflop", "optimal-size", "optimal-data", "residuals-N", "curves")
    kinds += ("residuals-D", "residuals-C", "ladder", "coverage", "profiles", "trade-off")
    kinds += ("plan-loss", "plan-split", "size-exponents", "loss-exponents")
    assert {f"text-{kind}" for kind in kinds} <= set(specs(html))
    gaps = {name for name in specs(html) if name.endswith("floor-gap")}
    assert gaps == {"markov-floor-gap", "mixture-floor-gap"}
    assert "time-spent" in specs(html) and "Goodput " in html


def test_every_run_is_a_row(report):
    _, ids, html = report
    table = html[html.index('<table id="table">') :]
    rows = re.findall(r'<tr><td class="text" data-v="([^"]+)"', table)
    assert sorted(rows) == sorted(ids)


def test_figures_hold_the_numbers_of_the_results(report):
    folder, ids, html = report
    results = {name: json.loads((folder / name / "result.json").read_text()) for name in ids}
    spec = specs(html)["text-loss"]
    shown = {
        row["id"]: row
        for values in spec["datasets"].values()
        for row in values
        if "flags" in row and "predicted" not in row
    }
    assert sorted(shown) == sorted(name for name in ids if name.startswith("text-"))
    for name, row in shown.items():
        result = results[name]
        assert row["loss"] == result["score"]["value"]
        assert row["C"] == result["flops"]
        assert row["D"] == result["data"]["amount"]
        assert row["N"] == result["params"]["non_embedding"]


def test_the_planted_laws_are_told(report, found):
    _, _, html = report
    for part in (PARTS[0], PARTS[2]):
        laws = found[part.name]
        assert laws.size.low < part.exponent() < laws.size.high
        alpha = next(q for q in laws.quantities if q.name == "alpha")
        assert alpha.low < part.alpha < alpha.high
        best = laws.held_out.iloc[-1]
        assert best.budget == max(part.budgets) and best.low < best.loss < best.high
        assert f"{best.predicted:.4g} [{best.low:.4g}, {best.high:.4g}] {part.unit}" in html
    assert found["text"].runs.held_out.sum() == len(found["text"].held_out)


def test_refusals_are_said(report, found):
    _, _, html = report
    refusals = found["mixture"].refusals
    assert refusals
    assert all(str(markupsafe.escape(refusal)) in html for refusal in refusals)


def test_samples_are_inside(report):
    folder, _, html = report
    study = read_study(folder)
    text, images = study.parts[0].samples, study.parts[1].samples
    assert [s.params for s in text] == sorted(PARTS[0].sizes)
    assert len(images) == len(PARTS[1].sizes)
    assert html.count("data:image/png;base64,") == len(images) + len(study.parts[3].samples)
    assert html.count("data:audio/wav;base64,") == len(study.parts[2].samples) > 0
    assert "<pre>" in html


def test_partial_folder_is_provisional(tmp_path):
    ids = write_study(
        tmp_path, parts=PARTS[:1], unfinished=UNFINISHED, diverged=DIVERGED, samples=False
    )
    html = command.write_report(tmp_path, pictures=False).read_text()
    assert f"2 of {len(ids)} trials have no result yet" in html
    assert all(name in html for name in UNFINISHED)
    assert 'class="unusable"' in html and "diverged" in html
    assert "No run of this part has stored samples" in html


def test_few_runs_are_shown_and_the_fit_refused(tmp_path):
    few = tuple(name for name in write_study(tmp_path / "all", parts=PARTS[:1]))
    write_study(tmp_path / "few", parts=PARTS[:1], unfinished=few[3:])
    html = command.write_report(tmp_path / "few").read_text()
    assert "<strong>Refused.</strong>" in html
    assert all(name in html for name in few[:3])
    assert (tmp_path / "few" / "figures" / "headline.png").stat().st_size > 5000


def test_text_cannot_break_the_page(tmp_path):
    write_study(tmp_path, parts=PARTS[:1])
    hostile = "</script><script>alert(1)</script>"
    path = tmp_path / "study.json"
    study = json.loads(path.read_text())
    study["title"] = study["parts"]["text"]["title"] = hostile
    path.write_text(json.dumps(study))
    (tmp_path / "text-812k-3e12-s0" / "samples.txt").write_text(f"</pre>{hostile}")
    album = tmp_path / "text-812k-3e12-s0" / files.ALBUM
    album.mkdir()
    picture = pictures.to_png(np.zeros((4, 8, 8, 1), np.uint8), caption=f"</figure>{hostile}")
    (album / "film.png").write_bytes(picture)
    html = command.write_report(tmp_path, pictures=False).read_text()
    assert "<script>alert" not in html
    assert "&lt;/pre&gt;" in html
    assert "&lt;/figure&gt;" in html and "How they draw" in html
    assert base64.b64encode(picture).decode() in html


def test_a_diverged_run_may_lack_a_score(tmp_path):
    write_study(tmp_path, parts=PARTS[:1], diverged=DIVERGED)
    path = tmp_path / DIVERGED[0] / "result.json"
    result = json.loads(path.read_text())
    del result["score"]
    path.write_text(json.dumps(result))
    (part,) = read_study(tmp_path).parts
    (row,) = part.runs[part.runs.id == DIVERGED[0]].to_dict("records")
    assert not row["usable"] and row["flags"].startswith("diverged")


def test_a_part_without_a_score_is_left_out(tmp_path):
    ids = write_study(tmp_path, parts=PARTS[2:])
    mixture = tuple(name for name in ids if name.startswith("mixture"))
    write_study(tmp_path, parts=PARTS[2:], diverged=mixture)
    study = read_study(tmp_path)
    assert [part.name for part in study.parts] == ["markov"]
    html = command.write_report(tmp_path, pictures=False).read_text()
    assert f"{PARTS[3].title}: no trial of this part has a score" in html
    write_study(tmp_path, parts=PARTS[2:], diverged=tuple(ids))
    with pytest.raises(UserError, match="every trial diverged"):
        read_study(tmp_path)


def test_errors_are_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "study.json").write_text("{")
    write_study(tmp_path / "begun", parts=PARTS[:1], unfinished=())
    for result in (tmp_path / "begun").glob("*/result.json"):
        result.unlink()
    for name, words in (
        ("missing", "no such run folder"),
        ("empty", "no study.json"),
        ("bad", "not JSON"),
        ("begun", "no trial has finished"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            command.write_report(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / name / "report.html").exists()


def test_a_report_is_made_again_only_when_something_changed(report, tmp_path):
    folder, _, html = report
    page = command.write_report(folder)
    assert page.read_text() == html
    digest = stamp.stamp(folder, True)
    assert stamp.is_current(folder, digest)
    assert not stamp.is_current(folder, stamp.stamp(folder, False))
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    assert stamp.stamp(other, True) == digest and stamp.is_current(other, digest)
    picture = other / "figures" / "headline.svg"
    for path in (other / "report.html", picture, other / stamp.FILE):
        kept = path.read_bytes()
        for content in (kept[: len(kept) // 2], kept.replace(b"a", b"b", 1), None):
            path.unlink() if content is None else path.write_bytes(content)
            assert not stamp.is_current(other, digest), path
        path.write_bytes(kept)
    assert stamp.is_current(other, digest)
    result = next(other.glob("*/result.json"))
    result.write_text(result.read_text() + "\n")
    assert stamp.stamp(other, True) != digest


def test_a_current_report_is_not_fitted_again(report, monkeypatch):
    folder = report[0]
    monkeypatch.setattr(command, "find", lambda study: pytest.fail("fitted again"))
    command.write_report(folder)
