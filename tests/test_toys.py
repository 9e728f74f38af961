"""A toy of each kind of part, one file each in tests/toys/, goes all the way with ours untouched.

An attention kind, 16-bit tokens, an optimizer and an evaluator make one study; a convolutional
network of the diffusion family, a family without a transformer and one of two players the others.
"""

import json

import pytest

from launch import local
from research import cost, study
from research.__main__ import main
from research.dryrun import laptop
from research.run.rows import read_rows

STUDY = '''
"""Do strangers fit in?"""

from research import defaults

DATA = {data!r}
PARTS = {{
    name: {{"title": name, "family": family, "data": source, "unit": unit, "data_unit": what}}
    for name, family, source, unit, what in (
        ("words", "autoregressive", "tests.toys.tokens16", "bits/token", "tokens"),
        ("pictures", "diffusion", "gaussian_mixture", "bits/dim", "images"),
        ("denoiser", "tests.toys.conv_family", "gaussian_mixture", "squared error", "images"),
        ("game", "tests.toys.two_player", "gaussian_mixture", "1", "images"),
    )
}}


def get_config(part):
    about, network = PARTS[part], {{}}
    if part == "words":
        network = dict(attention="tests.toys.strided_attention")
    if part == "pictures":
        network = dict(network="tests.toys.conv_net")
    config = defaults.config(about["family"], about["data"], **network)
    config.part, config.recipe, config.data.folder = part, "fixed", DATA
    config.train.update(batch_size=8, warmup_steps=1, learning_rate=1e-2)
    config.evaluation.update(batch_size=8, examples=16, every_steps=4)
    config.sampling.num, config.log_steps = 2, 2
    if part == "words":
        config.train.optimizer = "tests.toys.signum"
        config.evaluation.evaluators = ("validation", "tests.toys.error_rate")
        config.data.update(vocab_size=16)
        config.model.update(depth=1, width=8, num_heads=2, vocab_size=16)
        return config
    config.data.update(resolution=8, images=200, validation_images=64)
    if part == "pictures":
        config.model.update(image_shape=(8, 8, 1), discrete=False, width=8)
    else:
        config.model.sides = (8, 8, 1)
    return config


def get_trials(part):
    return [{{"train.steps": n}} for n in ((4, 8, 16, 32, 64) if part == "pictures" else (4, 8))]
'''


pytestmark = pytest.mark.slow  # four families are compiled here, and again for a TPU


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    path = folder / "strangers.py"
    path.write_text(STUDY.format(data=str(folder / "data")).lstrip())
    loaded = study.load(str(path))
    study.write_description(loaded, folder / "strangers")
    local.work(loaded, folder / "strangers")
    return path, loaded, folder / "strangers"


def test_ledger_and_laptop(swept):
    _, loaded, _ = swept
    assert len(loaded.trials) == 11
    for trial in loaded.trials:
        ledger = cost.ledger(trial.config)
        assert ledger.total_params > 0 and ledger.step_flops > 2 * ledger.flops > 0
    table = laptop.table(loaded, 2)
    assert "11 trials" in table and all(trial.id in table for trial in loaded.trials)


def test_every_run_is_whole(swept):
    """Its scores along the way are in its rows, those of a foreign evaluator among them."""
    _, loaded, folder = swept
    for trial in loaded.trials:
        result = json.loads((folder / trial.id / "result.json").read_text())
        assert result["status"] == "finished" and result["score"]["value"] is not None
        assert result["flops"] == trial.config.train.steps * cost.ledger(trial.config).step_flops
        rows = read_rows(folder / trial.id / "metrics.jsonl")
        assert rows[-1]["score"] == result["score"]["value"]
        if trial.id.startswith("words"):
            rate = result["scores"]["error_rate"]["value"]
            assert rows[-1]["score_error_rate"] == rate and 0 < rate <= 1


def test_law_report_and_samples(swept, capsys):
    _, loaded, folder = swept
    words = ["fit", str(folder), "--part", "pictures", "--law", "frontier", "--bootstrap", "100"]
    assert main(words) == 0, capsys.readouterr().err
    assert "alpha" in capsys.readouterr().out
    assert main(["report", str(folder)]) == 0, capsys.readouterr().err
    page = (folder / "report.html").read_text()
    assert all(part in page for part in loaded.parts)
    drawn = [path.parent.name for path in folder.glob("*/samples.*")]
    assert {name.partition("-")[0] for name in drawn} == set(loaded.parts)
    one = next(trial.id for trial in loaded.trials if trial.id.startswith("game"))
    assert main(["sample", "--run", str(folder / one), "--num", "1"]) == 0


@pytest.mark.parametrize("part", ["words", "pictures", "denoiser", "game"])
def test_compiles_for_a_pod(swept, part, capsys):
    path, _, _ = swept
    flags = ["--config.train.batch_size=16", "--config.evaluation.batch_size=16"]
    flags += ["--config.train.steps=4"]
    words = ["dryrun", "--config", f"{path}:{part}", "--topology", "v5e:2x2", "--json", *flags]
    assert main(words) == 0, capsys.readouterr().err
    found = json.loads(capsys.readouterr().out)
    assert found["per_chip"]["peak_bytes"] > 0 and found["per_chip"]["fits"]
