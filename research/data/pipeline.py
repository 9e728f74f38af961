"""Batch k is a function of (seed, k) alone: to resume, to branch or to change hosts is to seek.

A batch costs one fancy index over memory-mapped arrays, microseconds that pass while the device
computes the step before. So there is no thread that reads ahead and no state to save.
"""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data.mixing import Mixed
from research.data.source import Source
from research.errors import UserError

Batch = dict[str, NDArray[Any]]


def batches(
    source: Source,
    batch_size: int,
    seed: int,
    *,
    start_step: int = 0,
    rows: tuple[int, int] | None = None,
) -> Iterator[Batch]:
    """Return an endless iterator over shuffled batches, from batch `start_step` on.

    Every example is seen once in each epoch; the order of an epoch is a permutation drawn from
    (seed, epoch), and a batch may straddle two epochs. Processes that share a batch each ask for
    their rows of it.

    Args:
        source: the split to read.
        batch_size: examples of the global batch.
        seed: an integer, at least 0.
        start_step: the batch to begin with.
        rows: the rows [first, last) of each batch to return; None means all.

    Raises:
        UserError: when the seed is negative or the split has fewer examples than a batch.
    """
    _check(source, batch_size)
    if seed < 0:
        raise UserError(f"seed is {seed}; it must be at least 0")
    return _batches(source, batch_size, seed, start_step, *(rows or (0, batch_size)))


def _batches(
    source: Source, batch_size: int, seed: int, step: int, first: int, last: int
) -> Iterator[Batch]:
    mixture = isinstance(source, Mixed)
    sizes = source.kept if mixture else (len(source),)
    starts = np.cumsum((0, *sizes))

    @functools.lru_cache(maxsize=2 * len(sizes))  # a batch may straddle two epochs
    def order(part: int, epoch: int) -> NDArray[np.uint32]:
        # Not [seed, epoch]: numpy cuts both into 32-bit words, so [2**32, 0] would be [0, 1].
        # The first source of a mixture is read in the order that it has alone.
        key = np.random.SeedSequence(seed, spawn_key=(epoch, part) if part else (epoch,))
        indices = np.arange(sizes[part], dtype=np.uint32)
        return np.random.Generator(np.random.Philox(key)).permutation(indices)

    def rows(part: int, start: int, count: int) -> NDArray[np.int64]:
        """Examples `start` to `start` + `count` of the endless passes over a part."""
        found = []
        while count:
            epoch, offset = divmod(start, sizes[part])
            found.append(order(part, epoch)[offset : offset + count])
            start, count = start + len(found[-1]), count - len(found[-1])
        return starts[part] + np.concatenate(found)

    before = source.mix.seen(batch_size, seed, step) if mixture else np.array([step * batch_size])
    while True:
        if mixture:
            counts = source.mix.counts(batch_size, seed, np.array([step]))[0]
            key = np.random.SeedSequence(seed, spawn_key=(step, 0, 1))
            parts = np.repeat(np.arange(len(sizes)), counts)
            parts = np.random.Generator(np.random.Philox(key)).permutation(parts)
        else:
            counts, parts = np.array([batch_size]), np.zeros(batch_size, np.int64)
        chosen = np.empty(last - first, np.int64)
        for part in np.unique(parts[first:last]):
            skipped = int((parts[:first] == part).sum())
            here = parts[first:last] == part
            chosen[here] = rows(part, int(before[part]) + skipped, int(here.sum()))
        yield source.gather(chosen)
        before, step = before + counts, step + 1


def eval_batches(
    source: Source, batch_size: int, max_examples: int | None = None
) -> Iterator[Batch]:
    """Yield the examples of a split in a fixed order, all or `max_examples` spread evenly over it.

    Each batch has a "mask", float32 [batch]; the last one is filled up with copies of its first
    example, masked 0.

    Raises:
        UserError: when `batch_size` or `max_examples` is below 1.
    """
    for name, value in (("batch size", batch_size), ("max_examples", max_examples)):
        if value is not None and value < 1:
            raise UserError(f"evaluation {name} is {value}; it must be at least 1")
    count = len(source) if max_examples is None else min(max_examples, len(source))
    chosen = np.arange(count) * len(source) // count
    return _eval_batches(source, chosen, batch_size)


def _eval_batches(source: Source, chosen: NDArray[Any], batch_size: int) -> Iterator[Batch]:
    for start in range(0, len(chosen), batch_size):
        rows = chosen[start : start + batch_size]
        filled = np.concatenate([rows, np.full(batch_size - len(rows), rows[0])])
        mask = (np.arange(batch_size) < len(rows)).astype(np.float32)
        yield {**source.gather(filled), "mask": mask}


def _check(source: Source, batch_size: int) -> None:
    if batch_size < 1:
        raise UserError(f"batch size is {batch_size}; it must be at least 1")
    if batch_size > len(source):
        raise UserError(
            f"batch size {batch_size} is larger than the {source.split} split of"
            f" {len(source)} examples"
        )
