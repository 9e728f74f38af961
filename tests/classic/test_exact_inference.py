"""Every classic against its definition: sums over paths, trees and strings, closed forms."""

import functools
import itertools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research import families
from research.families import classic
from research.families.classic import kneser_ney, stepwise
from tests import shapes


def small(kind, **model):
    """A config of three tokens and windows of four, away from any data."""
    config = shapes.classic(kind, **model)
    if "vocab_size" in config.data:
        config.data.update(vocab_size=3, length=4 if kind == "grammar" else 3)
    return config


def started(config, seed=0):
    return jax.jit(lambda key: classic.init(config, key))(jax.random.key(seed))


def log_p_of(config, params, examples, given):
    """log p of each example, in float64 from here on."""
    found = jax.jit(functools.partial(classic.log_probability, config, given=given))(
        params, examples
    )
    return np.asarray(found, np.float64)


def counted(config, params, tokens):
    """The gradient of log p of one window: expected counts."""
    of = jax.value_and_grad(
        lambda params: classic.kind(config).log_probability(config, params, jnp.array(tokens))
    )
    log_p, sums = jax.jit(of)(params)
    return float(log_p), jax.tree.map(np.asarray, sums)


@jax.jit
def ngrams(tokens):
    """Counts of windows, and the tables that they make."""
    config = small("ngram")
    _, sums = kneser_ney.statistics(config, kneser_ney.init(config, jax.random.key(0)), tokens)
    return sums, classic.maximised(config, sums)


def test_hidden_paths_add_up_and_their_posteriors_are_gradients():
    """Over all 2^4 paths of states; the posteriors are what forward and backward give, too."""
    config, tokens = small("hidden_markov", width=2), [0, 2, 2, 1]
    params = started(config)
    start, move, emit = (np.exp(np.asarray(params[n])) for n in ("start", "transition", "emission"))
    found = jax.tree.map(np.zeros_like, {"start": start, "transition": move, "emission": emit})
    total = 0.0
    for path in itertools.product(range(2), repeat=4):
        p = start[path[0]] * emit[path[0], tokens[0]]
        for a, b, token in zip(path, path[1:], tokens[1:], strict=False):
            p *= move[a, b] * emit[b, token]
        total += p
        found["start"][path[0]] += p
        for a, b in itertools.pairwise(path):
            found["transition"][a, b] += p
        for a, token in zip(path, tokens, strict=True):
            found["emission"][a, token] += p
    log_p, sums = counted(config, params, tokens)
    assert log_p == pytest.approx(np.log(total), rel=1e-6)
    alpha = [start * emit[:, tokens[0]]]
    beta = [np.ones(2)]
    for before, after in zip(tokens[1:], tokens[:0:-1], strict=True):
        alpha.append(alpha[-1] @ move * emit[:, before])
        beta.insert(0, move @ (emit[:, after] * beta[0]))
    gamma = np.array(alpha) * np.array(beta) / total  # forward-backward, explicitly
    for name, expected in found.items():
        np.testing.assert_allclose(sums[name], expected / total, rtol=1e-5)
    np.testing.assert_allclose(sums["start"], gamma[0], rtol=1e-5)
    np.testing.assert_allclose(sums["emission"].sum(1), gamma.sum(0), rtol=1e-5)


def trees(rules, width, symbol, tokens):
    """(probability, counts of rules) of every tree of `symbol` over `tokens`."""
    if len(tokens) == 1:
        place = width**2 + tokens[0]
        yield rules[symbol, place], [(symbol, place)]
        return
    for split in range(1, len(tokens)):
        for left, right in itertools.product(range(width), repeat=2):
            place = left * width + right
            for p, first in trees(rules, width, left, tokens[:split]):
                for q, second in trees(rules, width, right, tokens[split:]):
                    yield rules[symbol, place] * p * q, [(symbol, place), *first, *second]


