"""A user's mistake is one clear line on stderr and exit code 2, before anything is written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from research import runtime, study
from research.__main__ import main

CHAIN = "experiments/quickstart.py:markov"


@pytest.fixture
def refused(capsys, tmp_path, data_folder, monkeypatch):
    """Run a command and return its one line, after checking that nothing else happened."""
    monkeypatch.setattr(runtime, "prepare", lambda folder: None)  # it is for this process to keep
    small = [f"--config.data.folder={data_folder}", "--config.data.tokens=4000"]
    small += ["--config.data.validation_tokens=2000"]

    def run(*words, configured=False):
        out = tmp_path / "out"
        before = sorted(tmp_path.rglob("*"))
        words = [word.replace("OUT", str(out)).replace("TMP", str(tmp_path)) for word in words]
        assert main([*words, *(small if configured else [])]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), lines
        assert sorted(tmp_path.rglob("*")) == before
        return lines[0]

    return run


MOE = "--config.model.channel=moe"


@pytest.mark.parametrize(
    "flag, said",
    [
        ("--config.modle.depth=2", "did you mean 'model'"),
        ("--config.model.dept=2", "did you mean 'depth'"),
        ("--config.model.depth.deeper=2", "has no key 'deeper'"),
        ("--config.model.depth=six", "expected int, got 'six'"),
        ("--config.model.depth=2.5", "expected int"),
        ("--config.model.qk_norm=7", "expected bool"),
        ("--config.train.learning_rate=fast", "expected float"),
        ("--config.model=3", "is a section"),
        ("--config.model.depth", "set as --config.key=value"),
        ("--depth=3", "unknown argument '--depth=3'"),
        ("--config.model.depth=0", "depth=0 must be at least 1"),
        ("--config.model.num_heads=3", "nearest valid num_heads"),
        ("--config.model.num_heads=32", "positions='rotary' needs an even head size"),
        ("--config.model.num_kv_heads=3", "not divisible by num_kv_heads=3"),
        ("--config.model.num_kv_heads=-1", "must not be negative"),
        ("--config.model.mlp_ratio=-1", "mlp_ratio=-1.0 must be positive"),
        ("--config.model.activation=relu_2", "did you mean 'relu2'"),
        ("--config.model.norm=rms", "did you mean 'rmsnorm'"),
        ("--config.model.vocab_size=4", "too small for the 8 symbols"),
        ("--config.train.batch_size=12", "not divisible by 8 data-parallel devices"),
        ("--config.train.batch_size=0", "at least 1"),
        ("--config.hardware.accumulation=3", "micro-batches; nearest valid: 24"),
        ("--config.train.steps=0", "at least 1"),
        ("--config.train.learning_rate=-0.1", "must be positive"),
        ("--config.train.schedule=wds", "did you mean 'wsd'"),
        ("--config.train.warmup_steps=100000", "exceed steps"),
        ("--config.train.decay_steps=-1", "train.decay_steps=-1 must be at least 0"),
        ("--config.train.b1=1.0", "train.b1=1.0 must be at least 0 and below 1"),
        ("--config.train.ema_decay=1.0", "ema_decay=1.0 must be at least 0 and below 1"),
        ("--config.train.clip_norm=-1.0", "clip_norm=-1.0 must be at least 0"),
        ("--config.train.batch_size=4000", "batch_size=4000 is larger than the 31 examples"),
        ("--config.train.steps=1e30", "below 2147483648"),
        (
            "--config.evaluation.batch_size=7",
            "config.evaluation.batch_size=7 is not divisible by 8",
        ),
        ("--config.evaluation.examples=0", "evaluation.examples=0 must be at least 1"),
        ("--config.checkpoint.keep=0", "checkpoint.keep=0 must be at least 1"),
        ("--config.log_steps=0", "log_steps=0 must be at least 1"),
        ("--config.seed=-1", "config.seed=-1 must be at least 0"),
        ("--config.sampling.temperature=-1.0", "temperature=-1.0 must not be negative"),
        ("--config.budget=-1.0", "config.budget=-1.0 must be positive"),
        ("--config.model.width=0", "model.width=0 must be at least 1"),
        ("--config.model.depth=-1", "model.depth=-1 must be at least 1"),
        ("--config.model.num_heads=0", "model.num_heads=0 must be at least 1"),
        ("--config.model.mlp_ratio=0.001", "leaves no hidden unit"),
        ("--config.data.length=0", "data.length is 0"),
        ("--config.hardware.remat=all", "is not one of none, full, dots, attention, offload"),
        ("--config.hardware.compute_dtype=float16", "is not one of float32, bfloat16"),
        ("--config.hardware.unroll=0", "at least 1"),
        ("--config.hardware.attention=flash", "is not one of dense, chunked, splash"),
        ("--config.hardware.loss_chunks=5", "loss_chunks=5 does not divide config.data.length"),
        ("--config.hardware.loss_chunks=0", "loss_chunks=0 must be at least 1"),
        ("--config.hardware.mesh.stage=4", "stage=4 does not divide config.model.depth"),
        ("--config.model.num_experts=4", "num_experts'; it belongs to model.channel='moe'"),
        (f"{MOE} --config.model.num_experts=1", "experts_per_token=2 must be from 1 to num_exp"),
        (f"{MOE} --config.model.capacity_factor=-0.5", "capacity_factor=-0.5 must not be negative"),
        (f"{MOE} --config.model.shared_experts=-1", "shared_experts=-1 must not be negative"),
        (f"{MOE} --config.model.router=sigmod", "did you mean 'sigmoid'"),
        (f"{MOE} --config.model.router=expert_choice", "sees later positions"),
        (
            f"{MOE} --config.model.balance_rate=0.1 --config.train.optimizer=sgd",
            "balance_rate=0.1 needs an optimizer",
        ),
        ("--config.hardware.mesh.data=3", "there are 8"),
        ("--config.hardware.mesh.tensor=0", "must be positive"),
        ("--config.hardware.mesh.fsdp=-1", "at most one -1"),
        ("--config.family=autoregresive", "did you mean 'autoregressive'"),
        ("--config.family=no.such.module", "No module named"),
        ("--config.recipe=laddr", "did you mean 'ladder'"),
        ("--config.size=0", "the width, at least 1"),
        ("--config.data.name=markow", "markow"),
        ("--config.data.order=9", "data.order is 9"),
        ("--config.data.concentration=-1.0", "concentration"),
    ],
)
def test_bad_configs(refused, flag, said):
    line = refused("train", "--config", CHAIN, "--workdir", "OUT", *flag.split(), configured=True)
    assert said in line


COPIED = Path("experiments/quickstart.py").read_text()
EXPERIMENTS = {
    "syntax.py": ("def get_config(:\n", "SyntaxError"),
    "bare.py": ("get_config = None\n", "an experiment defines PARTS"),
    "imports.py": ("import no_such_package\n", "no_such_package"),
    "fails.py": ("PARTS = {'a': {}}\n\n1 / 0\n", "fails.py:3: ZeroDivisionError"),
    "parts.py": ("PARTS = {}\nget_config = dict\n", "an experiment defines PARTS"),
    "list.py": ("PARTS = ['a']\nget_config = dict\n", "an experiment defines PARTS"),
    "untried.py": ("PARTS = {'a': {}}\nget_config = dict\n", "get_trials"),
    "none.py": (f"{COPIED}\n\ndef get_trials(part): return []\n", "gives no trials"),
    "number.py": (f"{COPIED}\n\ndef get_trials(part): return [3]\n", "TypeError"),
    "axis.py": (f"{COPIED}\n\ndef get_trials(part): return [{{'sise': 8}}]\n", "mean 'size'"),
    "twice.py": (f"{COPIED}\n\ndef get_trials(part): return [{{'size': 8}}] * 2\n", "two trials"),
    "key.py": (
        f"{COPIED}\n\ndef get_config(part):\n    return defaults.config(FAMILIES[part], part)\n",
        "NameError: name 'FAMILIES'",
    ),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_bad_experiment_files(refused, tmp_path, name):
    text, said = EXPERIMENTS[name]
    (tmp_path / name).write_text(text)
    # The part of the known chain, where there is one, so that its small data are enough.
    spec = f"TMP/{name}:markov" if text.startswith(COPIED) else f"TMP/{name}"
    line = refused(
        "sweep", "--config", spec, "--workdir", "OUT", configured=text.startswith(COPIED)
    )
    assert said in line


@pytest.mark.parametrize(
    "words, said",
    [
        (["swep"], "did you mean 'sweep'"),
        (["train"], "--config"),
        (["train", "--config", CHAIN], "--workdir"),
        (["train", "--config", "experiments/quickstrat.py", "--workdir", "OUT"], "quickstart.py'"),
        (["sweep", "--config", "experiments/quickstart.py:txt"], "did you mean 'text'"),
        (["sweep", "--config", CHAIN, "--workers", "0"], "--workers 0 must be at least 1"),
        (["sweep", "--config", CHAIN, "--workers", "two"], "invalid int value: 'two'"),
        (["sweep", "--config", CHAIN, "--dryrun"], "unknown argument '--dryrun'"),
        (["sweep", "--config", CHAIN, "--workdir", ""], "--workdir is empty"),
        (["train", "--config", CHAIN, "--workdir", ""], "--workdir is empty"),
        (["train", "--config", "TMP", "--workdir", "OUT"], "--config TMP: no such file"),
        (["train", "--config", CHAIN, "--workdir", "/proc/no/run"], "cannot write /proc/no/run"),
        (["report", "TMP/none"], "TMP/none"),
        (["report", "TMP"], "TMP"),
        (["sample", "--run", "TMP"], "not a run folder"),
        (["sample", "--run", "TMP", "--num", "0", "--out", "a.txt"], "not a run folder"),
        (["sample", "--run", "TMP", "--num", "many"], "invalid int value: 'many'"),
        (["data", "glyfs"], "glyfs"),
        (["data", "markov", "--folder", "/proc/no"], "/proc/no cannot be written"),
        (["fit", "TMP/none.csv", "--params", "N", "--data", "D", "--loss", "L"], "none.csv"),
        (["fit", "TMP"], "TMP"),
        (["fit", "TMP", "--no_such_flag"], "--no-such-flag"),
    ],
)
def test_bad_commands(refused, tmp_path, words, said):
    configured = words[0] == "train" and "/proc" in words[-1]
    assert said.replace("TMP", str(tmp_path)) in refused(*words, configured=configured)


def surface(**changes) -> pd.DataFrame:
    """Twenty runs of a planted law; `changes` replace columns."""
    params, data = (
        axis.ravel() for axis in np.meshgrid(np.logspace(5, 8, 5), [1e7, 1e8, 1e9, 1e10])
    )
    loss = 1.7 + 400 / params**0.34 + 400 / data**0.28
    return pd.DataFrame({"N": params, "D": data, "L": loss} | changes)


LOSS = surface()["L"]
TABLES = {
    "nan": (surface(L=LOSS.where(LOSS.index != 3)), "row"),
    "negative": (surface(L=LOSS.where(LOSS.index != 5, -1.0)), "L"),
    "infinite": (surface(N=surface()["N"].where(LOSS.index != 5, np.inf)), "N"),
    "strings": (surface(L=["bad"] * 20), "L"),
    "three rows": (surface().head(3), "3 rows"),
    "no loss": (surface().drop(columns="L").assign(LL=1.0), "did you mean 'LL'"),
    "no rows": (surface().head(0), ""),
}


@pytest.mark.parametrize("name", TABLES)
def test_bad_tables(refused, tmp_path, name):
    table, said = TABLES[name]
    table.to_csv(tmp_path / "table.csv", index=False)
    columns = ["--params", "N", "--data", "D", "--loss", "L"]
    assert said in refused("fit", "TMP/table.csv", *columns, "--law", "chinchilla", "--out", "OUT")


@pytest.mark.parametrize(
    "words, said",
    [
        (["--law", "chinchila"], "chinchilla"),
        (["--law", "chinchilla", "--bootstrap", "-5"], "bootstrap"),
        (["--law", "chinchilla", "--out", "/proc/no/laws.json"], "cannot write"),
    ],
)
def test_bad_fit_options(refused, tmp_path, words, said):
    surface().to_csv(tmp_path / "table.csv", index=False)
    columns = ["--params", "N", "--data", "D", "--loss", "L"]
    assert said in refused("fit", "TMP/table.csv", *columns, *words)


def test_an_empty_file_is_not_a_table(refused, tmp_path):
    (tmp_path / "table.csv").write_text("")
    columns = ["--params", "N", "--data", "D", "--loss", "L"]
    assert "table.csv" in refused("fit", "TMP/table.csv", *columns, "--law", "chinchilla")


@pytest.mark.parametrize("verb", ["train", "sweep"])
@pytest.mark.parametrize(
    "content, said",
    [('{"seed": 7}', "another config"), ("[]", "not a config"), ("{", "is not JSON")],
)
def test_a_folder_of_another_run(refused, tmp_path, verb, content, said):
    (tmp_path / "one.py").write_text(f"{COPIED}\n\ndef get_trials(part): return [{{'size': 16}}]\n")
    home = tmp_path / ("one/markov-size16" if verb == "sweep" else "run")
    home.mkdir(parents=True)
    (home / "config.json").write_text(content)
    workdir = "TMP" if verb == "sweep" else "TMP/run"
    line = refused(verb, "--config", "TMP/one.py:markov", "--workdir", workdir, configured=True)
    assert said in line and str(home) in line


@pytest.mark.parametrize("verb", ["train", "sweep"])
def test_a_workdir_that_is_a_file(refused, tmp_path, verb):
    (tmp_path / "file").write_text("")
    line = refused(verb, "--config", CHAIN, "--workdir", "TMP/file", configured=True)
    assert "cannot write" in line and str(tmp_path / "file") in line


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"family": "autoregressive"}', "{"])
def test_a_config_that_is_none(refused, tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    line = refused("sample", "--run", "TMP", "--out", "TMP/samples.txt")
    assert f"{tmp_path}/config.json" in line


@pytest.mark.parametrize(
    "words, said",
    [
        (["--num", "0"], "--num 0 must be at least 1"),
        (["--num", "-3"], "--num -3 must be at least 1"),
        (["--seed", "-1"], "--seed -1 must be from 0"),
        (["--out", "TMP/samples.png"], "a name ending in .txt"),
        (["--out", "TMP/samples"], "a name ending in .txt"),
        ([], "no checkpoint that can be read"),
    ],
)
def test_bad_samples(refused, tmp_path, data_folder, words, said):
    """A run that has its config and was never trained."""
    flags = [f"--config.data.folder={data_folder}", "--config.data.tokens=4000"]
    config = study.load_config(CHAIN, [*flags, "--config.data.validation_tokens=2000"])
    (tmp_path / "config.json").write_text(config.to_json())
    assert said in refused("sample", "--run", "TMP", *words)


RESULTS = {
    "nothing": {},
    "half a file": {"study.json": "{}", "a/result.json": "{"},
    "a list": {"study.json": "{}", "a/result.json": "[]"},
    "no score": {"study.json": "{}", "a/result.json": json.dumps({"role": "trial", "id": "a"})},
    "no study": {"study.json": "[", "a/result.json": json.dumps({"role": "trial", "id": "a"})},
}


@pytest.mark.parametrize("verb", ["fit", "report"])
@pytest.mark.parametrize("name", RESULTS)
def test_bad_run_folders(refused, tmp_path, verb, name):
    for path, content in RESULTS[name].items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content)
    assert str(tmp_path) in refused(verb, "TMP")


@pytest.mark.parametrize(
    "words, said",
    [
        (["swep"], "unknown verb 'swep' (did you mean 'sweep'?)"),
        (["train", "--config", CHAIN, "--workdir", "/proc/no/run"], "cannot write /proc/no/run"),
    ],
)
def test_seen_from_outside(data_folder, words, said):
    """The same from a shell: one line, no traceback, exit code 2."""
    if words[0] == "train":
        words = [*words, f"--config.data.folder={data_folder}", "--config.data.tokens=4000"]
        words += ["--config.data.validation_tokens=2000"]
    done = subprocess.run(
        [sys.executable, "-m", "research", *words],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and said in line
