"""What data look like by their settings is what they look like once prepared."""

import numpy as np
import pytest

from research import data
from research.errors import UserError

SMALL = {
    "markov": dict(length=8, tokens=4_000, validation_tokens=400),
    "gaussian_mixture": dict(resolution=8, images=64, validation_images=32),
    "ising": dict(images=64, validation_images=32),
    "gaussian_field": dict(images=64, validation_images=32),
    "modes": dict(images=64, validation_images=32),
    "hidden_markov": dict(length=8, tokens=4_000, validation_tokens=400),
    "hierarchy": dict(tokens=4_000, validation_tokens=400),
    "zipf_facts": dict(examples=64, validation_examples=32),
    "teacher": dict(length=8, tokens=4_000, validation_tokens=400),
    "python_stdlib": dict(files=("json/*",)),
    "glyphs": dict(label="style", fonts=("DejaVuSansMono",)),
}


@pytest.mark.parametrize("name", SMALL)
def test_the_outline_is_what_preparing_finds(name, data_folder):
    config = data.default(name)
    config.update(SMALL[name], folder=str(data_folder))
    outline, source = data.outline(config), data.load(config, "train")
    assert outline == {key: source.spec[key] for key in outline}
    batch = source.gather(np.arange(4))
    assert {key: (value.shape, value.dtype) for key, value in batch.items()} == data.batch_shapes(
        outline, 4
    )


def test_data_of_others_need_no_network():
    config = data.default("imagenet_resized/32x32")
    outline = data.outline(config)
    assert (outline["shape"], outline["num_classes"], outline["discrete"]) == (
        (32, 32, 3),
        1000,
        True,
    )
    text = data.default("lm1b")
    text.length = 512
    assert data.batch_shapes(data.outline(text), 2) == {"tokens": ((2, 513), np.int32)}


def test_images_of_no_one_size_need_a_resolution():
    config = data.default("imagenet2012")
    with pytest.raises(UserError, match="give data.resolution"):
        data.outline(config)
    config.resolution = 64
    assert data.outline(config)["shape"] == (64, 64, 3)
