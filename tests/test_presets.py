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


NAMES = [name for name in presets.PRESETS if not name.startswith(("chinchilla", "deepseek"))]


LONG = pytest.param("deepseek_v3", marks=pytest.mark.slow)  # 61 layers, of two kinds


@pytest.mark.parametrize("name", [*NAMES, "chinchilla_44m", "chinchilla_16183m", LONG])
def test_parameters_are_as_published(name):
    assert total(presets.load(name)) == presets.load(name).total


def test_matrices_of_gpt2_are_12_l_d_squared():
    """Radford et al. 2019: 84,934,656 of the smallest, and 13 vectors a layer beside them."""
    model, _, whole = presets.load("gpt2")
    depth, width = model["depth"], model["width"]
    matrices, ends = 12 * depth * width**2, (50_257 + 1024) * width
    assert matrices == 84_934_656
    assert whole == matrices + ends + depth * 13 * width + 2 * width


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(UserError, match=r"part 'lama3_8b' is not one of .*mean 'llama3_8b'"):
        study.load_config("experiments/presets.py:lama3_8b", [])
    with pytest.raises(UserError, match="'gpt3' is no preset .did you mean 'gpt2'"):
        presets.load("gpt3")


def test_the_study_builds_what_the_table_says():
    config = study.load_config("experiments/presets.py:llama3_1b", [])
    preset = presets.load("llama3_1b")
    assert {key: config.model[key] for key in preset.model} == preset.model
    assert config.data.length == study_file.LONGEST < preset.length


def test_chinchilla_is_its_table_with_one_more_map_a_layer():
    """Hoffmann et al. 2022, table A9: 13 L d^2 + 32,000 d, to 1%."""
    for millions, width, _, depth in presets.TABLE_A9:
        preset = presets.load(f"chinchilla_{millions}m")
        norms = (2 * depth + 1) * width
        published = preset.total - norms + depth * width**2
        assert published == 13 * depth * width**2 + 32_000 * width
        assert published / 1e6 == pytest.approx(millions, rel=0.01)
