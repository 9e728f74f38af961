"""The memory of each optimizer, in closed form, is in both dry runs."""

import jax
import pytest

from research import cost, optim, programs, recipes
from research.dryrun import program
from research.dryrun.share import read_state
from research.optim import roles
from tests import shapes

MOMENTS = {  # of a hidden matrix, and of every other parameter
    "adamw": (2, 2),
    "hypersphere": (1, 2),
    "lion": (1, 1),
    "muon": (1, 2),
    "schedule_free": (2, 2),
    "sgd": (1, 1),
}


def config_of(name, **train):
    config = shapes.autoregressive()
    for key in ("b1", "b2", "eps"):
        del config.train[key]
    config.train.update(optimizer=name, schedule="constant")
    recipes.apply(config).train.update(train)
    return config


def read(config):
    """(parameters, elements of the optimizer's state, bytes that a traced step is given)."""
    state = read_state(config).shapes
    count, held = (sum(x.size for x in jax.tree.leaves(state[k])) for k in ("params", "opt_state"))
    return count, held, program.input_bytes(cost.step(config))


@pytest.mark.parametrize("name", MOMENTS)
def test_moments_are_counted(name):
    """But for counters, and a norm of each matrix on a sphere: two layers of six."""
    config = config_of(name, **({"neuron_b2": 0.0} if MOMENTS[name] == (1, 2) else {}))
    params = programs.parameter_shapes(config)
    known = roles.parameters(config, params).values()
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    of_hidden, of_others = MOMENTS[name]
    expected = sum(
        size * (of_hidden if each.role == "hidden" else of_others)
        for size, each in zip(sizes, known, strict=True)
    )
    count, held, given = read(config)
    counters = held - expected - (12 if name == "hypersphere" else 0)
    assert count == sum(sizes) and 0 <= counters <= 6
    _, plain, least = read(config_of("sgd", momentum=0.0))
    assert given - least == 4 * (held - plain)


def test_factors_of_moments_and_second_moments_of_neurons_are_less_than_a_moment():
    count, held, _ = read(config_of("adafactor", factored_from=8))
    assert count < held < 1.4 * count  # a momentum; of a matrix a row and a column
    assert set(optim.OPTIMIZERS) == {*MOMENTS, "adafactor"}
    (_, plain, _), (_, even, _) = (read(config_of("muon", neuron_b2=b2)) for b2 in (0.0, 0.9))
    # Of each of two layers: neurons of q, k, v and out, of up and of down.
    assert even - plain == 2 * (4 * 16 + 64 + 16)


def test_averages_are_counted():
    """A copy of the parameters for each width, between steps and of what a step is given."""
    plain, averaged = (config_of("sgd", ema_widths=widths) for widths in ((), (0.05, 0.1)))
    count, _, least = read(plain)
    assert read(averaged)[2] - least == 2 * 4 * count
    one = dict.fromkeys(plain.hardware.mesh, 1)
    rests = [read_state(each).split(each, one)[0] for each in (plain, averaged)]
    assert rests[1] - rests[0] == 2 * 4 * count
