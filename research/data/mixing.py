"""Several sources in one batch, by weights: which example comes whence is a function of the step.

Of batch k, source i gives B w_i(k) examples, rounded down or up: the borders between sources are
floor(B (w_1 + .. + w_i) + u_k). The offset u_k in [0, 1) is the same for all borders and moves by
the golden ratio from batch to batch, so that the shares of a run are its weights to within a few
examples, however small a weight is. Within a source the examples are shuffled passes of its own.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from research.data.source import Column, Source, Spec
from research.errors import UserError

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 times the golden ratio's fraction
CHUNK = 65_536  # batches that are counted at once


class Mix(NamedTuple):
    """Weights of sources along a run.

    Attributes:
        first, last: the weights of each source, which need not sum to 1.
        steps: (a, b): `first` up to step a, `last` from step b on, in a straight line between.
    """

    first: tuple[float, ...]
    last: tuple[float, ...]
    steps: tuple[int, int] = (0, 0)

    def shares(self, steps: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the share of each source in each of `steps`, [steps, sources]."""
        begin, end = self.steps
        way = np.clip((steps - begin) / max(1, end - begin), 0, 1) if end > begin else steps >= end
        first, last = (np.array(each) / sum(each) for each in (self.first, self.last))
        return first + np.asarray(way, np.float64)[:, None] * (last - first)

    def counts(self, batch_size: int, seed: int, steps: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return how many examples of each source batch `steps` have, int64 [steps, sources]."""
        start = np.random.SeedSequence(seed, spawn_key=(0, 0, 0)).generate_state(1, np.uint64)
        offsets = (start + steps.astype(np.uint64) * GOLDEN) / 2.0**64
        summed = np.cumsum(self.shares(steps), axis=1)
        borders = batch_size * (summed / summed[:, -1:])  # what has no weight gives nothing
        whole = np.floor(borders + np.minimum(offsets, 1 - 2.0**-53)[:, None]).astype(np.int64)
        whole[:, -1] = batch_size  # whatever the rounding of the sum of all shares
        return np.diff(np.minimum(whole, batch_size), axis=1, prepend=0)

    def seen(self, batch_size: int, seed: int, steps: int) -> NDArray[np.int64]:
        """Return how many examples of each source the first `steps` batches have, [sources]."""
        total = np.zeros(len(self.first), np.int64)
        for start in range(0, steps, CHUNK):
            chunk = np.arange(start, min(start + CHUNK, steps))
            total += self.counts(batch_size, seed, chunk).sum(0)
        return total


def check_weights(key: str, weights: Sequence[Any], count: int) -> None:
    """Raise UserError unless `weights` are one for each of `count` sources, none below 0."""
    numbers = all(isinstance(w, (int, float)) and not isinstance(w, bool) for w in weights)
    if len(weights) != count or not numbers:
        raise UserError(f"{key} is {tuple(weights)}; expected {count} numbers, one a source")
    if not all(0 <= weight < np.inf for weight in weights) or not sum(weights) > 0:
        raise UserError(f"{key} is {tuple(weights)}; weights are at least 0, and one is above")


@dataclasses.dataclass(frozen=True)
class Mixed(Source):
    """One split of several sources, one after another; `source` in a batch tells which.

    Attributes:
        parts: the split of each source.
        kept: how many examples of each are in it, spread evenly over the part.
        mix: the weights by which batches are drawn from it.
    """

    parts: tuple[Source, ...] = ()
    kept: tuple[int, ...] = ()
    mix: Mix = Mix((1.0,), (1.0,))

    @functools.cached_property
    def ends(self) -> NDArray[np.int64]:
        """Where the examples of each part end, [sources]."""
        return np.cumsum(self.kept)

    def gather(self, indices: Sequence[int] | NDArray[np.integer]) -> dict[str, NDArray[Any]]:
        """Return the examples `indices` ([batch]) stacked along a new first axis."""
        rows = np.asarray(indices, np.int64)
        which = np.searchsorted(self.ends, rows, side="right")
        batch = {
            name: np.empty((len(rows), *column.shape), column.dtype)
            for name, column in self.spec["arrays"].items()
        }
        for number, (part, kept) in enumerate(zip(self.parts, self.kept, strict=True)):
            here = np.flatnonzero(which == number)
            own = (rows[here] - (self.ends[number] - kept)) * len(part) // max(1, kept)
            for name, values in part.gather(own).items() if len(here) else ():
                batch[name][here] = values
        batch["source"][:] = which
        return batch


def outline(spec: Spec, names: Sequence[str]) -> Spec:
    """Return the spec of a mixture of the sources `names`, each of which looks like `spec`.

    Its batches have "source" too, int32 [batch]: the number of an example's source in `names`.
    """
    arrays = spec["arrays"] | {"source": Column((), np.int32, "source")}
    return {**spec, "arrays": arrays, "source_names": tuple(names)}


def mixed(
    arrays: dict[str, NDArray[Any]],
    parts: Sequence[Source],
    spec: Spec,
    mix: Mix,
    held_out: Sequence[float],
) -> Mixed:
    """Return one split of a mixture.

    Args:
        arrays: of all sources, one after another.
        parts: the split of each source.
        spec: as `outline` returns it.
        mix: the weights by which training draws.
        held_out: the weights of validation and test, which are as many examples in these
            proportions as there are without repeating one; all examples of train are in it.
    """
    split, lengths = parts[0].split, [len(part) for part in parts]
    kept = lengths
    if split != "train":
        shares = np.array(held_out) / sum(held_out)
        most = min(n / share for n, share in zip(lengths, shares, strict=True) if share)
        kept = [min(n, int(most * share + 1e-9)) for n, share in zip(lengths, shares, strict=True)]
    spec = spec | {"unique": sum(kept) * spec["amount"]}
    return Mixed(
        split,
        arrays,
        spec,
        parts[0].fingerprint,
        None,
        parts[0].tokenizer,
        parts=tuple(parts),
        kept=tuple(kept),
        mix=mix,
    )


def tally(source: Source, batch_size: int, seed: int, steps: int) -> dict[str, Any]:
    """Return {"sources": what each source gave to `steps` batches}, or {} where there is one.

    By source: "unique" and "seen", tokens there and read, its "share" of what was read, and the
    "epochs" of it that this is.
    """
    if not isinstance(source, Mixed):
        return {}
    amount, seen = source.spec["amount"], source.mix.seen(batch_size, seed, steps)
    return {
        "sources": {
            name: {
                "unique": len(part) * amount,
                "seen": int(count) * amount,
                "share": int(count) / max(1, steps * batch_size),
                "epochs": int(count) / len(part),
            }
            for name, part, count in zip(
                source.spec["source_names"], source.parts, seen, strict=True
            )
        }
    }
