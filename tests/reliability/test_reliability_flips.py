"""One bit flipped in each file of a stopped run, in turn: the same run, or one line, never another.

Files whose content does not matter (marks of a commit, the heartbeat) give the same run; what is
not restored from a broken checkpoint is trained again. Nothing ends in a traceback.
"""

import random
import shutil

import pytest

from research.errors import Interrupted, UserError
from research.train import train
from tests import tiny
from tests.reliability.interrupt import stop_at


@pytest.mark.slow
def test_one_bit_of_each_file(config, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        stop_at(patch, 11)
        train(config, tmp_path / "stopped" / "run")
    stopped, draw, refused = tmp_path / "stopped" / "run", random.Random(0), []
    shutil.rmtree(stopped / ".lease")  # of a process that would be waited for
    files = [
        path for path in sorted(stopped.rglob("*")) if path.is_file() and "8" not in path.parts
    ]
    assert len(files) > 15
    for path in files:
        run = tmp_path / "flipped" / "run"
        shutil.copytree(stopped, run)
        content = bytearray(path.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        (run / path.relative_to(stopped)).write_bytes(content)
        try:
            train(config, run)
            left = tiny.left(run.parent)["run"]
            parts = ("result", "rows", "state")
            assert {p: left[p] for p in parts} == {p: whole[p] for p in parts}, path
        except UserError as error:
            assert "\n" not in str(error), path
            refused.append(path.name)
        shutil.rmtree(run.parent)
    assert {"config.json", "metrics.jsonl"} <= set(refused)
