"""Text as tokens and back, exact on every string of bytes.

The `tokenizers` library reads text. So each byte of a word's UTF-8 is written as one of 256
printable characters, which the model joins (Radford et al. 2019, section 2.2: GPT-2); a byte that
is not part of UTF-8 is the token of that byte alone.
"""

import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.errors import UserError
from research.run import storage

SEPARATOR = "<|endoftext|>"  # token 0, behind every document; no text is encoded as it
# Words as GPT-2 has them, none longer than 33 characters: so that the time to encode is linear in
# the text, and the length of a token fits one byte.
WORDS = (
    r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}{1,32}| ?\p{N}{1,32}| ?[^\s\p{L}\p{N}]{1,32}"
    r"|\s{1,32}(?!\S)|\s{1,32}"
)
LONGEST_WORD = 33 * 4  # bytes
LONGEST_TOKEN = 255  # bytes, as an array of uint8 holds them
# Bytes that are no UTF-8, which Python decodes as these, and text, at most a MiB at once.
PIECES = re.compile("[\udc80-\udcff]+|[^\udc80-\udcff]{1,1048576}")
PROBE = bytes(range(256)) + f"##a {SEPARATOR} ' x'll  \n\t é語 ".encode() + b"\xed\xa0\x80\xff\0"


class Bytes:
    """Each byte is a token; a document ends with a 0.

    Attributes:
        vocab_size: how many tokens there are.
        lengths: of each token in bytes, uint8 [vocab_size].
        content: the tokenizer.json, of which there is none.
    """

    vocab_size, content, sha256 = 256, b"", ""
    lengths = np.ones(256, np.uint8)

    def encode(self, text: bytes) -> NDArray[np.int32]:
        """The tokens of `text`, without a separator."""
        return np.frombuffer(text, np.uint8).astype(np.int32)

    def decode(self, tokens: Sequence[int] | NDArray[np.integer]) -> bytes:
        """What `tokens` spell; a separator is a byte 0.

        Raises:
            UserError: for a token outside the vocabulary.
        """
        return bytes(_inside(tokens, self.vocab_size).astype(np.uint8))


