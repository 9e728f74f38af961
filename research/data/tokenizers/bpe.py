"""Byte-pair encoding (Sennrich et al. 2016): the most frequent pair is joined, again and again."""

from collections.abc import Iterable
from typing import Any

from research.data.tokenizers import byte_level


def train(texts: Iterable[bytes], vocab: int) -> Any:
    from tokenizers import models, trainers

    trainer = trainers.BpeTrainer(**byte_level.options(vocab))
    return byte_level.fit(models.BPE(), trainer, texts)
