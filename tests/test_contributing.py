"""The files that CONTRIBUTING.md shows do what it says, and README.md names what is there."""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from research import data, defaults, families, optim, study
from research.__main__ import VERBS
from research.scaling import fit, laws
from research.scaling.table import table

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"```python\n# (\S+)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)
CODE = dict(BLOCKS)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that imports one of the files from a folder of its own."""

    def load(path: str) -> ModuleType:
        folder = tmp_path / "shown"
        folder.mkdir(exist_ok=True)
        (folder / Path(path).name).write_text(CODE[path])
        monkeypatch.syspath_prepend(tmp_path)
        name = f"shown.{Path(path).stem}"
        loaded = importlib.import_module(name)
        # The next test has a folder of its own.
        monkeypatch.delitem(sys.modules, "shown")
        monkeypatch.delitem(sys.modules, name)
        return loaded

    return load


def test_one_file_for_each_kind_of_idea():
    assert len(BLOCKS) == len(CODE) == 4
    assert {path.split("/")[-2] for path in CODE} == {"experiments", "families", "laws", "data"}


def test_study(tmp_path):
    path = tmp_path / "activations.py"
    path.write_text(CODE["experiments/activations.py"])
    loaded = study.load(str(path))
    runs, flops = re.findall(r"Cost: (\d+) runs, (\S+) FLOPs", loaded.docstring)[0]
    assert len(loaded.trials) == len({trial.id for trial in loaded.trials}) == int(runs)
    assert sum(trial.config.budget for trial in loaded.trials) == pytest.approx(
        float(flops), rel=0.02
    )
    assert {trial.config.model.activation for trial in loaded.trials} == {"relu2", "gelu"}


def test_family_learns_the_frequencies(module, monkeypatch):
    unigram = module("research/families/unigram.py")
    monkeypatch.setitem(sys.modules, "shown.unigram", unigram)
    assert families.load("shown.unigram") is unigram
    config = ConfigDict({"model": unigram.default_model(), "train": optim.default_train()})
    config.hardware = defaults.hardware()
    config.data, config.train.weight_decay = {"length": 4}, 0.0
    config.model.vocab_size = 4
    counts = np.array([8, 4, 2, 2])
    tokens = np.repeat(np.arange(4), counts).reshape(4, 4).astype(np.int32)
    tokens = np.concatenate([np.zeros((4, 1), np.int32), tokens], axis=1)
    batch = {"tokens": tokens, "mask": np.ones(4, np.float32)}
    params = unigram.init(config, jax.random.key(0))
    state = {"params": params, "opt_state": optim.init(config, params)}
    step = jax.jit(
        lambda s: optim.update(unigram.loss, config, s, batch, jax.random.key(0), 0.03)[0]
    )
    for _ in range(400):
        state = step(state)
    bits = unigram.score(config, state["params"], batch, jax.random.key(0))
    assert bits["count"] == 16
    assert bits["total"] / bits["count"] == pytest.approx(1.75, abs=1e-3)  # the entropy of counts
    assert unigram.sample(config, params, jax.random.key(0), 3).shape == (3, 4)
    assert unigram.cost(config).total_params == params["logits"].size


def test_law_is_found_where_it_was_planted(tmp_path):
    path = tmp_path / "shifted.py"
    path.write_text(CODE["research/scaling/laws/shifted.py"])
    law, truth = laws.get(str(path)), {"E": 1.5, "A": 40.0, "N_0": 3e5, "alpha": 0.3}
    size = np.geomspace(1e4, 1e8, 12)
    frame = {"N": size, "D": 1e9 + 0 * size, "L": law.loss(truth, N=size)}
    runs = table.from_frame(table.pd.DataFrame(frame), params="N", data="D", loss="L")
    found = fit.fit_law(runs, law, bootstrap=50)
    values = found.parameters or found.rejected
    assert values == pytest.approx(truth, rel=1e-4)


def test_data_source(module, data_folder):
    module("research/data/licences.py")
    config = data.default("licences")
    config.folder = str(data_folder)
    train, held = data.load(config, "train"), data.load(config, "validation")
    assert b"Apache License" in train.arrays["tokens"].tobytes()
    assert 0 < len(held) < len(train)


def test_readme_names_every_verb():
    shown = re.findall(r"python -m research ([a-z]+)", (ROOT / "README.md").read_text())
    assert set(shown) == set(VERBS)


def test_readme_names_what_is_there():
    text = (ROOT / "README.md").read_text()
    tree = text.split("## The tree")[1].split("##")[0]
    shown = re.findall(r"^    (  )?(\w+)/", tree, re.M)
    for nested, folder in shown:
        assert folder == "runs" or (ROOT / ("research" if nested else "") / folder).is_dir(), folder
    tops = {folder for nested, folder in shown if not nested}
    there = {p.name for p in ROOT.iterdir() if p.is_dir() and p.name[0] not in "._"}
    assert there - {"data"} <= tops
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
