"""A study that trains in a second, to be killed and broken: its family, its file, what it leaves.

The family is a matrix of bigrams of rank `width`: what the loop, the checkpoints and the sweep do
does not depend on the network, and this one compiles in no time. EMA is on, so that the state has
every part a state can have.
"""

import logging
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax import numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from launch import local, processes
from research import runtime, study
from research.__main__ import main
from research.run import checkpoint, record
from research.run.rows import read_rows

ROOT = Path(__file__).resolve().parent.parent
STEPS = (12, 18, 25)
BRANCHES = (10, 14, 20)  # where the cooldown, the last fifth, begins

EXPERIMENT = '''
"""Does a tiny study go on?"""

import itertools

from research import defaults

FAMILY = {family!r}
PARTS = {{
    "chain": {{
        "title": "A Markov chain", "family": FAMILY, "data": "markov",
        "unit": "bits/token", "data_unit": "tokens",
    }}
}}


def get_config(part):
    config = defaults.config(FAMILY, "markov")
    config.part, config.size, config.train.steps = part, 16, 25
    config.data.update(folder={data!r}, length=16, vocab_size=8, order=1)
    config.data.update(tokens=4_000, validation_tokens=400)
    config.model.vocab_size = 8
    config.train.update(batch_size=8, warmup_steps=2, ema_decay=0.9)
    config.evaluation.update(batch_size=8, examples=16)
    config.checkpoint.every_steps = 4
    config.sampling.num = 2
    config.log_steps = 2
    return config


def get_trials(part):
    return {trials!r}
'''

# For the end of an experiment file: `function` acts when `when` holds of its `args`.
POISON = """

import os, signal, time

import {owner}


def poison(owner, name):
    original = getattr(owner, name)

    def poisoned(*args, **kwargs):
        if {when}:
            {act}
        return original(*args, **kwargs)

    setattr(owner, name, poisoned)


poison({owner}, {function!r})
"""
DIE = "os.kill(os.getpid(), signal.SIGKILL)"
ONE_SIZE = [{"size": 16, "train.steps": steps} for steps in STEPS]
TWO_SIZES = [*ONE_SIZE, {"size": 8, "train.steps": 12}]


def write(
    folder: Path, trials: list[dict] = ONE_SIZE, family: str = "tests.tiny", poison: str = ""
) -> str:
    """Write `folder`/tiny.py, whose data are prepared in `folder`/data, and return its path."""
    path = folder / "tiny.py"
    content = EXPERIMENT.format(family=family, data=str(folder / "data"), trials=trials)
    path.write_text(content.lstrip() + poison)
    return str(path)


def poison(function: str, when: str, act: str = DIE) -> str:
    """Code that does `act` when `owner.function` is called with `args` of which `when` holds."""
    owner, _, name = function.rpartition(".")
    return POISON.format(owner=owner, function=name, when=when, act=act)


FORKS = multiprocessing.get_context("forkserver")  # imports are paid once, not once a process
FORKS.set_forkserver_preload(["research.sample", "research.report.command", __name__])


class Started:
    """A process of its own that calls `function(*words)`, as the front door or a worker would."""

    def __init__(self, function: Callable, *words: str):
        self.files = [Path(tempfile.mkstemp()[1]) for _ in range(2)]
        self.process = FORKS.Process(target=_call, args=(function, words, self.files))
        self.process.start()

    def end(self) -> tuple[int | None, list[str], list[str]]:
        """Wait for it; return its exit code and the lines of its stdout and stderr."""
        self.process.join(300)
        if self.process.is_alive():
            self.process.kill()
        out, err = (file.read_text().splitlines() for file in self.files)
        for file in self.files:
            file.unlink()
        return self.process.exitcode, out, err


