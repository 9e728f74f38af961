"""Published models by name: their parameters to the digit, and a study with a part for each."""

import math

import jax
import pytest

from experiments import presets as study_file
from research import presets, study
from research.errors import UserError
from research.families import autoregressive
from research.models import common
from tests import shapes


def total(preset) -> int:
    """Parameters of the network, by the shapes that one layer and the whole depth give."""
    config = shapes.autoregressive()
    config.model = presets.model(preset.model)
    with common.undrawn():
        shapes_of = jax.eval_shape(lambda: autoregressive.init(config, jax.random.key(0)))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes_of))


@pytest.mark.parametrize("name", presets.PRESETS)
def test_parameters_are_as_published(name):
    assert total(presets.load(name)) == presets.load(name).total


def test_chinchilla_is_its_table_with_one_more_map_a_layer():
    """Hoffmann et al. 2022, table A9: 13 L d^2 + 32,000 d, to 1%."""
    for millions, width, _, depth in presets.TABLE_A9:
        preset = presets.load(f"chinchilla_{millions}m")
        norms = (2 * depth + 1) * width
        published = preset.total - norms + depth * width**2
        assert published == 13 * depth * width**2 + 32_000 * width
        assert published / 1e6 == pytest.approx(millions, rel=0.01)
