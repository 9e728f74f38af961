"""Drawing tokens: prompts of any length by two programs, each way to draw by its definition."""

import itertools

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from scipy import stats

from research.errors import UserError
from research.families import autoregressive
from research.models import common, decoder
from research.sampling import beam, drawing, speculative, speedup
from research.sampling import engine as engines
from research.sampling.drawing import Drawing
from research.sampling.engine import Engine
from research.sampling.generate import generate
from tests import shapes
from tests.models.test_decoder import perturbed

KEY = jax.random.key(0)


def tiny(vocab=5, seed=0, **model):
    config = shapes.autoregressive(vocab=vocab, length=16, **dict(depth=2, num_heads=4) | model)
    params = jax.tree.map(lambda x: x + 0.01 * seed, perturbed(config))
    return config, params


def engine_of(config, params, batch, length=16, **keys):
    network = autoregressive.drawn_from(config, params)
    return Engine(network, batch, length, **keys)


@pytest.fixture(scope="module")
def one():
    config, params = tiny()
    return config, params, engine_of(config, params, 3)


def whole(config, params, tokens):
    """Log-probabilities of the next token after each prefix, without a cache."""
    return np.asarray(jax.nn.log_softmax(raw(config, params, tokens)))


def raw(config, params, tokens):
    """Its logits."""

    @jax.jit
    def run(params, tokens):
        x, *_ = common.apply(autoregressive.network(config), params, tokens)
        return decoder.logits(config, params, x)

    return run(params, jnp.asarray(tokens))


def fits(counts, shares):
    """Whether counts are of these shares, by chi-square at one in a thousand."""
    shares = np.asarray(shares, np.float64)
    return stats.chisquare(counts, np.sum(counts) * shares / shares.sum()).pvalue > 1e-3


PROMPTS = [[1], [2, 3, 1, 0, 4], [0, 0, 2]]


def test_greedy_is_the_argmax_of_the_whole_prefix(one):
    """Of prompts of different lengths side by side, with the log-probabilities of each token."""
    config, params, engine = one
    for prompt, row in zip(
        PROMPTS, generate(engine, PROMPTS, 9, Drawing(temperature=0)), strict=True
    ):
        text = prompt + row.tokens
        logs = whole(config, params, [text + [0] * (14 - len(text))])[0]
        at = np.arange(len(prompt), len(text)) - 1
        np.testing.assert_array_equal(row.tokens, logs[at].argmax(-1))
        np.testing.assert_allclose(row.log_probabilities, logs[at, row.tokens], atol=1e-5)


def test_ten_prompts_of_ten_lengths_take_two_programs():
    config, params = tiny()
    engine = engine_of(config, params, 1)
    programs = engine.read_chunk, engine.draw_block
    before = [each._cache_size() for each in programs]
    for length in range(1, 11):
        for settings in (Drawing(), Drawing(0.5, top_k=length), Drawing(top_p=0.5, min_p=0.1)):
            generate(engine, [[1] * length], 5, settings)
    after = [each._cache_size() for each in programs]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1]


def test_a_row_does_not_depend_on_the_rows_beside_it(one):
    """Nor on how many are drawn at once; and a seed draws the same again."""
    *_, engine = one
    rows = generate(engine, PROMPTS * 2, 9, seed=7)
    assert rows == generate(engine, PROMPTS * 2, 9, seed=7)
    other = generate(engine, [PROMPTS[0], [4, 4, 4, 4], *PROMPTS[2:]], 9, seed=7)
    assert other[0] == rows[0] and other[2] == rows[2]
    assert rows != generate(engine, PROMPTS * 2, 9, seed=8)


def test_eight_devices_draw_what_one_does():
    """Rows over replicas, heads over two, prompts of several lengths."""
    config, params = tiny(vocab=8)
    many = config.copy_and_resolve_references()
    many.hardware.mesh.update(data=2, fsdp=2, tensor=2)
    engine = Engine(autoregressive.drawn_from(many, params), 4, 16)
    rows = generate(engine, [*PROMPTS, [4]], 5, seed=7)
    expected = generate(engine_of(config, params, 4), [*PROMPTS, [4]], 5, seed=7)
    assert [row.tokens for row in rows] == [row.tokens for row in expected]