def test_inside_adds_up_all_trees_and_outside_is_its_gradient():
    config, tokens = small("grammar", width=2), [0, 1, 1, 2]
    params = started(config)
    rules = np.exp(np.asarray(params["rules"], np.float64))
    expected, total = np.zeros_like(rules), 0.0
    for p, used in trees(rules, 2, 0, tokens):
        total += p
        for place in used:
            expected[place] += p
    log_p, sums = counted(config, params, tokens)
    assert log_p == pytest.approx(np.log(total), rel=1e-6)
    np.testing.assert_allclose(sums["rules"], expected / total, rtol=2e-5, atol=1e-7)
    assert sums["rules"].sum() == pytest.approx(7, rel=1e-5)  # three pairs and four tokens


EVERY = np.array([*itertools.product(range(3), repeat=4)], np.int32)


@pytest.mark.parametrize("kind", ["hidden_markov", "ngram", "grammar"])
def test_probabilities_of_all_strings_sum_to_one(kind):
    """Of the grammar given that they have four tokens; of the others also given their first."""
    config = small(kind)
    params = started(config)
    if kind == "ngram":
        seen = np.random.default_rng(0).choice(3, (20, 4), p=[0.6, 0.3, 0.1])
        _, params = ngrams(jnp.array(seen))
    log_p, given = (log_p_of(config, params, jnp.array(EVERY), each) for each in (False, True))
    if kind == "grammar":
        assert np.exp(given).sum() == pytest.approx(1, abs=1e-5)
        assert np.exp(log_p).sum() < 0.9  # other strings are longer or shorter
        return
    assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-5)
    for first in range(3):
        assert np.exp(given)[EVERY[:, 0] == first].sum() == pytest.approx(1, abs=1e-5)


def test_kneser_ney_by_hand():
    """Four ones, two twos, a three and a four: Y = 1/2, D = 1/2, 5/4, 1.

    Contexts of the tokens are 2, 3, 3 of 8, none of them a single one, so that hardly anything is
    taken from them and nothing is changed: what is taken is shared alike.
    """
    config = small("ngram", order=2)
    pairs = jnp.array([[1.0, 2, 1], [1, 3, 2], [0, 1, 4]])
    np.testing.assert_allclose(kneser_ney.discounts(pairs), [0.5, 1.25, 1.0])
    tables = kneser_ney.maximised(config, [pairs.sum(0, keepdims=True), pairs])
    expected = [
        [0.265625, 0.3984375, 0.3359375],
        [1.1875 / 6, 3.03125 / 6, 1.78125 / 6],
        [0.075, 0.2125, 0.7125],
    ]
    np.testing.assert_allclose(np.exp(tables[1]), expected, rtol=1e-5)


def test_ngrams_count_every_place_of_a_window():
    config = small("ngram")
    window = jnp.array([[0, 1, 0, 1]])
    (one, two, three), again = ngrams(window)
    np.testing.assert_array_equal(one, [[2, 2, 0]])
    assert float(two[0, 1]) == 2 and float(two[1, 0]) == 1 and float(two.sum()) == 3
    assert float(three[0 * 3 + 1, 0]) == 1 and float(three[1 * 3 + 0, 1]) == 1
    assert float(three.sum()) == 2
    at = kneser_ney.log_probability(config, again, window[0])
    by_hand = again[0][0, 0] + again[1][0, 1] + again[2][1, 0] + again[2][3, 1]
    assert float(at) == pytest.approx(float(by_hand), rel=1e-6)


def test_what_was_not_seen_has_what_its_shorter_context_says():
    lower = jnp.array([[0.5, 0.3, 0.2]])
    found = kneser_ney.smoothed(jnp.array([[0.0, 0, 0], [5, 0, 0], [1, 1, 1]]), lower)
    np.testing.assert_allclose(found[0], lower[0])
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
    assert float(found[1, 2]) > 0


def moved(config, batch, steps, seed=0):
    """The state after some steps on one batch, and the loss before each."""
    params = started(config, seed)
    state = {"params": params, "opt_state": classic.init_optimizer(config, params)}
    step = jax.jit(functools.partial(classic.update, config, rate=jnp.float32(0)))
    losses = []
    for index in range(steps):
        state, metrics = step(state, batch, jax.random.key(1), np.int32(index))
        losses.append(float(metrics["loss"]))
    return state, np.array(losses)


