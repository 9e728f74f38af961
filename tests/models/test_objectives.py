"""What is read and predicted of a window: one stack under several masks and losses."""

import itertools
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import numpy as jnp

from research import study
from research.errors import UserError
from research.families import autoregressive
from research.families.objectives import infilling, masked, prefix
from research.models import common
from research.models.attention import Where
from research.sampling.engine import Engine
from research.sampling.generate import generate
from tests import shapes
from tests.models.test_attention_kinds import MIXED
from tests.models.test_decoder import perturbed

KEY = jax.random.key(0)


def made(vocab=8, length=8, **model):
    """A config of the family whose data have `vocab` tokens."""
    config = shapes.autoregressive(vocab, length, **model)
    config.model.vocab_size = vocab + autoregressive.extra_tokens(config)
    return config


def loss(config, params, tokens):
    return jax.jit(lambda p: autoregressive.loss(config, p, {"tokens": tokens}, KEY, jnp.int32(0)))(
        params
    )


def score(config, params, tokens, **beside):
    batch = {"tokens": tokens, "mask": jnp.ones(len(tokens)), **beside}
    return jax.jit(lambda p: autoregressive.score(config, p, batch, KEY))(params)


def reach(config, params, table="embedding"):
    """Which of tokens 0 ... 7, each once, each position's output depends on, [L, L]."""
    tokens = jnp.arange(8)[None]
    task = next(iter(autoregressive.objective(config).scored(
        config, jnp.append(tokens, 0)[None], Where(), 8).values()))  # fmt: skip

    def out(table):
        network = autoregressive.network(config)
        return common.apply(network, {**params, "embedding": table}, tokens, task.where)[0][0]

    jacobian = jax.jit(jax.jacrev(out))(params[table])  # [L, D, V, D]
    return np.abs(np.asarray(jacobian)).max((1, 3))[:, :8] > 0


def test_a_prefix_is_read_both_ways():
    """Its half of a window sees itself whole, and nothing of what follows; all is as causal."""
    config = made(objective="prefix")
    seen = reach(config, perturbed(config))
    expected = np.tri(8, dtype=bool)
    expected[:4, :4] = True
    np.testing.assert_array_equal(seen, expected)
    tokens = jax.random.randint(KEY, (3, 9), 0, 8)
    (task,) = prefix.scored(config, tokens, Where(), 8).values()
    np.testing.assert_array_equal(task.weights_BxL[0], [0, 0, 0, 1, 1, 1, 1, 1])
    one = made(objective="prefix", prefix_length=1)
    plain = made()
    params = perturbed(plain)
    both = [score(c, params, tokens)["likelihood"] for c in (one, plain)]
    assert float(both[0]["total"]) == pytest.approx(float(both[1]["total"]), rel=1e-6)
    assert int(both[0]["count"]) == int(both[1]["count"]) == 24


def test_the_weights_of_a_random_prefix_are_one_on_average():
    tokens = jnp.zeros((4_000, 9), jnp.int32)
    task = prefix.task(made(objective="prefix"), tokens, Where(), 8, KEY)
    assert float(task.weights_BxL.mean()) == pytest.approx(1, abs=0.03)
    np.testing.assert_array_equal((task.weights_BxL > 0).sum(1), 9 - task.where.open.sum(1))


@settings(max_examples=12)
@given(st.integers(0, 2**31 - 1), st.sampled_from([6, 9]))
def test_a_window_with_its_middle_last_has_every_token_once(seed, length):
    config = made(length=length, objective="infilling", infilling_rate=1.0)
    tokens = np.random.default_rng(seed).integers(0, 8, (4, length + 1))
    task = infilling.task(config, jnp.asarray(tokens), Where(), 8, jax.random.key(seed))
    for row, text in enumerate(tokens):
        read = [int(task.read_BxL[row, 0]), *task.targets_BxL[row].tolist()]
        assert read[0] == 8 and read.count(9) == read.count(10) == 1
        suffix, middle = read.index(9), read.index(10)
        found = read[1:suffix] + read[middle + 1 :] + read[suffix + 1 : middle]
        assert found == text[1 : length - 1].tolist()
        origin = np.asarray(task.origin_BxL[row])
        own = np.isin(task.targets_BxL[row], (9, 10)) & (origin < 0)
        np.testing.assert_array_equal(text[origin[~own]], task.targets_BxL[row][~own])
        assert own.sum() == 2