def _call(function: Callable, words: tuple[str, ...], files: list[Path]) -> None:
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY), number)
    # One device and one thread, as the workers of a sweep have.
    flags = f"{os.environ.get('XLA_FLAGS', '')} {processes.THREADS}"
    os.environ |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
    jax.config.update("jax_platforms", "cpu")  # JAX is imported, and has read its environment
    os.chdir(ROOT)
    logging.root.handlers.clear()
    sys.exit(function(*words))


def front_door(*words: str) -> int:
    sys.argv = ["research", *words]
    return main([*words])


def one_worker(spec: str, folder: str) -> None:
    """One worker of a sweep, without the sweep."""
    runtime.set_up_logging()
    local.work(study.load(spec), Path(folder))


def research(*words: str) -> tuple[int | None, list[str], list[str]]:
    """Run `python -m research` to its end."""
    return Started(front_door, *words).end()


def worker(spec: str, folder: Path) -> tuple[int | None, list[str], list[str]]:
    return Started(one_worker, spec, str(folder)).end()


def result(folder: Path) -> dict[str, Any]:
    """A run's result.json without what no two runs share."""
    content = record.read_json(folder / "result.json")
    return {k: v for k, v in content.items() if k not in ("seconds", "goodput", "finished_at")}


def rows(folder: Path) -> list[dict[str, Any]]:
    """A run's metrics without the seconds."""
    found = read_rows(folder / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k != "seconds"} for row in found]


def state(folder: Path) -> dict[str, bytes]:
    """Every array of a run's newest checkpoint, by name; nothing for a run without one."""
    found = checkpoint.reader(folder / "checkpoints")
    if not found.all_steps():
        return {}
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])  # for what other devices saved
    items = ocp.args.Composite(state=ocp.args.StandardRestore(fallback_sharding=one))
    restored = found.restore(max(found.all_steps()), args=items)["state"]
    leaves = jax.tree_util.tree_leaves_with_path(restored)
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}


def steps(folder: Path) -> set[int]:
    """The steps of which a run has a whole checkpoint."""
    return {int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit()}


def left(folder: Path) -> dict[str, Any]:
    """All that a study leaves and that must not depend on what happened on the way."""
    runs = sorted(path.parent for path in folder.glob("*/config.json"))
    kept = {}
    for run in runs:
        samples = run / "samples.txt"
        kept[run.name] = {
            "result": result(run),
            "rows": rows(run),
            "state": state(run),
            "checkpoints": sorted(path.name for path in (run / "checkpoints").iterdir()),
            "samples": samples.read_bytes() if samples.exists() else None,
            "files": sorted(path.name for path in run.iterdir()),
        }
    return kept


# The family.


def default_model() -> ConfigDict:
    keys = ("width", "depth", "num_heads")
    return ConfigDict({key: placeholder(int) for key in keys} | {"vocab_size": 8})


def init(config, key):
    shape = (config.model.vocab_size, config.model.width)
    first, second = jax.random.split(key)
    return {
        "before": {"kernel": jax.random.normal(first, shape)},
        "after": {"kernel": jax.random.normal(second, shape)},
    }


def _nats(params, tokens):
    logits = (params["before"]["kernel"] @ params["after"]["kernel"].T)[tokens[:, :-1]]
    chosen = jnp.take_along_axis(logits, tokens[:, 1:, None], -1)[..., 0]
    return jax.nn.logsumexp(logits, -1) - chosen


def loss(config, params, batch, key, step):
    return _nats(params, batch["tokens"]).mean(), {}


def score(config, params, batch, key):
    nats = _nats(params, batch["tokens"]) * batch["mask"][:, None]
    count = batch["mask"].sum() * config.data.length
    return {"likelihood": {"total": nats.sum() / jnp.log(2.0), "count": count}}


def score_kinds(config):
    return {"likelihood": {"unit": "bits/token", "kind": "exact", "better": "lower"}}


def sample(config, params, key, num):
    logits = params["before"]["kernel"] @ params["after"]["kernel"].T
    drawn = jax.random.categorical(key, logits[0], shape=(num, config.data.length))
    return np.asarray(drawn + ord("a"), np.int32)
