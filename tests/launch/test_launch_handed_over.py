"""What a sweep has loaded and counted is not loaded and counted again by its workers."""

from pathlib import Path

import pytest

from launch import local
from research import config as configs
from research import cost, counts, study
from tests import tiny


def test_a_worker_takes_over_what_the_sweep_loaded(tmp_path, monkeypatch):
    spec = tiny.write(tmp_path, tiny.TWO_SIZES)
    loaded = study.load(spec)
    flops = [cost.ledger(trial.config).step_flops for trial in loaded.trials]
    assert len(set(flops)) == 2
    monkeypatch.setattr(local, "load_experiment", imported := [].append)
    with local._handed_over(loaded) as path:
        assert Path(path).stat().st_mode & 0o777 == 0o600
        monkeypatch.setattr(counts, "COUNTED", {})
        cost._ledger.cache_clear()
        taken = local.taken_over(path, spec)
    assert not Path(path).exists() and imported.__self__ == [spec]
    monkeypatch.setattr(cost, "_step_flops", lambda *_: pytest.fail("a step was traced"))
    assert [cost.ledger(trial.config).step_flops for trial in taken.trials] == flops
    pairs = [(ours, theirs) for a, b in zip(loaded.groups, taken.groups, strict=True)
             for ours, theirs in zip(a, b, strict=True)]  # fmt: skip
    assert len(pairs) == 5 and taken.name == loaded.name
    for ours, theirs in pairs:
        assert configs.to_plain(ours.config) == configs.to_plain(theirs.config)
        assert (ours.id, ours.trunk, ours.branch_step, ours.branches) == (
            theirs.id, theirs.trunk, theirs.branch_step, theirs.branches,
        )  # fmt: skip
