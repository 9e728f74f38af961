"""The book of studies: what it reads of a study, what it asks of a table, and the page itself."""

import re

import numpy as np
import pandas as pd
import pytest

from research.__main__ import main
from research.report import book, book_answers, book_studies
from tests.report import test_browser

PLANTED = '''"""How does the loss fall with the width?

Question: with which power of the width does it fall, in two arms?
Cost: 2e9 FLOPs in 16 trials, a minute (Hoffmann et al. 2022). The runs are beside it.
Expected, as found: as width^-0.5, and

- half as fast without `x < y`

Literature: partly: as in Kaplan et al. (2020), and not as in Peebles & Xie 2023.
"""

import nothing_that_exists

FAMILY, SOURCE = "autoregressive", "markov"
ANSWERS = ("power --loss loss --over size",)
'''
NOT_RUN = '''"""What would a large diffusion model cost?

Question: on which slice does it fit? Cost: 3e20 FLOPs, 900 minutes. Expected: nobody knows.
"""

PARTS = {"pretrain": {"family": "diffusion", "data": "glyphs"}}
AXES = {"model.depth": (1, 2), "size": 16}
'''


def write_studies(folder):
    """Two studies: one with a table, powers -.5 and -.25 of the width in it, and one without."""
    folder.mkdir(exist_ok=True)
    (folder / "widths.py").write_text(PLANTED)
    (folder / "large.py").write_text(NOT_RUN)
    size = np.tile([16, 32, 64, 128], 4)
    arm = np.repeat(["fast", "slow"], 8)
    seed = np.tile(np.repeat([0, 1], 4), 2)
    noise = 1 + 1e-3 * np.cos(7 * np.arange(16))
    loss = 9 * size ** np.where(arm == "fast", -0.5, -0.25) * noise
    rows = {"arm": arm, "size": size, "seed": seed, "loss": loss, "flops": 1e6 * size}
    pd.DataFrame(rows).to_csv(folder / "widths.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    return write_studies(tmp_path_factory.mktemp("book") / "studies")


@pytest.fixture(scope="module")
def html(studies):
    out = studies.parent / "book.html"
    assert main(["book", str(studies), "--out", str(out)]) == 0
    return out.read_text()


def test_a_study_says_what_it_is_without_being_run(studies):
    widths, large = book_studies.read_studies(studies)
    assert (widths.name, widths.families, widths.sources) == (
        "widths",
        ("autoregressive",),
        ("markov",),
    )
    assert widths.title == "How does the loss fall with the width?"
    assert widths.sections["Expected"].startswith("As width^-0.5, and\n\n- half as fast")
    assert widths.cited == ("Hoffmann et al. 2022", "Kaplan et al. 2020", "Peebles & Xie 2023")
    assert widths.agrees == "agrees partly" and large.agrees == ""
    assert widths.axes == ("arm", "seed", "size") and large.axes == ("model.depth", "size")
    assert large.table is None and not large.faults
    assert large.sections == {  # heads may stand within a line, as in CONTRIBUTING.md
        "Question": "On which slice does it fit?",
        "Cost": "3e20 FLOPs, 900 minutes.",
        "Expected": "Nobody knows.",
    }


def test_the_planted_law_is_asked_of_the_table(studies):
    chapter = book.ask(book_studies.read_study(studies / "widths.py"))
    (answer,) = chapter.answers
    found = {row.of: row for row in answer.rows}
    for arm, power in (("fast", -0.5), ("slow", -0.25)):
        low, value, high = (getattr(found[arm], name) for name in ("low", "value", "high"))
        assert low < min(power, value) <= max(power, value) < high
        assert value == pytest.approx(power, abs=2e-3)
    assert chapter.law == ("power", answer.rows[0]) and len(chapter.figures) == 1
    assert chapter.spent == "16 rows, 9.6e08 FLOPs"


def test_columns_choose_the_verb_where_the_study_does_not():
    def table(**columns):
        return pd.DataFrame(columns)

    N = np.arange(1, 13)
    assert book_answers.by_columns(table(loss=N, params=N, tokens=N, flops=N)) == (
        "fit --params params --data tokens --flops flops --loss loss --law chinchilla",
    )
    arms = table(loss=N, size=N, flops=N, arm=["a", "b c"] * 6, part=["x"] * 6 + ["y"] * 6)
    words = "compare --arms 'a,b c' --params size --flops flops --loss loss --where "
    assert book_answers.by_columns(arms) == (f"{words}\"part == 'x'\"", f"{words}\"part == 'y'\"")
    assert book_answers.by_columns(table(loss=N, depth=N, rate=N)) == (
        "transfer --loss loss --rate rate --over depth",
    )
    curves = table(size=N, batch=N, rate=N, seed=N, step=N, loss=N)
    assert book_answers.by_columns(curves) == ("batch",)
    assert book_answers.by_columns(table(loss=N, params=N)) == ("power --loss loss --over params",)
    assert book_answers.by_columns(table(stream=N, size=N)) == ()


@pytest.mark.parametrize(
    "words, said",
    [
        ("powr --loss loss", "no verb 'powr' (did you mean 'power'?)"),
        ("power --loss loss --over widht", "no column 'widht' in"),
        ("power --loss loss --ovr size", "required: --over"),
        ("power --loss loss --over size --figure x.png", "the book writes nothing else"),
        ("power --loss 'loss", "No closing quotation"),
    ],
)
def test_what_cannot_be_asked_is_one_line(studies, words, said):
    answer = book_answers.ask(words, studies / "widths.csv")
    assert said in answer.refused and "\n" not in answer.refused and not answer.rows


def test_a_broken_study_is_named_and_costs_the_others_nothing(tmp_path, capsys):
    folder = write_studies(tmp_path / "studies")
    (folder / "broken.py").write_text('"""A study.\n')
    (folder / "silent.py").write_text("PARTS = {}\n")
    (folder / "silent.csv").write_text("")
    (folder / "odd.py").write_text('"""Odd?\n\nLiterature: maybe.\n"""\n\nANSWERS = make()\n')
    out = tmp_path / "page.html"
    assert main(["book", str(folder), "--out", str(out)]) == 0
    lines = capsys.readouterr().err.splitlines()
    for name, said in (
        ("broken.py, line 1", "is no Python"),
        ("silent.py", "has no docstring; expected"),
        ("silent.csv", "empty"),
        ("odd.py", "Literature: begins with 'maybe'; expected agrees, disagrees, partly"),
        ("odd.py, line 6", "ANSWERS: expected a tuple of strings"),
    ):
        (line,) = [each for each in lines if name in each and said in each]
        assert line.startswith("warning: ")
    assert len(lines) == 5
    assert out.read_text().count("<article") == 5
    assert main(["book", str(tmp_path / "none")]) == 2
    assert "no study; expected a folder" in capsys.readouterr().err


def test_the_page_is_whole_and_the_same_again(studies, html):
    out = studies.parent / "again.html"
    assert main(["book", str(studies), "--out", str(out)]) == 0
    assert out.read_text() == html
    assert not re.findall(r'(?:src|srcset|href)="(?!data:|#)', html)
    assert "<code>x &lt; y</code>" in html and "width<sup>-0.5</sup>" in html
    for kind in ("With which power", "Law", "Cost", "Literature: agrees partly", "not run here"):
        assert kind in html


# Searches, then leaves what it saw in the page; `seen` is what test_browser.LISTEN heard.
REPORT = """<script>
addEventListener("load", () => {
  const form = document.getElementById("find");
  const open = () => [...document.querySelectorAll("tr[data-study], article")]
    .filter((element) => element.getBoundingClientRect().height > 0)
    .map((element) => element.id || element.dataset.study);
  const ask = (name, value) => {
    form.reset();
    form.elements[name].value = value;
    form.dispatchEvent(new Event("input"));
    return open();
  };
  const wide = [...document.querySelectorAll("body *")].filter((element) =>
    element.getBoundingClientRect().right > innerWidth + 1 && !element.closest(".scroll, pre"));
  const picture = document.querySelector("picture img");
  picture.decode().then(() => {
    const answer = {
      seen, width: innerWidth, needed: document.documentElement.scrollWidth,
      wide: wide.map((element) => element.outerHTML.slice(0, 80)),
      all: open(), words: ask("words", "KAPLAN width"), nobody: ask("words", "kaplan slice"),
      family: ask("family", "diffusion"), axis: ask("axis", "arm"),
      agrees: ask("agrees", "not said"),
      again: ask("words", ""), picture: [picture.naturalWidth, picture.currentSrc],
      background: getComputedStyle(document.body).backgroundColor,
    };
    parent.postMessage(btoa(JSON.stringify(answer)), "*");
  });
});
</script>"""


@pytest.mark.skipif(
    test_browser.BROWSER is None, reason="no Chromium here: the book was not opened"
)
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["desktop", "phone"])
def test_the_book_in_a_browser(html, tmp_path, monkeypatch, width, dark):
    monkeypatch.setattr(test_browser, "REPORT", REPORT)
    answer = test_browser.look(html, tmp_path, width, dark)
    assert answer["seen"] == []
    assert answer["width"] == width
    assert answer["needed"] <= width and answer["wide"] == []
    both, first, second = ["widths", "large"] * 2, ["widths"] * 2, ["large"] * 2
    assert answer["all"] == answer["again"] == both
    assert answer["words"] == answer["axis"] == first
    assert answer["family"] == answer["agrees"] == second and answer["nobody"] == []
    light, night = re.findall(r'srcset="([^"]+)"', html), re.findall(r'<img src="([^"]+)"', html)
    assert answer["picture"] == [answer["picture"][0], (light if dark else night)[0]]
    assert answer["picture"][0] > 300
    assert answer["background"] == ("rgb(20, 25, 31)" if dark else "rgb(255, 255, 255)")