def nats_of(config, params, batch):
    """-log p, or a bound of it, of each example."""
    of = jax.jit(functools.partial(classic.bounds, config, key=jax.random.key(0), shared=None))
    return of(params, batch)["likelihood"]


def some(config, size=64):
    """A batch that is like nothing in particular."""
    generator = np.random.default_rng(0)
    if "image_shape" not in config.model:
        shape = (size, config.data.length + 1)
        return {"tokens": generator.choice(3, shape, p=[0.6, 0.3, 0.1]).astype(np.int32)}
    image = generator.normal(size=(size, 3, 2, 1)) * np.arange(1, 7).reshape(3, 2, 1) / 3
    if config.model.discrete:
        image = (image > 0.4).astype(np.uint8)
    label = generator.choice(3, size).astype(np.int32)
    return {
        "image": image.astype(np.uint8 if config.model.discrete else np.float32),
        "label": label,
    }


def tiny(kind, **model):
    config = small(kind, **model)
    if "image_shape" in config.model:
        config.model.image_shape = (3, 2, 1)
        config.model.levels = 2 if kind == "naive_bayes" else 256
    return config


RISING = [
    ("hidden_markov", {}),
    ("grammar", {}),
    ("naive_bayes", {}),
    ("mixture", {}),
    ("mixture", {"covariance": "diagonal"}),
]


@pytest.mark.parametrize("kind, model", RISING, ids=str)
def test_em_never_lowers_the_likelihood(kind, model):
    """With kappa 0 the batch is the data; nothing was seen before it."""
    config = tiny(kind, kappa=0.0, pseudo_count=0.0, **model)
    _, losses = moved(config, some(config), 12)
    assert (np.diff(losses) < 2e-6).all()
    assert losses[-1] < losses[0] - 0.01


def test_a_single_state_is_the_shares_of_tokens():
    config = tiny("hidden_markov", width=1, kappa=1.0, pseudo_count=0.0)
    batch = some(config)
    state, _ = moved(config, batch, 2)
    share = np.bincount(batch["tokens"].ravel(), minlength=3) / batch["tokens"].size
    np.testing.assert_allclose(np.exp(state["params"]["emission"][0]), share, rtol=1e-5)
    score = jax.jit(functools.partial(classic.score, config, key=jax.random.key(0)))
    found = score(state["params"], batch)["likelihood"]
    expected = -np.log2(share)[batch["tokens"][:, 1:]].sum()
    assert float(found["total"]) == pytest.approx(expected, rel=1e-5)
    assert float(found["count"]) == batch["tokens"][:, 1:].size


def test_naive_bayes_is_counts_and_its_likelihood_that_of_all_classes():
    config = tiny("naive_bayes", labels=True, kappa=1.0)
    batch = some(config)
    state, _ = moved(config, batch, 3)
    image, label = batch["image"].reshape(64, -1), batch["label"]
    classes = np.array([3 * (label == k).sum() + 0.5 for k in range(3)])
    np.testing.assert_allclose(np.exp(state["params"]["class"]), classes / classes.sum(), rtol=1e-5)
    ones = np.array([3 * image[label == k].sum(0) + 0.5 for k in range(3)])
    share = ones / np.array([3 * (label == k).sum() + 1 for k in range(3)])[:, None]
    np.testing.assert_allclose(np.exp(state["params"]["levels"][..., 1]), share, rtol=1e-5)
    nats = nats_of(config, state["params"], batch)
    each = np.where(image[:, None], share, 1 - share).prod(2) @ (classes / classes.sum())
    np.testing.assert_allclose(nats, -np.log(each), rtol=1e-5)


