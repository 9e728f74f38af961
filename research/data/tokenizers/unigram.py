"""Unigram (Kudo 2018): many pieces, of which the least useful are dropped; likeliest split."""

import json
from collections.abc import Iterable
from typing import Any

from research.data.tokenizers import byte_level


def train(texts: Iterable[bytes], vocab: int) -> Any:
    """As the library trains it, but for scores that hang on the order of its hash tables.

    They are the last digits of all, and which of the bytes that are no pieces of their own comes
    first: these all have the lowest score.
    """
    from tokenizers import models, trainers

    trainer = trainers.UnigramTrainer(**byte_level.options(vocab))
    library = byte_level.fit(models.Unigram(), trainer, texts)
    (separator, _), *pieces = json.loads(library.to_str())["model"]["vocab"]
    rounded = {piece: round(score, 6) for piece, score in pieces}
    lowest = min(rounded.values())
    least = min((score for piece, score in rounded.items() if len(piece) > 1), default=lowest)
    settled = {
        piece: score if len(piece) > 1 or score > least else lowest
        for piece, score in rounded.items()
    }
    ordered = sorted(settled.items(), key=lambda pair: (-pair[1], pair[0]))
    library.model = models.Unigram([(separator, 0.0), *ordered], None, False)
    return library