def test_draws_follow_the_network(one):
    """Chi-square of 3,000 first tokens, plain and at another temperature."""
    config, params, _ = one
    engine = engine_of(config, params, 500)
    logs = whole(config, params, [[2, 1]])[0, -1]
    for temperature in (1.0, 2.0):
        rows = generate(engine, [[2, 1]] * 3_000, 1, Drawing(temperature), seed=1)
        counts = np.bincount([row.tokens[0] for row in rows], minlength=5)
        assert fits(counts, np.exp(logs / temperature))


def test_cuts_are_what_they_say():
    """The token that crosses p stays; k before p; min_p of the likeliest; no-ops are none."""
    share = np.array([[0.4, 0.3, 0.2, 0.1]])
    logits = jnp.log(share)

    def kept(**settings):
        return np.flatnonzero(
            np.isfinite(drawing.truncated(logits, Drawing(**settings))[0])
        ).tolist()

    assert kept() == kept(top_k=4) == kept(top_p=1.0) == kept(top_k=9) == [0, 1, 2, 3]
    np.testing.assert_allclose(drawing.truncated(logits, Drawing()), logits)
    assert kept(top_k=2) == [0, 1] and kept(top_k=1) == [0]
    assert kept(top_p=0.69) == [0, 1] and kept(top_p=0.71) == [0, 1, 2]
    assert kept(top_p=1e-6) == [0]
    assert kept(min_p=0.49) == [0, 1, 2] and kept(min_p=0.51) == [0, 1]
    # Of the two likeliest, .4 / .7 and .3 / .7, p = .5 keeps one; of all four it keeps two.
    assert kept(top_k=2, top_p=0.5) == [0] and kept(top_p=0.5) == [0, 1]
    seen = jnp.array([[True, False, True, False]])
    x = jnp.array([[2.0, 2.0, -2.0, -2.0]])
    found = drawing.repeated(x, Drawing(repetition=2.0), seen)
    np.testing.assert_array_equal(found, [[1.0, 2.0, -4.0, -2.0]])


def test_a_token_that_was_there_is_penalised(one):
    """Those of the prompt too, step by step."""
    config, params, engine = one
    text = [3, 1]
    for _ in range(8):
        logits = np.asarray(raw(config, params, [text + [0] * (10 - len(text))]))[0, len(text) - 1]
        down = np.where(logits > 0, logits / 30, logits * 30)
        text.append(int(np.where(np.isin(range(5), text), down, logits).argmax()))
    (row,) = generate(engine, [[3, 1]], 8, Drawing(0, repetition=30.0))
    assert row.tokens == text[2:]
    (free,) = generate(engine, [[3, 1]], 8, Drawing(0))
    assert row.tokens != free.tokens


def test_a_row_ends_where_it_is_to_end(one):
    """Others are drawn on; what comes is told as it comes, and not what is cut."""
    *_, engine = one
    free, told = generate(engine, PROMPTS, 11, seed=3), {}
    end = free[0].tokens[4]

    def ends(tokens):
        return tokens.index(end) + 1 if end in tokens else None

    rows = generate(
        engine, PROMPTS, 11, seed=3, ends=ends,
        told=lambda row, new: told.setdefault(row, []).extend(new),
    )  # fmt: skip
    assert rows[0].ended and len(rows[0].tokens) <= 5
    for number, (row, other) in enumerate(zip(rows, free, strict=True)):
        kept = ends(other.tokens)
        assert row.ended == (kept is not None) and row.tokens == other.tokens[:kept]
        assert told[number] == row.tokens and len(row.log_probabilities) == len(row.tokens)


def test_a_grammar_says_what_may_come(one):
    """Even and odd tokens in turn, drawn by the network among them."""
    *_, engine = one

    def allowed(rows):
        return np.array([np.arange(5) % 2 == len(tokens) % 2 for tokens in rows])

    for row in generate(engine, PROMPTS, 8, allowed=allowed):
        assert [token % 2 for token in row.tokens] == [0, 1] * 4


def test_padding_of_the_vocabulary_is_never_drawn():
    """However likely it is."""
    config, params = tiny(vocab=5)
    config.model.vocab_size = 8
    params = perturbed(config)
    params["head"] = params["head"].at[5:].add(50 * jnp.ones(16)).at[:5].add(0)
    rows = generate(engine_of(config, params, 4), [[1]] * 4, 9)
    assert max(max(row.tokens) for row in rows) < 5


