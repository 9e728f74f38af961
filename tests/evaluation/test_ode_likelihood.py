"""The probability-flow likelihood against densities that are known."""

import itertools

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.scipy.special import logsumexp

from research.data.sources import gaussian_mixture
from research.errors import UserError
from research.evaluation import ode_likelihood
from research.families.diffusion.objectives import denoising
from tests.diffusion.test_diffusion_family import make_batch, make_config, silent_params

DATA = gaussian_mixture.DEFAULTS | dict(resolution=4, components=3, rank=2)
ENDS = (-20.0, 20.0)


def exact_field():
    """The flow of the mixture: x_0 is the posterior mean, by the components' principal axes."""
    weights, means, factors = gaussian_mixture.parameters(DATA)
    covariances = factors @ factors.transpose(0, 2, 1) + DATA["noise"] ** 2 * np.eye(16)
    variances, axes = np.linalg.eigh(covariances)  # [K, P], [K, P, P]

    def field(y, gamma):
        flat = y.reshape(len(y), -1)
        spread = variances + jnp.exp(gamma)
        along = jnp.einsum("kpe,bkp->bke", axes, flat[:, None] - means)
        logits = jnp.log(weights) - 0.5 * jnp.sum(along**2 / spread + jnp.log(spread), -1)
        share = jnp.exp(logits - logsumexp(logits, -1, keepdims=True))
        posterior = means + jnp.einsum("kpe,bke->bkp", axes, variances / spread * along)
        x0 = jnp.einsum("bk,bkp->bp", share, posterior)
        return 0.5 * (flat - x0).reshape(y.shape)

    return field


@pytest.fixture(scope="module", name="mixture")
def make_mixture():
    """Images of the mixture, their log densities, and those that its flow gives them."""
    images, _ = gaussian_mixture.sample(DATA, 6, np.random.default_rng(0))
    with jax.enable_x64(True):
        x0 = jnp.asarray(images, jnp.float64)
        probes = ode_likelihood.make_probes(jax.random.key(0), x0.shape, 0)
        density = jax.jit(
            lambda x0: ode_likelihood.log_density(exact_field(), x0, ENDS, 640, probes)
        )
        return x0, gaussian_mixture.log_density(DATA, images), np.asarray(density(x0))


def test_density_of_the_mixture(mixture):
    """The exact denoiser's flow gives log p to 1e-4 nats."""
    _, exact, found = mixture
    np.testing.assert_allclose(found, exact, atol=1e-4)


def test_density_is_that_of_another_integrator(mixture):
    """diffrax follows the same flow with steps that adapt."""
    diffrax = pytest.importorskip("diffrax")
    x0, _, found = mixture
    with jax.enable_x64(True):
        field = exact_field()

        def slope(gamma, state, args):
            def one(flat):
                return field(flat.reshape(1, 4, 4, 1), gamma).ravel()

            return one(state[:16]), jnp.trace(jax.jacfwd(one)(state[:16]))

        def vector(gamma, state, args):
            change, divergence = slope(gamma, state, args)
            return jnp.append(change, divergence)

        ends = diffrax.diffeqsolve(
            diffrax.ODETerm(vector),
            diffrax.Tsit5(),
            *ENDS,
            0.01,
            jnp.append(x0[0].ravel(), 0.0),
            stepsize_controller=diffrax.PIDController(rtol=1e-9, atol=1e-9),
        ).ys[-1]
        log_alpha = 0.5 * jax.nn.log_sigmoid(-ENDS[1])
        normal = -0.5 * (jnp.exp(log_alpha) * ends[:16]) ** 2 - 0.5 * np.log(2 * np.pi) + log_alpha
        reference = float(jnp.sum(normal) + ends[16])
    assert found[0] == pytest.approx(reference, abs=1e-5)


def test_all_signs_together_are_exact():
    """The mean of v^T J v over every v of signs is the trace; one v is off."""
    signs = jnp.array(list(itertools.product([-1.0, 1.0], repeat=3)))[:, None]
    matrix = jax.random.normal(jax.random.key(0), (3, 3))

    def field(y, gamma):
        return jnp.tanh(y @ matrix)

    x0 = jnp.array([[0.3, -1.0, 0.2], [0.0, 0.1, 2.0]])
    axes = ode_likelihood.make_probes(jax.random.key(0), x0.shape, 0)
    drawn = ode_likelihood.make_probes(jax.random.key(0), x0.shape, 1)
    exact, every, one = (
        ode_likelihood.log_density(field, x0, (-1.0, 1.0), 1, probes)
        for probes in (axes, signs, drawn)
    )
    np.testing.assert_allclose(every, exact, rtol=1e-5)
    assert np.all(np.abs(one - exact) > 1e-3)
    assert drawn.shape == (1, 2, 3) and set(np.unique(drawn)) == {-1.0, 1.0}


@pytest.mark.parametrize("discrete", [True, False])
def test_a_silent_network_says_a_normal_distribution(discrete):
    """Of eps = 0 there is no flow: y has the density of noise where it is, N(0, 1 / alpha^2)."""
    config = make_config(discrete=discrete, gamma_max=-1.0)
    config.evaluation.update(ode_steps=2, ode_probes=1)
    batch = make_batch(8, discrete)
    batch["mask"][5:] = 0
    update = jax.jit(lambda *given: ode_likelihood.update(config, *given))
    sums = jax.tree.map(float, update(silent_params(config), batch, jax.random.key(0)))
    found = ode_likelihood.finish(config, sums)["ode_likelihood"]
    alpha = (1 / (1 + np.exp(-1.0))) ** 0.5
    image = np.asarray(batch["image"][:5], np.float64)
    image = image / 127.5 - 1 if discrete else image
    nats = 0.5 * (alpha * image) ** 2 + 0.5 * np.log(2 * np.pi) - np.log(alpha)
    bits_B = nats.mean((1, 2, 3)) / np.log(2) + (np.log2(127.5) if discrete else 0)
    assert found.value == pytest.approx(bits_B.mean(), abs=5e-4 if discrete else 1e-5)
    half = 1.96 * bits_B.std(ddof=1) / 5**0.5
    np.testing.assert_allclose(found.interval, bits_B.mean() + half * np.array([-1, 1]), atol=3e-3)
    kind = ode_likelihood.score_kinds(config)["ode_likelihood"]["kind"]
    assert kind == ("upper bound" if discrete else "estimate")


def test_what_has_no_flow_is_refused(monkeypatch):
    config = make_config()
    config.family = "diffusion"
    ode_likelihood.check(config, {})
    monkeypatch.setattr(denoising, "sample", None, raising=False)
    with pytest.raises(UserError, match="objective='denoising' denoises nothing"):
        ode_likelihood.check(config, {})
    config.family = "autoregressive"
    with pytest.raises(UserError, match="family 'diffusion', which config.family='autoregressive'"):
        ode_likelihood.check(config, {})
