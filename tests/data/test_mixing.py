"""Which source an example of batch k comes from is a function of (seed, k), and nothing else."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research import data
from research.data import mixing, source
from research.errors import UserError


def part(number, count, split="train", length=1):
    """A source whose example i is the pair of tokens (1000 * number + i, ...)."""
    tokens = 1000 * number + np.arange(count + 1)
    spec = source.text(length, 10_000)
    return source.open_split(split, {"tokens": tokens}, spec, "0" * 64)


def mixture(counts, mix, split="train", held_out=None):
    parts = [part(number, count, split) for number, count in enumerate(counts)]
    spec = mixing.outline(source.text(1, 10_000), [f"s{i}" for i in range(len(counts))])
    return mixing.mixed({}, parts, spec, mix, held_out or mix.last)


def taken(iterator, count):
    """(source, first token) of the next `count` batches, [2, count, batch]."""
    batches = list(itertools.islice(iterator, count))
    return np.stack([[b["source"] for b in batches], [b["tokens"][:, 0] for b in batches]])


counts = st.lists(st.integers(1, 30), min_size=1, max_size=4)
weight = st.floats(0, 1).filter(lambda w: w == 0 or w > 1e-3)


@st.composite
def mixtures(draw):
    sizes = draw(counts)
    weights = [draw(st.tuples(*[weight] * len(sizes)).filter(any)) for _ in range(2)]
    steps = sorted((draw(st.integers(0, 12)), draw(st.integers(0, 12))))
    return mixture(sizes, mixing.Mix(weights[0], weights[1], (steps[0], steps[1])))


@settings(max_examples=30, deadline=None)
@given(mixtures(), st.integers(1, 12), st.integers(0, 2**40), st.integers(0, 9))
def test_a_seek_is_as_if_all_batches_before_were_read(mixed, batch, seed, start):
    batch = min(batch, len(mixed))
    whole = taken(data.batches(mixed, batch, seed), 16)
    assert np.array_equal(taken(data.batches(mixed, batch, seed, start_step=start), 3),
                          whole[:, start : start + 3])  # fmt: skip
    cut = batch // 2
    parts = [
        taken(data.batches(mixed, batch, seed, start_step=start, rows=rows), 3)
        for rows in ((0, cut), (cut, batch))
        if rows[0] < rows[1]
    ]
    assert np.array_equal(np.concatenate(parts, axis=2), whole[:, start : start + 3])
    # Each source gives whole passes over its own examples, and as many as are counted.
    seen = mixed.mix.seen(batch, seed, 16)
    for number, size in enumerate(mixed.kept):
        own = whole[1][whole[0] == number] - 1000 * number
        assert len(own) == seen[number]
        for epoch in range(len(own) // size):
            assert sorted(own[epoch * size : (epoch + 1) * size]) == list(range(size))
    assert seen.sum() == 16 * batch


@settings(max_examples=50, deadline=None)
@given(st.tuples(weight, weight, weight).filter(any), st.integers(1, 64), st.integers(0, 2**40))
def test_each_batch_has_its_weights_rounded_and_a_run_has_them_exactly(weights, batch, seed):
    mix = mixing.Mix(weights, weights)
    found = mix.counts(batch, seed, np.arange(400))
    exact = batch * np.array(weights) / sum(weights)
    assert (found.sum(1) == batch).all() and (found >= 0).all()
    assert (found >= np.floor(exact - 1e-9) - 1).all() and (
        found <= np.ceil(exact + 1e-9) + 1
    ).all()
    assert np.abs(found.cumsum(0) - exact * np.arange(1, 401)[:, None]).max() < 6
    assert not found[:, np.array(weights) == 0].any()


def test_what_has_no_weight_gives_nothing_whatever_the_rounding():
    weights = (0.1, 0.2, 0.3, 0.0)
    assert not mixing.Mix(weights, weights).counts(1000, 0, np.arange(10_000))[:, 3].any()


def test_one_source_alone_is_read_as_it_is_without_a_mixture():
    alone = part(0, 37)
    for mixed in (mixture([37], mixing.Mix((2.0,), (2.0,))),
                  mixture([37, 5], mixing.Mix((1.0, 0.0), (1.0, 0.0)))):  # fmt: skip
        pairs = zip(data.batches(alone, 8, 3), data.batches(mixed, 8, 3), strict=False)
        for one, other in itertools.islice(pairs, 12):
            assert np.array_equal(one["tokens"], other["tokens"]) and not other["source"].any()


def test_the_order_of_a_source_is_what_it_was_before_there_were_mixtures():
    key = np.random.SeedSequence(3, spawn_key=(2,))
    order = np.random.Generator(np.random.Philox(key)).permutation(np.arange(37, dtype=np.uint32))
    batch = next(data.batches(part(0, 37), 37, 3, start_step=2))
    assert np.array_equal(batch["tokens"][:, 0], order)


def test_a_curriculum_goes_straight_from_one_weight_to_the_other():
    mix = mixing.Mix((3.0, 1.0), (0.0, 8.0), (100, 300))
    shares = mix.shares(np.array([0, 100, 150, 200, 300, 10**6]))[:, 0]
    assert shares.tolist() == [0.75, 0.75, 0.5625, 0.375, 0, 0]
    jump = mixing.Mix((1.0, 0.0), (0.0, 1.0), (7, 7)).shares(np.arange(5, 9))[:, 0]
    assert jump.tolist() == [1, 1, 0, 0]
    assert abs(mix.seen(64, 0, 300)[0] - 64 * (75 + 75)) < 40
    assert mix.seen(64, 0, 70_000).sum() == 64 * 70_000  # counted in chunks


def test_validation_is_the_mixture_at_its_end_without_repeating():
    mix = mixing.Mix((1.0, 1.0), (0.25, 0.75))
    held = mixture([40, 60], mix, split="validation")
    assert held.kept == (20, 60) and len(held) == 80 and held.spec["unique"] == 80
    rows = [batch["tokens"][batch["mask"] == 1, 0] for batch in data.eval_batches(held, 32)]
    found = np.concatenate(rows)
    assert found[:20].tolist() == list(range(0, 40, 2))  # spread over the source
    assert found[20:].tolist() == list(range(1000, 1060))
    assert mixture([40, 60], mix, "test", (1.0, 0.0)).kept == (40, 0)
    few = list(data.eval_batches(held, 8, 8))[0]
    assert few["source"].tolist() == [0] * 2 + [1] * 6 and few["source"].dtype == np.int32


def test_what_each_source_gave_is_counted():
    mixed = mixture([50, 10], mixing.Mix((0.75, 0.25), (0.75, 0.25)))
    found = data.tally(mixed, 8, 0, 20)["sources"]
    assert found["s0"] == {"unique": 50, "seen": 120, "share": 0.75, "epochs": 2.4}
    assert found["s1"] == {"unique": 10, "seen": 40, "share": 0.25, "epochs": 4.0}
    assert data.tally(part(0, 5), 8, 0, 20) == {}


@pytest.mark.parametrize(
    "weights, said",
    [
        ((0.5,), r"\(0.5,\); expected 2 numbers"),
        ((1, "x"), "expected 2 numbers"),
        ((True, 1), "expected 2 numbers"),
        ((-1, 2), "weights are at least 0"),
        ((0, 0), "one is above"),
        ((float("nan"), 1), "at least 0"),
        ((float("inf"), 1), "at least 0"),
    ],
)
def test_weights_that_cannot_be(weights, said):
    with pytest.raises(UserError, match=said):
        mixing.check_weights("data.weights", weights, 2)
