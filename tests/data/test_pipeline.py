"""Batch k is a function of (seed, k), whoever asks for it."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research import data
from research.data.source import cut, images, open_split, text
from research.errors import UserError


def numbered(count):
    """A source whose example i is an image holding the number i."""
    image = np.arange(count, dtype=np.float32).reshape(count, 1, 1, 1)
    arrays = {"image": image, "label": np.arange(count, dtype=np.int32)}
    return open_split("train", arrays, images((1, 1, 1), ["all"], discrete=False), "0" * 64)


def stream(tokens, length, **options):
    return open_split("train", {"tokens": tokens}, text(length, 256, **options), "0" * 64)


def rows(iterator, count):
    """The example numbers of the next `count` batches, [count, batch]."""
    return np.stack([batch["label"] for batch in itertools.islice(iterator, count)])


sizes = st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))
seeds = st.integers(0, 2**40)


@settings(max_examples=40, deadline=None)
@given(sizes, seeds)
def test_every_example_is_seen_once_in_each_epoch(size, seed):
    count, batch_size = size
    epochs = 3
    batches = -(-epochs * count // batch_size)
    seen = rows(data.batches(numbered(count), batch_size, seed), batches).ravel()
    for epoch in range(epochs):
        assert sorted(seen[epoch * count : (epoch + 1) * count]) == list(range(count))


@settings(max_examples=40, deadline=None)
@given(sizes, seeds, st.integers(0, 10**12))
def test_a_batch_does_not_depend_on_where_the_reading_began(size, seed, start):
    source, batch_size = numbered(size[0]), size[1]
    whole = rows(data.batches(source, batch_size, seed, start_step=start), 6)
    for skipped in (1, 4):
        later = data.batches(source, batch_size, seed, start_step=start + skipped)
        assert np.array_equal(rows(later, 6 - skipped), whole[skipped:])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 30), seeds)
def test_the_processes_share_the_one_global_batch(processes, share, extra, seed):
    batch_size = processes * share
    source = numbered(batch_size + extra)
    whole = rows(data.batches(source, batch_size, seed), 5)
    parts = [
        rows(
            data.batches(source, batch_size, seed, rows=(i * share, (i + 1) * share)),
            5,
        )
        for i in range(processes)
    ]
    assert np.array_equal(np.concatenate(parts, axis=1), whole)


def test_epochs_and_seeds_give_unrelated_orders():
    orders = [
        tuple(rows(data.batches(numbered(100), 100, seed, start_step=epoch), 1)[0])
        for seed, epoch in itertools.product((0, 1, 2, 2**32, 2**33), range(5))
    ]
    assert len(set(orders)) == len(orders)
    correlations = np.corrcoef(np.array(orders))[np.triu_indices(len(orders), 1)]
    assert np.abs(correlations).max() < 0.5  # 300 pairs of sd 0.1


def test_text_windows_overlap_by_one_token():
    source = stream(np.arange(100, dtype=np.uint8), 9)
    assert len(source) == 11 and source.spec["unique"] == 99
    for index in range(11):
        window = source[index]["tokens"]
        assert window.dtype == np.int32
        assert window.tolist() == list(range(9 * index, 9 * index + 10))
    with pytest.raises(IndexError):
        source[11]


@pytest.mark.parametrize("tokens, windows", [(10, 1), (18, 1), (19, 2), (20, 2)])
def test_the_last_window_ends_inside_the_text(tokens, windows):
    source = stream(np.arange(tokens, dtype=np.uint8), 9)
    assert len(source) == windows
    assert source[-1]["tokens"].max() < tokens


def test_a_cut_is_whole_windows_from_anywhere_and_part_of_a_larger_one():
    whole = stream(np.arange(201, dtype=np.uint8), 10)
    small, large = (cut(whole, unique) for unique in (49, 120))
    assert [(len(each), each.spec["unique"]) for each in (small, large)] == [(4, 40), (12, 120)]
    firsts = [each.gather(range(len(each)))["tokens"][:, 0].tolist() for each in (small, large)]
    assert firsts[1][:4] == firsts[0] and len({*firsts[1]}) == 12
    assert max(firsts[1]) > 120  # not the beginning of the text
    seen = [batch["tokens"][:, 0] for batch in itertools.islice(data.batches(small, 2, 0), 4)]
    for epoch in np.array(seen).reshape(2, 4):
        assert sorted(epoch) == sorted(firsts[0])
    assert small[-1]["tokens"].tolist() == list(range(firsts[0][3], firsts[0][3] + 11))
    assert cut(whole, 0) is whole
    held = dataclasses.replace(whole, split="validation")
    assert cut(held, 49) is held
    with pytest.raises(UserError, match="data.unique is 201; the train split has 200 tokens"):
        cut(whole, 201)
    assert len(cut(numbered(7), 5)) == 5  # images, too


def test_evaluation_visits_each_example_once_and_masks_the_filling():
    found = list(data.eval_batches(numbered(10), 4))
    assert [batch["label"].shape for batch in found] == [(4,)] * 3
    mask = np.concatenate([batch["mask"] for batch in found])
    labels = np.concatenate([batch["label"] for batch in found])
    assert mask.dtype == np.float32 and mask.tolist() == [1] * 10 + [0, 0]
    assert labels[mask == 1].tolist() == list(range(10))


def test_a_partial_evaluation_is_spread_over_the_split():
    found = list(data.eval_batches(numbered(100), 5, max_examples=5))
    assert len(found) == 1 and found[0]["label"].tolist() == [0, 20, 40, 60, 80]
    assert sum(batch["mask"].sum() for batch in data.eval_batches(numbered(7), 4, 1000)) == 7


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda s: data.batches(s, 11, 0), "batch size 11 is larger than the train split of 10"),
        (lambda s: data.batches(s, 0, 0), "batch size is 0; it must be at least 1"),
        (lambda s: data.batches(s, 8, -1), "seed is -1; it must be at least 0"),
        (lambda s: data.eval_batches(s, 0), "evaluation batch size is 0"),
        (lambda s: data.eval_batches(s, 4, 0), "evaluation max_examples is 0"),
    ],
)
def test_impossible_batches_are_refused_before_the_first_one(call, message):
    with pytest.raises(UserError, match=message):
        call(numbered(10))
