"""Run folders in a bucket: the same runs, tables and leases as on a disk."""

import fsspec
import pandas as pd
import pytest
from jax import numpy as jnp
from orbax.checkpoint._src.path import gcs_utils

from launch import local
from research import study
from research.__main__ import main
from research.errors import Interrupted, UserError
from research.run import checkpoint, lease, mirror, record, storage
from research.run.rows import read_rows
from research.scaling.table import read_file, read_runs
from research.train import train
from tests import bucket, tiny
from tests.reliability.interrupt import stop_at


@pytest.fixture(scope="module")
def server():
    return bucket.Server()


@pytest.fixture
def root(server, monkeypatch):
    """An empty bucket."""
    for name in ("gs", "gcs", "s3"):
        fsspec.register_implementation(name, bucket.Bucket, clobber=True)
    monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", server.address)
    monkeypatch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "none")
    # Orbax asks Google itself what kind of bucket it is.
    monkeypatch.setattr(gcs_utils, "is_hierarchical_namespace_enabled", lambda path: False)
    bucket.Bucket.store.clear()
    bucket.Bucket.pseudo_dirs[:] = [""]
    return storage.path("gs://bucket/runs")


def content(run):
    """What a run's folder holds that does not depend on when: its result and its rows."""
    late = ("seconds", "goodput", "finished_at")
    result = {k: v for k, v in record.read_json(run / "result.json").items() if k not in late}
    rows = read_rows(run / "metrics.jsonl")
    return result, [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_a_run_stops_and_goes_on(config, whole, root, monkeypatch, scheme):
    """Stopped between two checkpoints and resumed, it ends as one on a disk does."""
    root = storage.path(f"{scheme}://bucket/runs")
    stop_at(monkeypatch, 9)
    stopped = f"{scheme}://bucket/runs/run: stopped at step 10 of 25, saved"
    with pytest.raises(Interrupted, match=stopped):
        train(config, root / "run")
    assert [row["step"] for row in read_rows(root / "run" / "metrics.jsonl")] == [2, 4, 6, 8, 10]
    train(config, root / "run")
    assert content(root / "run") == (whole["result"], whole["rows"])
    assert storage.names(root / "run" / ".lease") == ["1", "2"]
    assert not (root / "run" / "progress.json").exists()


def test_only_whole_checkpoints_come_back_from_s3(config, root):
    """What was being copied when a process was killed does not count, and is copied again."""
    folder = storage.path("s3://bucket/runs/run/checkpoints")
    state = {"w": jnp.arange(4.0)}
    with checkpoint.writer(folder) as checkpoints:
        for step in (1, 2, 3):
            checkpoint.save(checkpoints, step, state, {"step": step})
    assert storage.names(folder) == ["2", "3"]  # it keeps two
    (folder / "3" / mirror.COMMITTED).unlink()
    assert checkpoint.reader(folder).all_steps() == [2]
    with checkpoint.writer(folder) as checkpoints:
        found = checkpoint.restore_newest(checkpoints, state)
        assert found and found[0] == found[2]["step"] == 2
        assert found[1]["w"].tolist() == [0, 1, 2, 3]
        checkpoint.save(checkpoints, 3, state, {"step": 3})
    assert checkpoint.reader(folder).all_steps() == [2, 3]


@pytest.mark.parametrize("scheme", ["", "s3://"])
def test_a_checkpoint_too_many_goes_when_the_run_goes_on(root, tmp_path, scheme):
    """Whoever is killed between a save and its clean-up leaves one; 1 is a branch's, and stays."""
    folder = storage.path(f"{scheme}bucket/checkpoints" if scheme else tmp_path / "checkpoints")
    state = {"w": jnp.arange(4.0)}
    with checkpoint.writer(folder, (1,), keep=4) as checkpoints:
        for step in (1, 2, 3, 4):
            checkpoint.save(checkpoints, step, state, {})
    with checkpoint.writer(folder, (1,), keep=2) as checkpoints:
        checkpoint.tidy(checkpoints, 4, (1,), keep=2)
        assert checkpoints.all_steps() == [1, 3, 4]
    assert sorted(storage.names(folder)) == ["1", "3", "4"]


def test_several_processes_need_more_than_s3(monkeypatch):
    monkeypatch.setattr(checkpoint.jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="several processes need gs:// or a folder that all share"):
        checkpoint.check(storage.path("s3://bucket/runs/run"))
    checkpoint.check(storage.path("gs://bucket/runs/run"))


def test_a_sweep_and_its_table(tmp_path, root):
    trials = [{"size": size, "train.steps": 4} for size in (8, 16)]
    loaded = study.load(tiny.write(tmp_path, trials), ["--config.checkpoint.every_steps=0"])
    study.write_description(loaded, root / "tiny")
    local.work(loaded, root / "tiny")
    assert all(local.finished(root / "tiny", trial) for trial in loaded.trials)
    assert (root / "tiny" / loaded.trials[-1].id / "samples.txt").exists()
    (table,) = read_runs("gs://bucket/runs/tiny").values()
    assert sorted(table.frame["id"]) == sorted(trial.id for trial in loaded.trials)
    study.check_folder(loaded, root / "tiny")
    with pytest.raises(UserError, match="holds a run of another config"):
        study.check_folder(
            study.load(tiny.write(tmp_path, trials), ["--config.seed=1"]), root / "tiny"
        )


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_a_table_in_a_bucket(root, name):
    frame = {"N": [1e6, 2e6, 4e6], "D": [1e8] * 3, "L": [3.0, 2.9, 2.8]}
    frame = pd.DataFrame(frame)
    path = f"gs://bucket/{name}"
    csv = name.endswith("csv")
    storage.write(path, frame.to_csv(index=False).encode() if csv else frame.to_parquet())
    table = read_file(path, params="N", data="D", loss="L")
    assert table.frame["L"].tolist() == [3.0, 2.9, 2.8]
    with pytest.raises(UserError, match="gs://bucket/tabel.csv: no such file"):
        read_file("gs://bucket/tabel.csv", params="N", data="D", loss="L")


def test_a_lease_in_a_bucket(root):
    held = lease.take(root / "run")
    with pytest.raises(lease.Held, match="in use by process"):
        lease.take(root / "run")
    assert not storage.create(root / "run" / ".lease" / "1", b"late")
    held.release()
    lease.take(root / "run").release()
    with pytest.raises(lease.Held, match="silent for too long"):
        held.check()


@pytest.mark.parametrize(
    "name, said",
    [
        ("gcs://bucket/runs", "neither a local path nor one of gs://, s3:// (did you mean 'gs'?)"),
        ("http://host/runs", "neither a local path nor one of gs://, s3://"),
        ("s3://bucket/runs", "s3:// needs s3fs: pip install s3fs"),
    ],
)
def test_other_addresses(config, tmp_path, monkeypatch, capsys, name, said):
    def absent(scheme):
        raise ImportError(scheme)

    monkeypatch.setattr(fsspec, "get_filesystem_class", absent)
    run = ["train", "--config", str(tmp_path / "tiny.py"), "--workdir", name]
    assert main(run) == 2
    assert capsys.readouterr().err == f"error: {name}: {said}\n"
