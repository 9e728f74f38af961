"""What the sources of known truth have in common, and what they refuse."""

import numpy as np
import pytest

from research import data
from research.data import sources, truth
from research.errors import UserError

SMALL = {
    "ising": dict(height=4, width=5, images=64, validation_images=32),
    "gaussian_field": dict(images=64, validation_images=32),
    "modes": dict(images=64, validation_images=32),
    "hidden_markov": dict(length=8, tokens=800, validation_tokens=400),
    "hierarchy": dict(tokens=800, validation_tokens=400),
    "zipf_facts": dict(examples=64, validation_examples=32),
    "teacher": dict(length=8, tokens=800, validation_tokens=400),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_source_is_a_function_of_its_seed(name, tmp_path):
    config = data.default(name)
    config.update(SMALL[name], folder=str(tmp_path / "one"))
    first = data.fingerprint(config)
    config.folder = str(tmp_path / "two")
    assert data.fingerprint(config) == first
    parts = [data.load(config, split).gather(np.arange(8)) for split in data.SPLITS]
    array = "image" if "image" in parts[0] else "tokens"
    assert len({part[array].tobytes() for part in parts}) == 3
    config.seed = 1
    assert data.fingerprint(config) != first


@pytest.mark.parametrize("name", [n for n in SMALL if n != "zipf_facts"])
def test_the_floor_is_the_mean_cost_of_what_is_drawn(name, tmp_path):
    config = data.default(name)
    config.update(SMALL[name], folder=str(tmp_path))
    source = data.load(config, "train")
    batch = source.gather(np.arange(len(source)))
    samples = batch["image" if "image" in batch else "tokens"]
    amount = source.spec.get("length") or np.prod(source.spec["shape"])
    module = sources.load(name)
    bits = -module.log_probability(config, samples) / (amount * np.log(2))
    assert bits.shape == (len(source),) and bits.dtype == np.float64
    floor = source.floor or {}
    apart = np.hypot(bits.std() / len(bits) ** 0.5, floor.get("standard_error", 0))
    assert abs(bits.mean() - floor["value"]) < 4 * apart + 1e-12


def test_what_opens_a_window_is_taken_off_again():
    symbols = np.array([[0, 3], [2, 1]])
    windows = truth.opened(symbols)
    assert windows.tolist() == [[0, 1, 4], [0, 3, 2]] and windows.dtype == np.uint8
    assert truth.opened(np.array([[255]])).dtype == np.uint16
    again, valid = truth.closed(windows, 5)
    assert (again == symbols).all() and valid.all()
    assert truth.closed(windows, 4)[1].tolist() == [False, True]


WRONG = [
    ("ising", dict(height=2), "data.height is 2; it must be from 3 to 10"),
    ("ising", dict(height=11), "data.height is 11; it must be from 3 to 10"),
    ("ising", dict(width=33), "data.width is 33; it must be from 3 to 32"),
    ("ising", dict(beta=-0.1), "data.beta is -0.1; it must be from 0 to 2"),
    ("ising", dict(beta="hot"), "data.beta is 'hot'; expected float"),
    ("ising", dict(images=0), "data.images is 0; it must be at least 1"),
    ("ising", dict(resolution=8), "data.resolution is not a key of ising"),
    ("hidden_markov", dict(states=1), "data.states is 1; it must be from 2 to 256"),
    ("hidden_markov", dict(vocab_size=2), "data.vocab_size is 2; it must be from 3 to 4096"),
    ("hidden_markov", dict(concentration=0.0), "data.concentration is 0.0; it must be from"),
    ("hidden_markov", dict(length=10**7), "data.length is 10000000, longer than data.tokens"),
    ("hierarchy", dict(length=24), r"data.length is 24; .* branching \*\* depth = 16.* valid: 16"),
    ("hierarchy", dict(length=8), "data.length is 8; .* nearest valid: 16"),
    ("hierarchy", dict(synonyms=9), "data.synonyms is 9; 8 symbols have at most 8 rules of 2"),
    ("hierarchy", dict(classes=17), "data.classes is 17; at most 16 are told apart by 4 rules"),
    ("hierarchy", dict(branching=1), "data.branching is 1; it must be from 2 to 8"),
    ("hierarchy", dict(branching=8), "data.branching is 8 with data.vocab_size 9: 16777216 right"),
    ("hierarchy", dict(depth=11), "data.depth is 11; it must be from 1 to 10"),
    ("gaussian_field", dict(resolution=1), "data.resolution is 1; it must be from 2 to 256"),
    ("gaussian_field", dict(exponent=-1.0), "data.exponent is -1.0; it must be from 0 to 8"),
    ("modes", dict(layout="rings"), r"data.layout is 'rings'; .* \(did you mean 'ring'\?\)"),
    ("modes", dict(deviation=0.0), "data.deviation is 0.0; it must be from 0.0001"),
    ("modes", dict(deviation=0.2), "data.deviation is 0.2; it must be from 0.0001 to 0.0956"),
    ("modes", dict(layout="cube", deviation=0.03), "data.deviation is 0.03; .* to 0.0277"),
    ("zipf_facts", dict(facts=4_097), "data.facts is 4097; at most 4096 .* 3 digits of 16 kinds"),
    ("zipf_facts", dict(alpha=0.0), "data.alpha is 0.0; it must be from 0.01 to 10"),
    ("zipf_facts", dict(length=1), "data.length is 1; it must be from 2 to 16"),
    ("teacher", dict(context=0), "data.context is 0; it must be at least 1"),
    ("teacher", dict(context=5), r"data.context is 5 with data.vocab_size 17: .* 17\^6 numbers"),
    ("teacher", dict(temperature=0.0), "data.temperature is 0.0; it must be from 0.001"),
    ("teacher", dict(hidden=5_000), "data.hidden is 5000; it must be from 1 to 1024"),
    ("teacher", dict(seed=-1), "data.seed is -1; it must be from 0"),
]


@pytest.mark.parametrize("name, changes, message", WRONG)
def test_a_wrong_config_is_one_clear_line(tmp_path, name, changes, message):
    config = dict(data.default(name)) | {"folder": str(tmp_path / "data")} | changes
    with pytest.raises(UserError, match=message) as caught:
        data.load(config, "train")
    assert "\n" not in str(caught.value) and not (tmp_path / "data").exists()