def test_a_narrow_cache_draws_nearly_the_same(one):
    """Log-probabilities of the same tokens, where it keeps keys and values in eight bits."""
    config, params, engine = one
    narrow = engine_of(config, params, 3, dtype=jnp.int8)
    rows, others = (generate(each, PROMPTS, 5, Drawing(0)) for each in (engine, narrow))
    for row, other in zip(rows, others, strict=True):
        assert row.tokens[0] == other.tokens[0]
        near = abs(row.log_probabilities[0] - other.log_probabilities[0])
        assert near < 0.05 and row.log_probabilities != other.log_probabilities


def continuations(config, params, prompt, count):
    """The log-probability of every continuation."""
    tails = list(itertools.product(range(5), repeat=count))
    rows = np.array([[*prompt, *tail] for tail in tails])
    logs, at = whole(config, params, rows), np.arange(len(prompt), rows.shape[1])
    each = np.take_along_axis(logs[:, at - 1], rows[:, at, None], -1)[..., 0]
    return tails, each


def test_a_beam_as_wide_as_all_is_exhaustive(one):
    """Its log-probabilities are the continuations' own; width 1 is greedy."""
    config, params, engine = one
    tails, each = continuations(config, params, [2, 1], 3)
    best = np.argsort(-each.sum(1))
    found = beam.search(engine_of(config, params, 25), [2, 1], 3)
    for rank in range(5):
        assert tuple(found[rank].tokens) == tails[best[rank]]
        assert found[rank].log_probability == pytest.approx(each[best[rank]].sum(), abs=1e-4)
    single = engine_of(config, params, 1)
    (greedy,) = generate(single, [[2, 1]], 3, Drawing(0))
    assert beam.search(single, [2, 1], 3)[0].tokens == greedy.tokens
    del engine


def test_a_beam_ends_at_the_end(one):
    """Continuations that stop at token 4 are scored as far as they go, by length if asked."""
    config, params, _ = one
    tails, each = continuations(config, params, [2, 1], 3)
    scores = {}
    for tail, logs in zip(tails, each, strict=True):
        kept = tail.index(4) + 1 if 4 in tail else 3
        scores[tail[:kept]] = logs[:kept].sum()
    engine = engine_of(config, params, 40)
    for power in (0.0, 1.0):
        found = beam.search(engine, [2, 1], 3, end=4, length_power=power)
        expected = max(scores, key=lambda tail: scores[tail] / len(tail) ** power)
        if power == 0:
            assert tuple(found[0].tokens) == expected
        for each_beam in found:
            log = scores[tuple(each_beam.tokens)]
            assert each_beam.log_probability == pytest.approx(log, abs=1e-4)
            assert each_beam.score == pytest.approx(log / len(each_beam.tokens) ** power, abs=1e-4)
        assert [b.score for b in found] == sorted((b.score for b in found), reverse=True)


def test_the_verdict_on_guesses_is_exact():
    """Two tokens from 20,000 verdicts are distributed as the large network's, by chi-square."""
    p = jnp.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.6, 0.2, 0.2]])
    q = jnp.array([[0.2, 0.7, 0.1], [0.3, 0.3, 0.4]])

    def first(key):
        drawn, judged = jax.random.split(key)
        guess = jax.vmap(jax.random.categorical)(jax.random.split(drawn), jnp.log(q))
        held, after = speculative.verdict(p, q, guess, judged)
        return jnp.where(held > 0, guess[0], after), jnp.where(held > 1, guess[1], after), held

    one, two, held = jax.jit(jax.vmap(first))(jax.random.split(KEY, 20_000))
    counts = np.bincount(one, minlength=3)
    assert fits(counts, p[0])
    later = np.bincount(two[held > 0], minlength=3)  # given that the first held
    assert fits(later, p[1])
    overlap = np.minimum(p[0], q[0]).sum()
    assert np.mean(held > 0) == pytest.approx(overlap, abs=0.015)


def greedy_counts(right, count, guesses):
    """Passes, guesses, how many of these held and were judged, by which guesses are `right`."""
    passes = held = judged = at = 0
    while at < count:
        own = right[at : at + guesses].cumprod().sum()
        passes, held, judged = passes + 1, held + own, judged + min(own + 1, guesses)
        at += own + 1
    return passes, guesses, held, judged


