"""The files that CONTRIBUTING.md shows do what it says, and README.md names what is there."""

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from launch import local
from research import cost, data, defaults, evaluation, families, optim, programs, recipes, study
from research.__main__ import VERBS, main
from research.dryrun import laptop
from research.errors import UserError
from research.families import autoregressive
from research.families.diffusion import samplers
from research.scaling import fit, laws
from research.scaling.table import table
from research.train import train
from tests import shapes, tiny

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
    assert len(BLOCKS) == len(CODE)
    kinds = {"experiments", "families", "evaluation", "laws", "optim", "data", "models"}
    kinds |= {"samplers", "objectives"}
    assert {path.split("/")[-2] for path in CODE} == kinds


def test_parts_of_networks_are_the_toys_that_tests_train():
    """`tests/models/test_toy_networks.py` trains them from config to score."""
    shown = {Path(path).name: code for path, code in CODE.items() if "/models/" in path}
    assert set(shown) == {"strided_attention.py", "conv_net.py"}
    for name, code in shown.items():
        assert (ROOT / "tests" / "toys" / name).read_text() == code


@pytest.mark.slow
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


KEY = jax.random.key(0)


@pytest.fixture
def bigram(module, monkeypatch):
    loaded = module("research/families/bigram.py")
    monkeypatch.setitem(sys.modules, "shown.bigram", loaded)
    assert families.load("shown.bigram") is loaded
    return loaded


def test_family_learns_the_frequencies(bigram):
    config = defaults.config("shown.bigram", "markov")
    defaults.settle(config)
    config.data.length, config.train.weight_decay = 4, 0.0
    config.model.update(vocab_size=4, width=2)
    # After 0 come 1, 1, 1 and 2; after each of these 0: half the tokens cost H(1/4) bits.
    tokens = np.array([[0, 1, 0, 1, 0], [0, 1, 0, 2, 0]], np.int32)
    batch = {"tokens": tokens, "mask": np.ones(2, np.float32)}
    params = bigram.init(config, jax.random.key(0))
    state = {"params": params, "opt_state": optim.init(config, params)}
    step = jax.jit(lambda s: optim.update(bigram.loss, config, s, batch, KEY, 0, 0.1)[0])
    for _ in range(400):
        state = step(state)
    bits = bigram.score(config, state["params"], batch, KEY)["likelihood"]
    entropy = 2 - 0.75 * np.log2(3)
    assert bits["count"] == 8
    assert bits["total"] / bits["count"] == pytest.approx(entropy / 2, abs=1e-3)
    drawn = bigram.sample(config, state["params"], jax.random.key(0), 3)
    assert drawn.shape == (3, 4) and set(drawn[:, 0]) <= {1, 2} and not drawn[:, 1].any()


FAMILY_STUDY = '''
"""Does a bigram's rank pay?"""
from research import defaults

PARTS = {{
    "chain": {{
        "title": "Bigrams of a chain", "family": "shown.bigram", "data": "markov",
        "unit": "bits/token", "data_unit": "tokens",
    }}
}}


def get_config(part):
    config = defaults.config("shown.bigram", "markov")
    config.part = part
    config.data.update(folder={folder!r}, length=16, vocab_size=16, order=1, tokens=20_000)
    config.data.validation_tokens = 2_000
    config.model.vocab_size = 16
    config.evaluation.examples = 64
    config.log_steps = 10
    return config


def get_trials(part):
    budgets = (5e6, 1e7, 2e7, 4e7)
    return [{{"size": size, "budget": budget}} for size in (2, 4) for budget in budgets]
'''


@pytest.mark.slow
def test_family_runs_as_a_whole_study(bigram, tmp_path, capsys):
    """Dry run, sweep, law, report and samples, under the default recipe."""
    path = tmp_path / "ranks.py"
    path.write_text(FAMILY_STUDY.format(folder=str(tmp_path / "data")))
    loaded, folder = study.load(str(path)), tmp_path / "ranks"
    assert loaded.groups[0][0].config.recipe == "ladder" and len(loaded.trials) == 8
    assert "8 trials" in laptop.table(loaded, 2)
    ledger = cost.ledger(loaded.trials[0].config)
    width, count = loaded.trials[0].config.model.width, loaded.trials[0].config.train.batch_size
    assert ledger.total_params == 2 * 16 * width and ledger.tokens == 16
    assert ledger.step_flops == 3 * count * ledger.flops == 3 * count * 2 * 16 * 16 * width
    study.write_description(loaded, folder)
    local.work(loaded, folder)
    for words in (
        ["fit", str(folder), "--law", "frontier", "--bootstrap", "100"],
        ["report", str(folder)],
        ["sample", "--run", str(folder / "chain-size4-budget2e07"), "--num", "2"],
    ):
        assert main(words) == 0, capsys.readouterr().err
    assert (folder / "report.html").stat().st_size > 10_000
    assert "alpha" in capsys.readouterr().out
    # Besides those asked for, the longest run of each size was sampled on the way.
    assert len(list(folder.glob("*/samples.txt"))) == 3


