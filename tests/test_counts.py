"""What an earlier process counted is read, unless the code that it counted has changed."""

import json

import pytest

from research import cost, counts, study
from research.run import code
from tests import tiny


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    spec = tiny.write(tmp_path_factory.mktemp("counts"), tiny.TWO_SIZES)
    return study.load(spec).trials[0].config


@pytest.fixture
def counted(monkeypatch):
    """An item for each time that a step was traced."""
    traced, count = [], cost._step_flops
    monkeypatch.setattr(cost, "_step_flops", lambda *given: traced.append(1) or count(*given))
    yield traced
    cost._ledger.cache_clear()


def _flops(config, monkeypatch):
    """FLOPs as a new process counts them."""
    monkeypatch.setattr(counts, "COUNTED", {})
    cost._ledger.cache_clear()
    return cost.ledger(config).step_flops_by_scope


def test_a_later_process_reads_what_was_counted(config, counted, tmp_path, monkeypatch):
    with counts.kept(tmp_path):
        first = _flops(config, monkeypatch)
        assert not list(tmp_path.iterdir())  # a study may still be refused
        counts.write(tmp_path)
        assert _flops(config, monkeypatch) == first and len(counted) == 1
    assert _flops(config, monkeypatch) == first and len(counted) == 2  # outside, nothing is read


def test_changed_code_and_a_damaged_file_are_counted_anew(config, counted, tmp_path, monkeypatch):
    with counts.kept(tmp_path):
        first = _flops(config, monkeypatch)
        counts.write(tmp_path)
        (path,) = (tmp_path / ".cache" / "flops").iterdir()
        path.write_text(json.dumps({**json.loads(path.read_text()), "optimizer": 0}))
        assert _flops(config, monkeypatch) == first and len(counted) == 2  # by its checksum
        counts.write(tmp_path)
        monkeypatch.setattr(code, "digest", lambda files: "of other files")
        assert _flops(config, monkeypatch) == first and len(counted) == 3


def test_a_full_disk_keeps_nothing_and_stops_nothing(config, counted, tmp_path, monkeypatch):
    (tmp_path / ".cache").write_text("no folder")
    with counts.kept(tmp_path):
        assert _flops(config, monkeypatch)
        counts.write(tmp_path)
        assert _flops(config, monkeypatch) and len(counted) == 2
