"""WordPiece (Wu et al. 2016): pieces are learned as pairs are, a word is read longest piece first.

A space is part of the word after it, so that a piece within a word needs no mark, which could be
mistaken for text.
"""

from collections.abc import Iterable
from typing import Any

from research.data.tokenizers import byte_level


def train(texts: Iterable[bytes], vocab: int) -> Any:
    from tokenizers import models, trainers

    model = models.WordPiece(
        unk_token=byte_level.SEPARATOR,  # for words that are longer, of which there are none
        max_input_chars_per_word=byte_level.LONGEST_WORD,
    )
    trainer = trainers.WordPieceTrainer(continuing_subword_prefix="", **byte_level.options(vocab))
    return byte_level.fit(model, trainer, texts)
