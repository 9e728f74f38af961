"""The tokenizer.json of bytes: each is its own token, so that any text gets the ids a run read."""

from typing import Any


def characters() -> list[str]:
    """The printable character by which the `tokenizers` library writes each byte.

    Those that print in Latin-1 are themselves, the others follow from U+0100 on (Radford et al.
    2019, GPT-2).
    """
    prints = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in prints]
    found = {value: chr(value) for value in prints}
    found |= {value: chr(256 + place) for place, value in enumerate(others)}
    return [found[value] for value in range(256)]


def content() -> dict[str, Any]:
    """The file: byte-pair encoding of bytes without a pair."""
    bytes_apart = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    bytes_apart["use_regex"] = False
    vocab = {character: value for value, character in enumerate(characters())}
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": bytes_apart,
        "post_processor": None,
        "decoder": bytes_apart,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }
