"""Text that a finished run writes after a prompt: what `sample --prompt` and `chat` do."""

import bisect
import codecs
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jax import numpy as jnp
from ml_collections import ConfigDict

from research import families, run_tokenizer, trained
from research.data.tokenizers import Tokenizer
from research.errors import UserError
from research.sampling import beam, filling, speculative
from research.sampling.drawing import Drawing
from research.sampling.engine import Engine
from research.sampling.filling import Filler
from research.sampling.generate import Continuation, generate

SEPARATOR = 0  # between documents, and before the first
CACHES = {"": None, "int8": jnp.int8}
ROWS = 16  # prompts that are continued together


class Settings(NamedTuple):
    """How prompts are continued; the names are those of the options.

    Attributes:
        tokens: at most so many more.
        context: positions of a prompt and its continuation; 0: those of the run's examples.
        stop: texts before which a continuation ends.
        beam: beams of a search for the likeliest continuation; 0: tokens are drawn.
        guesses: tokens that `guess_by`, a smaller run, guesses at once.
        cache: "int8" keeps keys and values so.
    """

    tokens: int = 64
    context: int = 0
    drawing: Drawing = Drawing()
    seed: int = 0
    stop: tuple[str, ...] = ()
    beam: int = 0
    guess_by: str = ""
    guesses: int = 4
    cache: str = ""


class Written(NamedTuple):
    """A prompt and what came after it.

    Attributes:
        text: ends before what stopped it.
        tokens: all that were drawn, with those that ended it.
        log_probabilities: of each token, in nats; none where a search or guesses found them.
        ended: whether a stop or the document's end did; else it is as long as it was to be.
    """

    prompt: str
    text: str
    tokens: list[int]
    log_probabilities: list[float]
    ended: bool


class Writer(NamedTuple):
    """A run that continues text, of as many prompts together as `rows`."""

    config: ConfigDict
    network: Any  # a Network, or a Filler of whole windows
    tokenizer: Tokenizer
    rows: int = 1


def open_run(folder: str | Path, prompts: int = 1, ema: float | None = None) -> Writer:
    """Load a run whose tokens are text, laid out to continue so many at a time, at most `ROWS`.

    Args:
        ema: the relative width of the average of its weights that writes (`trained.load`).

    Raises:
        UserError: when there is no such run, its tokens are no text, or it predicts none in order.
    """
    config = trained.settings(folder)
    family = families.load(config.family)
    tokenizer = run_tokenizer.load(folder)
    draws, fills = hasattr(family, "drawn_from"), hasattr(family, "fill")
    if tokenizer is None or not (draws or fills):
        raise UserError(f"{folder} is no run on text, so it has nothing to write after a prompt")
    config, params = trained.load(folder, ema)
    rows = min(prompts, ROWS)
    if not draws:
        return Writer(config, Filler(config, params, family.fill, rows), tokenizer, rows)
    return Writer(config, family.drawn_from(config, params, rows), tokenizer, rows)


def write(
    writer: Writer,
    prompts: Sequence[str],
    settings: Settings,
    told: Callable[[int, str], None] = lambda number, text: None,
) -> list[Written]:
    """Continue each prompt, as the beginning of a document.

    Args:
        told: called with the number of a prompt and its new text as it comes.

    Raises:
        UserError: for a prompt that is empty or too long, or settings that do not go together.
    """
    tokenizer = writer.tokenizer
    for number, prompt in enumerate(prompts, start=1):
        if not prompt:
            raise UserError(f"prompt {number} is empty; give it at least one character")
    tokens = [[SEPARATOR, *tokenizer.encode(prompt.encode()).tolist()] for prompt in prompts]
    stops = [stop.encode() for stop in settings.stop]
    if not all(stops):
        raise UserError("--stop is empty; give it at least one character")

    def ends(drawn: list[int]) -> int | None:
        """Up to the token in which a stop, or the document, is over."""
        found = _cut(tokenizer, drawn, stops)
        return None if found is None else found[0]

    rows = _rows(writer, tokens, settings, ends, _Streams(tokenizer, told))
    written = []
    for prompt, row in zip(prompts, rows, strict=True):
        _, text = _cut(tokenizer, row.tokens, stops) or (0, tokenizer.decode(row.tokens))
        text = text.decode(errors="replace")
        written.append(Written(prompt, text, row.tokens, row.log_probabilities, row.ended))
    return written


def _rows(
    writer: Writer, tokens: list[list[int]], settings: Settings, ends: Callable, told: Callable
) -> list[Continuation]:
    """Continuations of tokens, in the way that the settings ask for."""
    if isinstance(writer.network, Filler):
        return _by_filling(writer.network, tokens, settings, ends)
    context = settings.context or writer.config.data.length
    most = writer.config.model.get("max_length", context)
    if context > most:
        raise UserError(
            f"--context {context} is longer than the {most} positions that have a vector"
        )
    if settings.cache not in CACHES:
        raise UserError(f"--cache {settings.cache!r} is not one of int8")
    dtype = CACHES[settings.cache]
    if settings.beam:
        return _by_beams(writer, tokens, settings, context, dtype, ends)
    if settings.guess_by:
        return _by_guesses(writer, tokens, settings, context, dtype, ends)
    engine = Engine(writer.network, writer.rows, context, dtype)
    return generate(
        engine, tokens, settings.tokens, settings.drawing,
        seed=settings.seed, ends=ends, told=told,
    )  # fmt: skip


def _by_filling(
    filler: Filler, tokens: list[list[int]], settings: Settings, ends: Callable
) -> list[Continuation]:
    """What a network that sees all of a window puts after each prompt."""
    others = ("context", "beam", "guess_by", "cache")
    given = {name: getattr(settings, name) for name in others}
    plain, drawing = Drawing(), settings.drawing._asdict()
    given |= {k: v != getattr(plain, k) for k, v in drawing.items() if k != "temperature"}
    filling.check(filler, tokens, settings.tokens, given)
    return filling.continued(filler, tokens, settings.tokens, settings.drawing, settings.seed, ends)


def _by_beams(
    writer: Writer, tokens: list, settings: Settings, context: int, dtype: Any, ends: Callable
) -> list[Continuation]:
    """The likeliest continuation of each prompt that a search finds."""
    beam.check_width(settings.beam, writer.network)
    engine = Engine(writer.network, settings.beam, context, dtype)
    found = (beam.search(engine, prompt, settings.tokens, end=SEPARATOR)[0] for prompt in tokens)
    return [_ended(best.tokens, ends) for best in found]


def _by_guesses(
    writer: Writer, tokens: list, settings: Settings, context: int, dtype: Any, ends: Callable
) -> list[Continuation]:
    """Draws of the run, of which a smaller one guesses several at once."""
    small = open_run(settings.guess_by)
    if small.tokenizer.sha256 != writer.tokenizer.sha256:
        raise UserError(f"--guess_by {settings.guess_by} has another tokenizer")
    large, guesser = (Engine(each.network, 1, context, dtype) for each in (writer, small))
    found = (
        speculative.speculate(
            large, guesser, prompt, settings.tokens, settings.drawing,
            guesses=settings.guesses, seed=settings.seed + number,
        )
        for number, prompt in enumerate(tokens)
    )  # fmt: skip
    return [_ended(drawn.tokens, ends) for drawn in found]


def _ended(drawn: list[int], ends: Callable) -> Continuation:
    kept = ends(drawn)
    return Continuation(drawn[:kept], [], kept is not None)


def _cut(tokenizer: Tokenizer, drawn: list[int], stops: list[bytes]) -> tuple[int, bytes] | None:
    """Where `drawn` ends: how many tokens that takes, and the text before; None if it does not."""
    text = tokenizer.decode(drawn)
    found = [(at, at + len(stop)) for stop in stops if (at := text.find(stop)) >= 0]
    if SEPARATOR in drawn:
        at = len(tokenizer.decode(drawn[: drawn.index(SEPARATOR)]))
        found.append((at, at + 1))
    if not found:
        return None
    first, last = min(found)
    lengths = itertools.accumulate(len(tokenizer.decode([token])) for token in drawn)
    return bisect.bisect_left([*lengths], last) + 1, text[:first]


class _Streams:
    """Tells text as its bytes become whole characters."""

    def __init__(self, tokenizer: Tokenizer, told: Callable[[int, str], None]):
        self.tokenizer, self.told, self.decoders = tokenizer, told, {}

    def __call__(self, number: int, tokens: list[int]) -> None:
        new: Any = codecs.getincrementaldecoder("utf-8")
        decoder = self.decoders.setdefault(number, new(errors="replace"))
        if text := decoder.decode(self.tokenizer.decode(tokens)).replace("\0", ""):
            self.told(number, text)