def test_ppca_is_a_gaussian_of_the_leading_eigenvalues():
    """The likelihood of what was seen, by eigenvalues alone and by the covariance W W' + noise."""
    config = tiny("ppca", width=2)
    batch = some(config)
    state, _ = moved(config, batch, 3)
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), state["params"])
    x = batch["image"].reshape(64, -1).astype(np.float64)
    values = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    noise = values[2:].mean()
    closed = 6 * np.log(2 * np.pi) + np.log(values[:2]).sum() + 4 * np.log(noise) + 6
    nats = nats_of(config, state["params"], batch)
    assert float(nats.mean()) == pytest.approx(closed / 2, rel=1e-5)
    weights = params["axes"] * np.sqrt(params["variance"] - params["noise"])
    covariance = weights @ weights.T + params["noise"] * np.eye(6)
    off = x - x.mean(0)
    square = np.einsum("bd,de,be->b", off, np.linalg.inv(covariance), off)
    log_volume = np.linalg.slogdet(2 * np.pi * covariance)[1]
    np.testing.assert_allclose(nats, (square + log_volume) / 2, rtol=2e-5)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_one_component_has_the_mean_and_the_covariance_of_the_data(covariance):
    config = tiny("mixture", width=1, covariance=covariance, pseudo_count=0.0)
    batch = some(config)
    params = jax.tree.map(np.asarray, moved(config, batch, 2)[0]["params"])
    x = batch["image"].reshape(64, -1)
    np.testing.assert_allclose(params["mean"][0], x.mean(0), atol=1e-5)
    if covariance == "full":
        axes, variance = params["axes"][0], params["variance"][0]
        np.testing.assert_allclose(axes * variance @ axes.T, np.cov(x.T, bias=True), atol=1e-4)
    else:
        np.testing.assert_allclose(params["variance"][0], x.var(0), rtol=1e-3)


def test_levels_that_noise_fills_up_have_a_bound():
    """Two levels alike in every dimension: a bound of one bit each, by the density of its cells."""
    config = tiny("ppca", width=1)
    config.model.update(discrete=True, levels=2)
    params = started(config)
    image = some(tiny("naive_bayes"), 2048)["image"]
    nats = nats_of(config, params, {"image": image})
    # A standard normal over cells of width 2 about -1 and 1: the mean of (x^2 + log 2 pi) / 2.
    expected = 6 * ((1 + 1 / 3 + np.log(2 * np.pi)) / 2 - np.log(2))
    assert float(nats.mean()) == pytest.approx(expected, rel=1e-2)
    assert classic.score_kinds(config)["likelihood"]["kind"] == "upper bound"
    assert expected > 6 * np.log(2)


@pytest.mark.parametrize("kappa", [0.0, 0.6, 1.0])
def test_sums_are_the_running_mean_over_the_weight_of_its_last_batch(kappa):
    found, mean = 0.0, 0.0
    for step, value in enumerate([3.0, 1.0, 4.0, 1.0, 5.0]):
        weight = (step + 1) ** -kappa
        mean = (1 - weight) * mean + weight * value
        found = float(stepwise.kept(kappa, step)) * found + value
        assert found * weight == pytest.approx(mean, rel=1e-5)
    assert kappa != 1 or found == 14


SAMPLED = ["hidden_markov", "ngram", "grammar", "naive_bayes"]


@pytest.mark.parametrize("kind", SAMPLED)
def test_samples_have_the_probabilities_that_the_model_gives(kind):
    """Frequencies of short strings, or of images of few pixels, in 4000 draws."""
    config = tiny(kind)
    if kind == "naive_bayes":
        config.model.update(image_shape=(2, 1, 1))
    else:
        config.data.length = 2
    params = started(config, seed=3)
    if kind == "ngram":
        _, params = ngrams(jnp.array(EVERY[::2]))
    drawn = families.load("classic").sample(config, params, jax.random.key(5), 4000)
    symbols = 2 if kind == "naive_bayes" else 3
    every = np.array([*itertools.product(range(symbols), repeat=2)], np.int32)
    examples = jnp.array(every)
    if kind == "naive_bayes":
        batch = {"image": every.astype(np.uint8).reshape(-1, 2, 1, 1), "label": every[:, 0]}
        examples = classic.kind(config).observed(config, batch, jax.random.key(0))
    log_p = log_p_of(config, params, examples, kind == "grammar")
    rows = np.asarray(drawn).reshape(4000, 2)
    share = np.array([(rows == row).all(1).mean() for row in every])
    np.testing.assert_allclose(share, np.exp(log_p), atol=4 * (0.25 / 4000) ** 0.5)
