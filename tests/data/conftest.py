"""Small packs that several test files read."""

import pytest

from research import data


@pytest.fixture(scope="session")
def small_glyphs(tmp_path_factory):
    """The config of a glyph set of two small fonts, prepared once."""
    config = data.default("glyphs")
    config.folder = str(tmp_path_factory.mktemp("glyphs"))
    config.fonts = ("DejaVuSansDisplay", "DejaVuSerifDisplay", "STIXGeneralItalic")
    data.fingerprint(config)
    return config


@pytest.fixture(scope="session")
def small_text(tmp_path_factory):
    """The config of a few packages of the standard library, prepared once."""
    config = data.default("python_stdlib")
    config.folder = str(tmp_path_factory.mktemp("stdlib"))
    config.files = ("json/*", "email/*", "asyncio/*", "http/*", "xml/*", "urllib/*")
    data.fingerprint(config)
    return config


@pytest.fixture
def small_chain(tmp_path):
    """The config of a small Markov chain in a folder of its own, not prepared."""
    config = data.default("markov")
    config.folder = str(tmp_path / "data")
    config.length, config.tokens, config.validation_tokens = 8, 800, 80
    return config