class Subwords:
    """The tokenizer of a tokenizer.json; `Bytes` says what it has.

    Args:
        content: of the file.
        name: what an error calls it.

    Raises:
        UserError: when the content is not of the library, or some bytes do not come back.
    """

    def __init__(self, content: bytes, name: str | Path):
        import tokenizers

        try:
            self._library: Any = tokenizers.Tokenizer.from_str(content.decode())
        except Exception as error:  # the library's, which has no class of its own
            raise UserError(f"{name} is not a tokenizer.json: {str(error)[:120]}") from error
        self.content, self.sha256 = content, hashlib.sha256(content).hexdigest()
        self._library.no_truncation()
        self._library.no_padding()
        self._library.encode_special_tokens = True  # their names, in a text, are text
        self._spelled = self._check(name)
        self.vocab_size = len(self._spelled)
        self.lengths = np.array(list(map(len, self._spelled)), np.uint8)

    def _check(self, name: str | Path) -> list[bytes]:
        """The bytes that each token spells, after a test that every byte has its token."""
        self._spelled = spelled = _spelled(self._library)
        added = self._library.get_added_tokens_decoder()
        if 0 not in added or not added[0].special:
            raise UserError(f"{name}: token 0 is no special token; here it is what ends a document")
        if (longest := max(map(len, spelled))) > LONGEST_TOKEN:
            raise UserError(f"{name}: a token of {longest} bytes; at most {LONGEST_TOKEN} are read")
        known = {text: token for token, text in reversed(list(enumerate(spelled))) if token}
        self._bytes = [known.get(bytes([value]), -1) for value in range(256)]
        if min(self._bytes) < 0:
            missing = self._bytes.index(-1)
            raise UserError(f"{name} is not byte-level: byte {missing} has no token")
        (tokens,) = self.encode_all([PROBE])
        if (tokens == 0).any() or b"".join(spelled[token] for token in tokens) != PROBE:
            raise UserError(f"{name} is not byte-level: some texts do not come back as they were")
        return spelled

    def encode(self, text: bytes) -> NDArray[np.int32]:
        """The tokens of `text`, without a separator."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[bytes]) -> list[NDArray[np.int32]]:
        """The tokens of each text, on all cores."""
        pieces = [PIECES.findall(text.decode(errors="surrogateescape")) for text in texts]
        read = [piece for each in pieces for piece in each if not _stray(piece)]
        found = iter(self._library.encode_batch_fast(read, add_special_tokens=False))
        tokens = []
        for each in pieces:
            ids: list[int] = []
            for piece in each:
                if _stray(piece):
                    ids += [self._bytes[ord(character) - 0xDC00] for character in piece]
                else:
                    ids += next(found).ids
            tokens.append(np.array(ids, np.int32))
        return tokens

    def decode(self, tokens: Sequence[int] | NDArray[np.integer]) -> bytes:
        """What `tokens` spell; a separator is a byte 0.

        Raises:
            UserError: for a token outside the vocabulary.
        """
        inside = _inside(tokens, self.vocab_size)
        return b"".join(self._spelled[token] for token in inside.tolist())


Tokenizer = Bytes | Subwords


def _inside(tokens: Any, vocab_size: int) -> NDArray[Any]:
    """`tokens` as an array, or UserError for one that is not below `vocab_size`."""
    tokens = np.asarray(tokens, np.int64)
    outside = tokens[(tokens < 0) | (tokens >= vocab_size)]
    if outside.size:
        raise UserError(
            f"token {outside[0]} is outside the vocabulary of {vocab_size}: the tokenizer is not "
            "the one that these tokens are of"
        )
    return tokens


def _stray(piece: str) -> bool:
    return "\udc80" <= piece[0] <= "\udcff"


@functools.cache
def alphabet() -> dict[str, int]:
    """The byte that each of the 256 characters stands for, which are GPT-2's.

    Bytes that print are themselves, as Latin-1 has them; the others follow from U+0100 on.
    """
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in printing]
    return {chr(value): value for value in printing} | {
        chr(0x100 + place): value for place, value in enumerate(others)
    }


def _spelled(library: Any) -> list[bytes]:
    """The bytes of each token; 0 spells the byte 0, other special tokens nothing."""
    values, names = alphabet(), library.get_vocab(with_added_tokens=True)
    spelled = [b""] * (max(names.values()) + 1)
    for name, token in names.items():
        if all(character in values for character in name):
            spelled[token] = bytes(values[character] for character in name)
    for token, added in library.get_added_tokens_decoder().items():
        spelled[token] = b"" if added.special else added.content.encode()
    return [b"\0", *spelled[1:]]


def fit(model: Any, trainer: Any, texts: Iterable[bytes]) -> Any:
    """Return the library's tokenizer over bytes, its `model` trained on `texts`."""
    import tokenizers
    from tokenizers import decoders, pre_tokenizers

    library = tokenizers.Tokenizer(model)
    split = pre_tokenizers.Split(tokenizers.Regex(WORDS), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    library.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    library.decoder = decoders.ByteLevel()
    library.train_from_iterator(_readable(texts), trainer)
    return library


def _readable(texts: Iterable[bytes]) -> Iterator[str]:
    for text in texts:
        for piece in PIECES.findall(text.decode(errors="surrogateescape")):
            if not _stray(piece):
                yield piece


def options(vocab: int) -> dict[str, Any]:
    """What every trainer of the library is told for a vocabulary of `vocab`, bytes among it."""
    return dict(
        vocab_size=vocab,
        special_tokens=[SEPARATOR],
        initial_alphabet=sorted(alphabet()),
        show_progress=False,
    )


def read(path: str | Path) -> Subwords:
    """Return the tokenizer of the file at `path`, here or in a bucket.

    Raises:
        UserError: when it cannot be read, or is no tokenizer over bytes.
    """
    try:
        return _made(storage.path(path).read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"cannot read the tokenizer {path}: {error.strerror or error}") from error


_made = functools.lru_cache(maxsize=8)(Subwords)