def test_infilling_is_scored_both_ways():
    """From left to right as ever, and a middle third; bytes count where their tokens are."""
    config = made(objective="infilling", length=11)
    plain, params = made(vocab=11, length=11), perturbed(config)
    tokens = jax.random.randint(KEY, (3, 12), 0, 8)
    spelled = jnp.arange(33.0).reshape(3, 11)
    found = score(config, params, tokens, bytes=spelled)
    expected = score(plain, params, tokens, bytes=spelled)["likelihood"]
    assert float(found["likelihood"]["total"]) == pytest.approx(float(expected["total"]), rel=1e-6)
    assert float(found["middle"]["count"]) == float(spelled[:, 3:6].sum())  # tokens 4, 5, 6
    kinds = autoregressive.score_kinds(config)
    assert kinds["middle"]["unit"] == "bits/token of a middle"


def test_hidden_tokens_are_seen_from_both_sides():
    """8 in 10 hidden, 1 in 10 another, 1 in 10 as it was; the others are read and not scored."""
    config = made(objective="masked", causal=False, smear=False, mask_rate=0.5)
    assert reach(config, perturbed(config)).all()
    tokens = jnp.full((500, 9), 3)
    task = masked.task(config, tokens, Where(), 8, KEY)
    chosen = np.asarray(task.weights_BxL) > 0
    assert chosen.mean() == pytest.approx(0.5, abs=0.03)
    assert float(task.weights_BxL.mean()) == pytest.approx(1, abs=0.06)
    read = np.asarray(task.read_BxL)
    assert (read[~chosen] == 3).all()
    shares = [(read[chosen] == 8).mean(), np.isin(read[chosen], (0, 1, 2, 4, 5, 6, 7)).mean()]
    np.testing.assert_allclose(shares, [0.8, 0.1 * 7 / 8], atol=0.03)
    (scored,) = masked.scored(config, tokens, Where(), 8).values()
    assert ((np.asarray(scored.read_BxL) == 8) == (np.asarray(scored.weights_BxL) > 0)).all()
    assert autoregressive.score_kinds(config)["masked"]["kind"] == "estimate"


def test_texts_apart_are_as_they_are_alone():
    """Of every kind of mixer, to 1e-5: positions begin anew, nothing is seen over a separator."""
    pattern = (*MIXED[::3], "mixer=gated_delta,chunk=4", "mixer=lstm", "mixer=convolution")
    model: dict[str, Any] = dict(
        pattern=pattern, depth=5, num_heads=4, smear=True, documents_apart=True
    )
    config = shapes.autoregressive(8, 11, **model)
    params = perturbed(config)
    texts = [[0, 3, 5, 1, 2], [0, 7, 7], [0, 4, 1, 6]]
    packed = jnp.array([[*itertools.chain(*texts)][:12]])

    @jax.jit
    def nats(tokens):
        where = autoregressive.places(config, {"tokens": tokens})
        return autoregressive.cross_entropy(config, params, tokens, where)[0][0]

    whole, start = np.asarray(nats(packed)), 0
    for text in texts:
        padded = jnp.array([text + [5] * (12 - len(text))])
        alone = np.asarray(nats(padded))[: len(text) - 1]
        np.testing.assert_allclose(whole[start : start + len(alone)], alone, atol=1e-5)
        start += len(text)


def test_tokens_further_ahead_are_predicted_from_what_is_known():
    """Head k of position i sees tokens up to i + k; the main output and its score do not change."""
    config = made(ahead=2, depth=1)
    params, tokens = perturbed(config), jax.random.randint(KEY, (3, 9), 0, 8)
    network = autoregressive.network(config)
    once = jnp.arange(8)[None]

    def out(table):
        x, measures, _ = common.apply(network, {**params, "embedding": table}, once)
        return jnp.stack([x[0], *(each[0] for each in measures["ahead"])])

    jacobian = jax.jit(jax.jacrev(out))(params["embedding"])  # [1 + ahead, L, D, V, D]
    seen = np.abs(np.asarray(jacobian)).max((2, 4))[:, :, :8] > 0
    for steps in range(3):
        within = slice(0, 8 - steps)  # what is rolled in behind is not scored
        np.testing.assert_array_equal(seen[steps][within], np.tri(8, 8, steps, dtype=bool)[within])
    plain = made(depth=1)
    own = {name: leaf for name, leaf in params.items() if "ahead" not in name}
    both = [score(c, p, tokens)["likelihood"]["total"] for c, p in ((config, params), (plain, own))]
    assert float(both[0]) == pytest.approx(float(both[1]), rel=1e-6)
    total, measures = loss(config, params, tokens)
    main, _ = loss(plain, own, tokens)
    further = 0.3 * (measures["ahead_1"] + measures["ahead_2"]) / 2
    assert float(total) == pytest.approx(float(main + further), rel=1e-5)