@pytest.mark.slow
def test_speculation_draws_what_the_large_network_would():
    """Greedy to the token, in fewer passes when the small one is the large one; and by chance."""
    large, small = tiny(depth=1), tiny(depth=1, seed=9)
    target = engine_of(*large, 1, 24)
    (greedy,) = generate(target, [[2, 1, 3]], 9 + 3, Drawing(0))
    noise = np.random.default_rng(0)
    unsure = jax.tree.map(lambda x: x + 0.3 * noise.normal(size=x.shape).astype("f"), large[1])
    likeliest = whole(large[0], unsure, [[2, 1, 3, *greedy.tokens]])[0].argmax(-1)
    right = likeliest[2:-1] == greedy.tokens
    assert 0 < right.sum() < len(right)
    for params, holds in ((unsure, right), (large[1], right | True)):
        drawn = speculative.speculate(
            target, engine_of(large[0], params, 1, 24), [2, 1, 3], 9, Drawing(0), guesses=3
        )
        assert drawn.tokens == greedy.tokens[:9]
        assert drawn[1:] == greedy_counts(holds, 9, 3)
    gain = speedup.measure(target, target, [[2, 1, 3]] * 2, 9, (3,), Drawing(0))
    assert gain.alpha[:2] == (1, (1, 1)) and gain.judged == 18 and gain.looks[0].tokens == 4
    _, each = continuations(*large, [2, 1, 3], 2)
    pair = target, engine_of(*small, 1, 24)
    caches = tuple(engine.read(engine.start(), [[2, 1]]).cache for engine in pair)
    params = tuple(engine.network.params for engine in pair)
    run = speculative._program(*engines.carried(*(engine.network for engine in pair)), 2, 2)
    keys = jax.random.split(KEY, 3_000)
    draw = jax.vmap(lambda key: run(params, caches, 2, 3, Drawing(), key)[0])
    first, second = np.asarray(draw(keys))[:, :2].T
    found, shares = np.bincount(5 * first + second, minlength=25), np.exp(each.sum(1))
    rare = 3_000 * shares < 5
    assert fits(*(np.append(x[~rare], x[rare].sum()) for x in (found, shares)))


def test_what_cannot_be_drawn_is_one_line(one):
    config, params, engine = one
    single, window = engine_of(config, params, 1), tiny(attention="window", window=4)
    cases = [
        (lambda: generate(engine, [[]], 3), "the prompt is empty"),
        (lambda: generate(engine, [[1], []], 3), "prompt 2 is empty"),
        (
            lambda: generate(engine, [[1] * 15], 3),
            "15 tokens, which with 3 more do not fit into a context of 16",
        ),
        (lambda: generate(engine, [[1, 9]], 3), "token 9, outside the vocabulary of 5"),
        (lambda: generate(engine, [[1]], 0), "--tokens 0 must be at least 1"),
        (lambda: generate(engine, [[1]], 3, Drawing(-1)), "--temperature -1 must be at least 0"),
        (lambda: generate(engine, [[1]], 3, Drawing(top_k=-1)), "--top_k -1 must be"),
        (lambda: generate(engine, [[1]], 3, Drawing(top_p=0)), "--top_p 0 must be above 0"),
        (lambda: generate(engine, [[1]], 3, Drawing(top_p=1.5)), "--top_p 1.5 must be above 0"),
        (lambda: generate(engine, [[1]], 3, Drawing(min_p=1)), "--min_p 1 must be"),
        (lambda: generate(engine, [[1]], 3, Drawing(repetition=0)), "--repetition 0 must be"),
        (lambda: beam.check_width(6, engine.network), "--beam 6 must be from 1 to the 5 tokens"),
        (lambda: beam.check_width(0, engine.network), "--beam 0 must be from 1"),
        (lambda: speculative.speculate(engine, single, [1], 2), "one row at a time"),
        (lambda: speculative.speculate(single, single, [1], 2, guesses=0), "--guesses 0 must be"),
        (
            lambda: speculative.speculate(single, engine_of(*tiny(vocab=4), 1), [1], 2),
            "have 5 and 4 tokens",
        ),
        (
            lambda: speculative.speculate(single, engine_of(*window, 1), [1], 2),
            "takes back what was guessed wrong, which windows",
        ),
        (
            lambda: speculative.speculate(single, single, [1], 2, Drawing(repetition=2.0)),
            "--repetition depends on what was drawn",
        ),
    ]
    for act, said in cases:
        with pytest.raises(UserError, match=said):
            act()
