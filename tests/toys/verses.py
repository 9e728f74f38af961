"""A source of text in one file: verses of words of three syllables, and a text that is no UTF-8."""

import numpy as np

from research.data import SPLITS

DEFAULTS = {"verses": 40, "seed": 0}
SYLLABLES = ("ro", "se", "ni", "ght", "fal", "li", "θά", "λα", "riv", "er", "sto", "ne")
ODD = b"<|endoftext|> \xff\xfe\x80 ##is\0" + bytes(range(256))


def documents(data):
    for number, split in enumerate(SPLITS):
        draw = np.random.default_rng([data["seed"], number])
        for _ in range(data["verses"]):
            words = ("".join(syllables) for syllables in draw.choice(SYLLABLES, (12, 3)))
            yield split, " ".join(words).encode()
        yield split, ODD
