"""Near-duplicate documents, found exactly: the Jaccard resemblance of all pairs at once.

The resemblance of two documents is |A & B| / |A | B| over their sets of word shingles
(Broder 1997, "On the resemblance and containment of documents"). A sparse product of the
document-by-shingle matrix with itself gives every |A & B|, so no sketch is needed at this size.
"""

import re
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WORDS = re.compile(rb"\w+|[^\w\s]")


def shingles(text: bytes, size: int = 5) -> NDArray[np.uint64]:
    """Return the distinct hashes of every `size` consecutive words of `text`, sorted.

    A text of fewer than `size` words is one shingle.
    """
    words = [zlib.crc32(word) for word in WORDS.findall(text)]
    words += [0] * (size - len(words))
    hashes = np.array(words, np.uint64)
    count = len(hashes) - size + 1
    mixed = np.zeros(count, np.uint64)
    for offset in range(size):  # a polynomial hash, modulo 2**64 by overflow
        mixed = (mixed + hashes[offset : offset + count]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return np.unique(mixed)


def groups(texts: Sequence[bytes], threshold: float = 0.5) -> NDArray[np.int64]:
    """Label the documents so that near-duplicates, and their near-duplicates, share a label.

    Args:
        texts: the documents.
        threshold: two documents of at least this resemblance (0 to 1) are joined.

    Returns:
        int64 [len(texts)]: for each document, the index of the first document of its group.
    """
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
    joined = sparse.coo_array(
        (np.ones(int(alike.sum()), np.int8), (left[alike], right[alike])), shape=common.shape
    )
    _, labels = sparse.csgraph.connected_components(joined, directed=False)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)
