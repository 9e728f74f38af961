"""Runs of discrete diffusion: from a decoder's parameters, through the loop, to scores and text."""

from typing import Any

import jax
import numpy as np
import pytest

from research import cost, data, sample, trained
from research.data.tokenizers import Bytes
from research.errors import UserError
from research.evaluation import validation
from research.families import discrete_diffusion
from research.sampling import continuing, filling
from research.train import train
from tests import shapes
from tests.test_cost import by_hand

LIKE = dict(smear=True, qk_norm=True, zero_outputs=True)  # the decoder's own defaults


def placed(config, folder):
    config.data.folder = str(folder)
    return config


@pytest.mark.slow  # the same parameters, without runs: test_discrete_family.py
def test_a_run_begins_with_a_decoders_parameters(tmp_path, data_folder, caplog):
    """All but the vector of hidden tokens; its score is then the decoder's, in blocks of one."""
    decoder = placed(shapes.autoregressive(**LIKE), data_folder)
    theirs = train(decoder, tmp_path / "decoder")
    config = placed(shapes.discrete_diffusion(block_size=1, shifted=True, **LIKE), data_folder)
    config.init_from.run = str(tmp_path / "decoder")
    config.train.update(steps=1, learning_rate=1e-30, warmup_steps=0, decay_steps=0)
    config.sampling.num = 0
    ours = train(config, tmp_path / "blocks")
    assert "does not have hidden: drawn at random" in caplog.text
    _, params = trained.load(tmp_path / "decoder")
    _, found = trained.load(tmp_path / "blocks")
    assert set(found) == {*params, "hidden"}
    for name in params:
        jax.tree.map(np.testing.assert_array_equal, found[name], params[name])
    assert ours["score"]["value"] == pytest.approx(theirs["score"]["value"], rel=1e-5)
    assert ours["scores"]["bound"]["kind"] == "upper bound"
    assert ours["scores"]["bound"]["unit"] == theirs["scores"]["likelihood"]["unit"]


@pytest.mark.slow
def test_a_run_learns_and_is_sampled(tmp_path, data_folder):
    config = placed(shapes.discrete_diffusion(**LIKE), data_folder)
    config.train.update(steps=60, learning_rate=1e-2)
    found = train(config, tmp_path / "run")
    bound = found["scores"]["bound"]
    low, high = bound["interval"]
    assert low < bound["value"] < high < low + 0.2
    floor = data.load(config.data, "validation").floor["value"]
    assert floor < bound["value"] < 3.9  # of 4 bits of a token
    rows = sample.sample_run(tmp_path / "run", 3)
    assert rows.shape == (3, 8) and rows.max() < 16


def test_a_score_that_is_drawn_has_an_interval():
    found: Any = validation.finish(None, {"bound": dict(total=8.0, count=4.0, variance=0.25)})
    assert found["bound"].value == 2.0
    assert found["bound"].interval == pytest.approx((2 - 0.245, 2 + 0.245), abs=1e-3)
    assert validation.finish(None, {"bound": dict(total=8.0, count=4.0)}) == {"bound": 2.0}


@pytest.mark.parametrize("block_size", [0, 2])
def test_the_ledger_counts_both_copies(block_size):
    config = shapes.discrete_diffusion(block_size=block_size)
    ledger, model = cost.ledger(config), config.model
    length = 1 + (2 if block_size else 1) * config.data.length
    params, _, flops = by_hand(model, length, modulated=False)
    table = model.vocab_size * model.width
    assert ledger.total_params == params + 2 * table + 2 * model.width  # norm, hidden token
    assert ledger.flops == flops + 2 * config.data.length * table
    assert ledger.step_flops == 3 * ledger.flops * config.train.batch_size
    assert ledger.score_flops == config.evaluation.time_samples * ledger.flops
    assert ledger.tokens == length


def test_a_prompt_is_kept_and_what_follows_is_filled_in():
    """Prompts of two lengths in one window; a seed says what is drawn."""
    config = shapes.discrete_diffusion(vocab=256, length=6)
    params = discrete_diffusion.init(config, jax.random.key(0))
    params = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(1), x.shape), params)
    seen = []

    def fill(config, params, key, first_B, tokens_BxL):
        seen.append(tokens_BxL.copy())
        return discrete_diffusion.fill(config, params, key, first_B, tokens_BxL)

    writer = continuing.Writer(config, filling.Filler(config, params, fill, 2), Bytes(), 2)

    def written(seed: int, prompts=("ab", "c")) -> list:
        return continuing.write(writer, prompts, continuing.Settings(tokens=4, seed=seed))

    first, second = written(seed=3)
    assert (first.prompt, second.prompt) == ("ab", "c")
    assert len(first.tokens) <= 4 and len(second.tokens) <= 4
    unknown = discrete_diffusion.UNKNOWN
    assert seen[0].tolist() == [[97, 98, *[unknown] * 4], [99, *[unknown] * 5]]
    assert written(seed=3) == [first, second] != written(seed=4)
    with pytest.raises(UserError, match="a prompt has 3 tokens.*use --tokens 3"):
        written(seed=3, prompts=("abc",))
