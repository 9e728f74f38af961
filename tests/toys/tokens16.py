"""A source in one file: numbers counted in steps, as 16-bit tokens, with weights beside them.

Document d counts upwards by d + 1 modulo `vocab_size` from a random start, so that two tokens tell
the third. A prediction across the seam of two documents has weight 0.
"""

import numpy as np

from research.data import source
from research.data.settings import SPLITS
from research.errors import UserError

DEFAULTS = {"length": 16, "vocab_size": 40_000, "documents": 40, "seed": 0}


def check(data):
    if not 2 <= data["vocab_size"] <= 2**16:
        raise UserError(f"data.vocab_size is {data['vocab_size']}; 16 bits hold 2 to 65536")


def outline(data):
    beside = ("weights", "segments", "positions")
    return source.text(data["length"], data["vocab_size"], beside=beside)


def fill(writer, data):
    count = 4 * data["length"]
    for number, split in enumerate(SPLITS):
        draw = np.random.default_rng([data["seed"], number])
        for document in range(data["documents"]):
            start = draw.integers(data["vocab_size"])
            tokens = (start + (document + 1) * np.arange(count)) % data["vocab_size"]
            writer.append(split, "tokens", tokens.astype(np.uint16))
            writer.append(split, "weights", (np.arange(count) > 0).astype(np.float32))
            writer.append(split, "segments", np.full(count, document, np.int32))
            writer.append(split, "positions", np.arange(count, dtype=np.int32))