def encoder_decoder(**model):
    return made(
        network="encoder_decoder", objective="prefix", prefix_length=4, positions="learned", **model
    )


def test_an_encoder_reads_both_ways_and_a_decoder_goes_on():
    config = encoder_decoder()
    seen = reach(config, perturbed(config))
    assert not seen[:3].any()  # nothing is predicted of the prefix
    np.testing.assert_array_equal(seen[3:], np.tri(8, dtype=bool)[3:])
    assert config.model.vocab_size == 8


def test_what_follows_a_prefix_sums_to_one():
    """Over all continuations of two tokens, for a prefix in one stack and in two."""
    prompt = [1, 2, 0]
    tails = list(itertools.product(range(3), repeat=2))
    tokens = jnp.array([[*prompt, *tail] for tail in tails])
    for network in ("decoder", "encoder_decoder"):
        config = shapes.autoregressive(
            3, 4, network=network, objective="prefix", prefix_length=3, positions="learned"
        )
        params = perturbed(config)
        where = next(iter(prefix.scored(config, tokens, Where(), 8).values())).where
        run = jax.jit(lambda p, c=config, w=where: autoregressive.cross_entropy(c, p, tokens, w)[0])
        nats = run(params)[:, 2:].sum(1)
        assert float(jnp.exp(-nats).sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_a_prefix_is_read_both_ways_before_it_is_gone_on_from():
    """Prompts of several lengths, side by side, go on as they are scored after such a prefix."""
    config = shapes.autoregressive(5, 12, depth=2, num_heads=4, objective="prefix")
    params, prompts = perturbed(config), [[1], [2, 3, 1, 0, 4], [0, 4, 2]]
    engine = Engine(autoregressive.drawn_from(config, params), 3, 12)
    for prompt, row in zip(prompts, generate(engine, prompts, 6), strict=True):
        tokens = jnp.array([[*prompt, *row.tokens]])
        config.model.prefix_length = len(prompt)
        (task,) = prefix.scored(config, tokens, Where(), 5).values()
        nats = jax.jit(
            lambda p, t=tokens, w=task.where: autoregressive.cross_entropy(config, p, t, w)[0]
        )(params)[0, len(prompt) - 1 :]
        np.testing.assert_allclose(row.log_probabilities, -nats, atol=1e-5)
        config.model.prefix_length = 0


@pytest.mark.parametrize(
    "flags, said",
    [
        (["objective=prefix", "attention=window"], "config.model.attention='window' sees a part"),
        (["objective=prefix", "pattern=('attention=full','attention=sinks')"], "'sinks' sees a"),
        (["objective=mask"], "objective='mask' is not one of .*did you mean 'masked'"),
        (["objective=masked"], "objective='masked' needs config.model.causal=False"),
        (["causal=False"], "objective='next_token' needs config.model.causal=True"),
        (["objective=prefix", "prefix_length=999"], "prefix_length=999 must be from 0 to"),
        (["objective=infilling", "infilling_rate=0.0"], "infilling_rate=0.0 must be above 0"),
        (["objective=infilling", "vocab_size=256"], "for the 256 symbols .* and the 3 of config"),
        (["objective=masked", "causal=False", "mask_rate=1.0"], "mask_rate=1.0 must be between"),
        (["objective=prefix", "ahead=1"], "config.model.ahead must be 0"),
        (["value_embeddings=True", "mixer=lstm"], "of which config.model.mixer='lstm' has none"),
        (["ahead=999"], "ahead=999 must be below the 128 positions"),
        (["network=encoder_decoder"], "needs config.model.objective='prefix' and"),
        (["objective=prefix", "network=wavenet"], "needs a network of attention, not 'wavenet'"),
    ],
)
def test_what_does_not_go_together_is_one_line(flags, said):
    flags = ["--config.size=32", *(f"--config.model.{flag}" for flag in flags)]
    with pytest.raises(UserError, match=said):
        study.load_config("experiments/quickstart.py:text", flags, prepared=False)


@pytest.mark.parametrize("objective", ["prefix", "infilling", "masked"])
def test_images_are_predicted_in_order(objective):
    flags = [f"--config.model.objective={objective}", "--config.size=16", "--config.budget=1e10"]
    with pytest.raises(UserError, match=f"'{objective}' is of text; images have 'next_token'"):
        study.load_config("experiments/pixel_resolutions.py:pixels_8", flags, prepared=False)
