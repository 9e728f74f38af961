"""Near-duplicate documents: those whose Jaccard resemblance is large, and theirs in turn.

The resemblance of two documents is |A & B| / |A | B| over their sets of word shingles
(Broder 1997, "On the resemblance and containment of documents"). Of a small corpus it is known
exactly for all pairs: a sparse product of the document-by-shingle matrix with itself gives every
|A & B|. Of a larger one only sketches are kept, some 14 KB a document: MinHash estimates the
resemblance of the pairs that locality-sensitive hashing finds.
"""

import itertools
import re
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

WORDS = re.compile(rb"\w+|[^\w\s]")
# What is compared exactly; the product's cost grows with the square of the documents that share.
EXACT_DOCUMENTS, EXACT_BYTES = 20_000, 64 * 2**20
# A pair of resemblance 0.5 shares a band of 3 of 126 minima with probability 1 - (1 - 1/8)^42, so
# one in 270 is missed; the estimate, with a standard error of 0.045, then decides.
BANDS, ROWS = 42, 3


def runs(text: bytes, size: int) -> NDArray[np.uint64]:
    """Return a hash of every `size` consecutive words of `text`, in their order.

    A text of fewer than `size` words is one run.
    """
    words = [zlib.crc32(word) for word in WORDS.findall(text)]
    words += [0] * (size - len(words))
    hashes = np.array(words, np.uint64)
    count = len(hashes) - size + 1
    mixed = np.zeros(count, np.uint64)
    for offset in range(size):  # a polynomial hash, modulo 2**64 by overflow
        mixed = (mixed + hashes[offset : offset + count]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def shingles(text: bytes, size: int = 5) -> NDArray[np.uint64]:
    """Return the distinct `runs` of `text`, sorted."""
    return np.unique(runs(text, size))


def groups(texts: Iterable[bytes], threshold: float = 0.5) -> NDArray[np.int64]:
    """Label the documents so that near-duplicates, and their near-duplicates, share a label.

    Args:
        texts: the documents, read once; of many only sketches are held.
        threshold: two documents of at least this resemblance (0 to 1) are joined: exactly up to
            EXACT_DOCUMENTS and EXACT_BYTES, above them by estimates.

    Returns:
        int64 [documents]: for each document, the index of the first document of its group.
    """
    reading, kept, size = iter(texts), [], 0
    for text in reading:
        kept.append(text)
        size += len(text)
        if len(kept) > EXACT_DOCUMENTS or size > EXACT_BYTES:
            return by_sketch(itertools.chain(kept, reading), threshold)
    return exactly(kept, threshold)


def exactly(texts: Sequence[bytes], threshold: float) -> NDArray[np.int64]:
    """`groups` by the resemblance of all pairs at once."""
    from scipy import sparse

    if not texts:
        return np.zeros(0, np.int64)
    sets = [shingles(text) for text in texts]
    sizes = np.array([len(each) for each in sets])
    rows = np.repeat(np.arange(len(texts)), sizes)
    _, columns, counts = np.unique(np.concatenate(sets), return_inverse=True, return_counts=True)
    shared = counts[columns] > 1  # a shingle of one document adds nothing to any |A & B|
    ones = np.ones(int(shared.sum()), np.int32)
    matrix = sparse.csr_array(
        (ones, (rows[shared], columns[shared])), shape=(len(texts), len(counts))
    )
    common = sparse.coo_array(matrix @ matrix.T)
    left, right = common.coords
    alike = common.data >= threshold * (sizes[left] + sizes[right] - common.data)
    return _labels(left[alike], right[alike], len(texts))


def by_sketch(texts: Iterable[bytes], threshold: float) -> NDArray[np.int64]:
    """`groups` by MinHash and locality-sensitive hashing; a document is forgotten once read."""
    from datasketch import MinHash, MinHashLSH

    most = BANDS * ROWS
    index, sketches = MinHashLSH(num_perm=most, params=(BANDS, ROWS)), []
    blank = MinHash(num_perm=most, hashfunc=int)  # a shingle is a hash; it takes 32 bits
    left, right = [], []
    for number, text in enumerate(texts):
        sketch = blank.copy()
        sketch.update_batch(shingles(text) >> np.uint64(32))
        for other in index.query(sketch):
            if sketch.jaccard(sketches[other]) >= threshold:
                left.append(other)
                right.append(number)
        index.insert(number, sketch)
        sketches.append(sketch)
    return _labels(left, right, len(sketches))


def _labels(left: Sequence[int], right: Sequence[int], count: int) -> NDArray[np.int64]:
    """The first document of each one's group, where `left` and `right` are the pairs joined."""
    from scipy import sparse

    pairs = (np.ones(len(left), np.int8), (left, right))
    joined = sparse.coo_array(pairs, shape=(count, count))
    _, labels = sparse.csgraph.connected_components(joined, directed=False)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)
