"""Greedy completions: the likeliest tokens, one after another, after prompts of any lengths."""

from collections.abc import Sequence
from typing import Any

from research import data, families
from research.data.tokenizers import Bytes
from research.sampling.drawing import Drawing
from research.sampling.engine import Engine
from research.sampling.generate import generate


def complete(
    config: Any, params: Any, texts: Sequence[str], new_tokens: int, end: bytes
) -> list[bytes]:
    """What the network writes after each of `texts`: `new_tokens`, or up to beyond `end`.

    A prompt that is too long for config.data.length loses its beginning.
    """
    tokenizer = data.tokenizer(config.data) or Bytes()
    rows = config.evaluation.batch_size
    network = families.load(config.family).drawn_from(config, params, rows)
    engine = Engine(network, rows, config.data.length)
    most = config.data.length - new_tokens

    def ends(tokens: list[int]) -> int | None:
        return len(tokens) if end in tokenizer.decode(tokens) else None

    read = [tokenizer.encode(text.encode())[-most:].tolist() for text in texts]
    found = generate(engine, read, new_tokens, Drawing(temperature=0.0), ends=ends)
    return [tokenizer.decode(each.tokens) for each in found]