@pytest.mark.skipif(
    test_browser.BROWSER is None, reason="no Chromium here: the book was not opened"
)
def test_a_law_in_size_and_data_is_found_where_nothing_else_is_said(tmp_path, monkeypatch):
    """A study of the least: no family, no axis that could be chosen, no verb of its own."""
    (tmp_path / "least.py").write_text('"""How does the loss fall?"""\n')
    N, D = (each.ravel() for each in np.meshgrid([1e5, 1e6, 1e7, 1e8], [1e7, 1e8, 1e9, 1e10]))
    loss = 1.5 + 300 / N**0.4 + 200 / D**0.3
    runs = {"params": N, "tokens": D, "flops": 6 * N * D, "loss": loss}
    pd.DataFrame(runs).to_csv(tmp_path / "least.csv", index=False)
    (chapter,) = chapters = [book.ask(each) for each in book_studies.read_studies(tmp_path)]
    assert chapter.law is not None and chapter.law[0] == "fit"
    assert chapter.law[1].name == "alpha" and chapter.law[1].value == pytest.approx(0.4, rel=1e-4)
    page = book.render(chapters)
    assert 'name="family"' not in page
    answer = """<script>addEventListener("load", () => parent.postMessage(btoa(JSON.stringify(
      { seen, count: document.getElementById("count").textContent })), "*"));</script>"""
    monkeypatch.setattr(test_browser, "REPORT", answer)
    found = test_browser.look(page, tmp_path, 390, False)
    assert found == {"seen": [], "count": "1 of 1 studies"}


def test_the_book_lists_every_study_without_a_script(html):
    body = re.sub(r"<script>.*?</script>", "", html, flags=re.S)
    assert body.count("<article") == 2 and 'role="search" hidden' in body
    assert not re.search(r"<(article|tr)[^>]* hidden", body)
