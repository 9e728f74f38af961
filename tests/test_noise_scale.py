"""The gradient-noise scale: unbiased, of the parts of a batch alone, and no other step for it."""

import functools

import jax
import numpy as np
import pytest

from research import cost, defaults, optim, recipes, study
from research.errors import UserError
from tests import shapes

MEAN, DEVIATIONS, THETA = np.array([1.0, -2.0, 0.5]), np.array([0.5, 1.0, 3.0]), np.ones(3)


def quadratic(config, params, batch, key, step):
    """An example x costs |theta - x|^2 / 2: its gradient is theta - x."""
    return 0.5 * ((params["theta"] - batch["x"]) ** 2).sum(-1).mean(), {}


def config_of(parts, accumulation=1):
    config = defaults.config("tests.tiny", "markov")
    config.model.update(vocab_size=8, width=16, depth=1, num_heads=1)
    config.recipe, config.hardware.accumulation = "fixed", accumulation
    train = dict(optimizer="sgd", batch_size=24, steps=5, learning_rate=0.1, warmup_steps=0)
    config.train.update(noise_scale=parts, **train)
    return recipes.apply(config)


def step(config, x, monkeypatch):
    monkeypatch.setattr("research.families.axes", lambda config, params: [("norm",)])
    state = {"params": {"theta": THETA.astype(np.float32)}}
    state["opt_state"] = optim.init(config, state["params"])
    update = functools.partial(optim.update, quadratic, config, state)
    return jax.jit(jax.vmap(lambda x: update({"x": x}, jax.random.key(0), 0, 0.1)))(x)


def batches(count):
    draw = np.random.default_rng(0).normal(size=(count, 24, 3))
    return (MEAN + DEVIATIONS * draw).astype(np.float32)


@pytest.mark.parametrize("parts", [2, 4, 24])
def test_both_estimates_are_unbiased(parts, monkeypatch):
    """Their means over 4,000 batches, within four standard errors."""
    _, metrics = step(config_of(parts), batches(4000), monkeypatch)
    for name, true in (
        ("gradient_square", ((THETA - MEAN) ** 2).sum()),
        ("gradient_noise", (DEVIATIONS**2).sum()),
    ):
        found = np.asarray(metrics[name], np.float64)
        assert abs(found.mean() - true) < 4 * found.std() / len(found) ** 0.5
        assert found.std() / len(found) ** 0.5 < 0.05 * true


def test_they_are_of_the_parts_whatever_the_hardware(monkeypatch):
    """The sample variance of six parts' gradients, four examples each; the step stays as it is."""
    x = batches(3)
    (plain, _), (state, metrics) = (step(config_of(p), x, monkeypatch) for p in (0, 6))
    grads = THETA - x.reshape(3, 4, 6, 3).mean(1)  # part i holds examples i, i + 6, ...
    spread = grads.var(1, ddof=1).sum(-1)
    np.testing.assert_allclose(metrics["gradient_noise"], 4 * spread, rtol=1e-5)
    square = (grads.mean(1) ** 2).sum(-1) - spread / 6
    np.testing.assert_allclose(metrics["gradient_square"], square, rtol=1e-4)
    _, cut = step(config_of(6, accumulation=4), x, monkeypatch)
    assert optim.micro_batches(config_of(6, accumulation=4)) == 12
    for name in ("gradient_noise", "gradient_square", "loss", "grad_norm"):
        np.testing.assert_allclose(metrics[name], cut[name], rtol=1e-4)
    np.testing.assert_allclose(plain["params"]["theta"], state["params"]["theta"], rtol=1e-6)


@pytest.mark.parametrize("parts, near", [(1, 0), (3, 2), (5, 4), (9, 8), (-1, None)])
def test_parts_that_a_batch_does_not_have_are_refused(parts, near):
    config = shapes.autoregressive()
    config.train.noise_scale = parts
    wanted = "must be at least 0" if near is None else f"nearest valid: {near}$"
    with pytest.raises(UserError, match=rf"train.noise_scale={parts} .*{wanted}"):
        optim.check(config)


def test_parts_cost_no_flops_and_fit_the_devices():
    config = shapes.autoregressive()
    config.train.noise_scale = 4
    assert cost.ledger(config).step_flops == cost.ledger(shapes.autoregressive()).step_flops
    with pytest.raises(
        UserError, match="batch_size=8 .* 8 data-parallel devices x 4 micro-batches"
    ):
        study.check_hardware(config, num_devices=8)
