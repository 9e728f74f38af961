"""The one Grain pipeline: batch k is a function of (seed, k) alone.

The random-access element is a whole batch, so a batch costs one fancy index over memory-mapped
arrays, and to resume, to branch or to change the number of processes is to seek.
"""

import functools
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from research.data.source import Source
from research.errors import UserError

if TYPE_CHECKING:
    import grain

Batch = dict[str, NDArray[Any]]


class _Batches:
    """The endless sequence of batches as a random-access source for Grain."""

    def __init__(self, source: Source, batch_size: int, seed: int, first: int, last: int):
        self.source, self.batch_size, self.seed = source, batch_size, seed
        self.first, self.last = first, last  # which rows of each batch
        # A batch may straddle two epochs, so two orders are kept.
        self.order = functools.lru_cache(maxsize=2)(self._order)

    def _order(self, epoch: int) -> NDArray[np.uint32]:
        # Not [seed, epoch]: numpy cuts both into 32-bit words, so [2**32, 0] would be [0, 1].
        key = np.random.SeedSequence(self.seed, spawn_key=(epoch,))
        indices = np.arange(len(self.source), dtype=np.uint32)
        return np.random.Generator(np.random.Philox(key)).permutation(indices)

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> Batch:
        start = index * self.batch_size
        epoch, offset = divmod(start + self.first, len(self.source))
        rows = self.order(epoch)[offset : offset + self.last - self.first]
        missing = self.last - self.first - len(rows)
        if missing:
            rows = np.concatenate([rows, self.order(epoch + 1)[:missing]])
        return self.source.gather(rows)


def batches(
    source: Source,
    batch_size: int,
    seed: int,
    *,
    start_step: int = 0,
    rows: tuple[int, int] | None = None,
) -> "grain.DatasetIterator[Batch]":
    """Return an endless Grain iterator over shuffled batches, from batch `start_step` on.

    Every example is seen once in each epoch; the order of an epoch is a permutation drawn from
    (seed, epoch), and a batch may straddle two epochs. Processes that share a batch each ask for
    their rows of it. `get_state` counts batches from step 0, whatever `start_step`.

    Args:
        source: the split to read.
        batch_size: examples of the global batch.
        seed: an integer, at least 0.
        start_step: the batch to begin with.
        rows: the rows [first, last) of each batch to return; None means all.

    Raises:
        UserError: when the seed is negative or the split has fewer examples than a batch.
    """
    import grain

    _check(source, batch_size)
    if seed < 0:
        raise UserError(f"seed is {seed}; it must be at least 0")
    own = _Batches(source, batch_size, seed, *(rows or (0, batch_size)))
    # No prefetch thread: a batch costs microseconds, and a worker has one core.
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    iterator = iter(grain.MapDataset.source(own).to_iter_dataset(options))
    iterator.set_state({"next_index": start_step})
    return iterator


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