def test_families_that_a_recipe_cannot_serve(bigram, tmp_path):
    bigram.default_model = lambda: ConfigDict({"vocab_size": 256})
    config = defaults.config("shown.bigram", "markov")
    config.size, config.budget = 4, 1e9
    with pytest.raises(UserError, match="family 'shown.bigram' does not have; use recipe 'fixed'"):
        recipes.apply(config)
    config.recipe, config.train.batch_size = "fixed", 8
    bigram.init = lambda config, key: {"bias": jnp.zeros(config.model.vocab_size)}
    bigram.nats = lambda params, tokens: -jax.nn.log_softmax(params["bias"])[tokens[:, 1:]]
    with pytest.raises(UserError, match="no matrix product and no convolution; set config.train"):
        recipes.apply(config)


@pytest.mark.slow
def test_evaluator(module, monkeypatch):
    loaded = module("research/evaluation/surprise.py")
    monkeypatch.setitem(sys.modules, "shown.surprise", loaded)
    config = shapes.autoregressive(vocab=16)
    config.evaluation.evaluators = ("validation", "shown.surprise")
    study.check(config)
    params = autoregressive.init(config, KEY)
    found = evaluation.scores(config, params)
    assert found["surprise"]["value"] == 0  # an even guess costs 4 bits
    params["head"] = params["head"].at[3].set(1e3 * params["embedding"].mean())
    assert 0 < evaluation.scores(config, params)["surprise"]["value"] <= 1


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


@pytest.mark.slow
def test_optimizer_trains_by_its_name(module, tmp_path, monkeypatch):
    loaded = module("research/optim/signum.py")
    monkeypatch.setitem(sys.modules, "shown.signum", loaded)
    spec = tiny.write(tmp_path, [{"size": 16, "train.steps": 12}])
    name = "--config.train.optimizer=shown.signum"
    flags = ["--config.train.beta=0.5", name, "--config.train.weight_decay=0.0"]
    flags.append("--config.train.learning_rate=0.001")
    config = study.load(spec, flags).trials[0].config
    state = programs.build(config).init(jax.random.key(0))
    params = jax.tree.map(np.asarray, state["params"])
    batch = {"tokens": np.arange(8 * 17).reshape(8, 17) % 8}
    state, _ = optim.update(tiny.loss, config, state, batch, KEY, 0, 0.25)
    for old, new in zip(*map(jax.tree.leaves, (params, state["params"])), strict=True):
        np.testing.assert_allclose(np.abs(new - old), 0.25, rtol=1e-5)
    assert train(config, tmp_path / "run")["status"] == "finished"
    with pytest.raises(UserError, match=r"no key 'betta' \(did you mean 'beta'\?\)"):
        study.load(spec, [name, "--config.train.betta=0.5"])


@pytest.mark.slow
def test_objective_learns_a_denoiser(module, monkeypatch, tmp_path):
    """By its dotted path: it trains, and is scored as every denoiser is."""
    loaded = module("research/families/diffusion/objectives/absolute.py")
    monkeypatch.setitem(sys.modules, "shown.absolute", loaded)
    config = shapes.diffusion(objective="shown.absolute")
    batch = {"image": jnp.zeros((16, *config.model.image_shape))}
    params = families.load("diffusion").init(config, KEY)
    value, measures = loaded.loss(config, params, batch, KEY, 0)
    # A network that begins with zeros errs by the noise, of which the mean is sqrt(2 / pi).
    assert value == measures["error"] == pytest.approx(np.sqrt(2 / np.pi), rel=0.1)
    grads = jax.grad(lambda params: loaded.loss(config, params, batch, KEY, 0)[0])(params)
    assert any(np.any(leaf) for leaf in jax.tree.leaves(grads))
    scores = families.load("diffusion").score(config, params, batch, KEY)
    assert set(scores) == {"bound"}


def test_sampler_follows_the_flow_of_a_normal_distribution(module):
    """Of x_0 ~ N(0, 1) the flow keeps y / sqrt(1 + s^2); a method of first order nearly does."""
    name = module("research/families/diffusion/samplers/look_ahead.py").__name__
    options = ConfigDict({"sampler": name, "steps": 300})
    assert samplers.network_calls(options) == 600
    y = jnp.linspace(-2.0, 2.0, 8)[:, None]
    gammas = jnp.linspace(6.0, -6.0, 301)
    end, seen = samplers.run(
        name,
        lambda y, gamma_B, guess: samplers.Denoised(y / (1 + jnp.exp(gamma_B))[:, None]),
        y,
        gammas,
        jax.random.key(0),
        options,
    )
    exact = y * jnp.sqrt((1 + jnp.exp(-6.0)) / (1 + jnp.exp(6.0)))
    np.testing.assert_allclose(end, exact, rtol=0.03)
    assert seen.shape == (300, *y.shape)


def test_data_source(module, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "shown.counting", module("research/data/counting.py"))
    config = data.default("shown.counting")
    config.folder = str(tmp_path / "data")
    train, held = data.load(config, "train"), data.load(config, "validation")
    assert train.arrays["tokens"].dtype == np.uint16 and train.fingerprint == held.fingerprint
    batch = next(data.batches(train, 16, 0))
    assert 255 < batch["tokens"].max() < 1000
    # A second difference of 0 (modulo 1000) wherever all three tokens are of one count.
    inside = batch["weights"][:, 1:] * batch["weights"][:, :-1] == 1
    curved = np.diff(batch["tokens"], 2) % 1000 != 0
    assert not curved[inside].any() and curved[~inside].any()


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
