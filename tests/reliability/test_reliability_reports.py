"""A report that is killed on its way is made again as if nobody had killed it."""

import itertools
import os
import shutil
import signal
from pathlib import Path

import pytest

from research.run import storage
from tests import tiny

# {moment: (how the name of the file begins that was about to get it, which of them)}
KILLS = {
    "between the drawing and the picture of the second figure": (".png", 2),
    "before the page": ("report.html", 1),
    "before the stamp": ("report.stamp", 1),
}


def report(folder: str, ending: str = "", count: str = "0") -> int:
    """`report`, which dies before the `count`-th file that ends in `ending` gets its name."""
    original, seen = os.replace, itertools.count(1)

    def dying(source, target):
        if ending and str(target).endswith(ending) and next(seen) == int(count):
            os.kill(os.getpid(), signal.SIGKILL)
        original(source, target)

    os.replace = dying
    return tiny.front_door("report", folder)


def made(folder: Path) -> dict[str, bytes]:
    """The page, the figures and the stamp."""
    paths = [*folder.glob("report.*"), *folder.glob("figures/[!.]*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def left(folder: Path) -> list[Path]:
    """What was not finished."""
    return list(folder.rglob(f"*{storage.TEMPORARY}"))


@pytest.mark.slow
def test_kill_9_at_every_moment_of_a_report(undisturbed, base, tmp_path):
    whole, folder = tmp_path / "whole" / "tiny", tmp_path / "killed" / "tiny"
    for each in (whole, folder):
        shutil.copytree(base / "tiny", each)
    code, out, err = tiny.Started(report, str(whole)).end()
    assert (code, err) == (0, []) and out == [str(whole / "report.html")]
    expected = made(whole)
    assert {"report.html", "report.stamp", "figures/headline.png"} <= expected.keys()
    for moment, (ending, count) in KILLS.items():
        code, out, err = tiny.Started(report, str(folder), ending, str(count)).end()
        assert (code, out, err) == (-signal.SIGKILL, [], []), moment
        found = made(folder)
        assert "report.stamp" not in found, moment  # nothing says that it is whole
        assert len(left(folder)) == 1, moment  # what the one before left is gone
        assert all(expected[name] == content for name, content in found.items()), moment
    assert tiny.Started(report, str(folder)).end() == (0, [str(folder / "report.html")], [])
    assert made(folder) == expected and left(folder) == []
    assert tiny.left(folder) == undisturbed


@pytest.mark.slow
def test_two_reports_at_once(undisturbed, base, tmp_path):
    """The second waits, and finds what the first has made."""
    folder = tmp_path / "tiny"
    shutil.copytree(base / "tiny", folder)
    ends = [each.end() for each in [tiny.Started(report, str(folder)) for _ in range(2)]]
    waited = f"waiting for another process, which is writing {folder}/report.html ..."
    assert [end[:2] for end in ends] == [(0, [str(folder / "report.html")])] * 2
    assert sorted(end[2] for end in ends) in ([[], []], [[], [waited]])
    assert left(folder) == []
