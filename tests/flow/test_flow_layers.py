"""The layers of flows: one to one, with the log-determinant of their Jacobian, in float64."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from ml_collections import FrozenConfigDict

from research.families import flow
from research.families.flow import autoregressive_flow, continuous, elementwise, glow, layered
from tests import shapes

SHAPE = (4, 4, 1)
KEY = jax.random.key(2)
FLOWS: dict[str, dict[str, Any]] = {
    "checkerboard": dict(flow="coupling", masks=("checkerboard",), squeeze=1),
    "spline": dict(flow="coupling", transform="spline", num_classes=3),
    "patches": dict(flow="coupling", network="patch_conditioner", squeeze=1, patch_size=2,
                    masks=("checkerboard",)),
    "glow": dict(flow="glow"),
    "maf": dict(flow="autoregressive_flow"),
    "iaf": dict(flow="autoregressive_flow", direction="sampling", transform="spline"),
    "transformer": dict(flow="transformer_flow", patch_size=2),
    "continuous": dict(flow="continuous", exact_dims=16, solver_steps=12),
}  # fmt: skip


def each(names: Any, slow: Any = ("continuous", "patches", "iaf", "transformer")) -> Any:
    """A test of each of the flows `names`, of which those that compile long are slow."""
    marks = {name: [pytest.mark.slow] * (name in slow) for name in names}
    return pytest.mark.parametrize("name", [pytest.param(n, marks=marks[n]) for n in names])


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@functools.cache
def built(name: str, shape=SHAPE, dtype="float64") -> tuple[FrozenConfigDict, Any]:
    """A config, and parameters away from where they start."""
    config = shapes.flow(**FLOWS[name], image_shape=shape)
    config.hardware.compute_dtype = dtype
    if "flow_layers" in config.model:
        config.model.flow_layers = 2
    config = FrozenConfigDict({key: config[key] for key in ("model", "hardware")})
    params, generator = flow.init(config, KEY), np.random.default_rng(1)
    moved = jax.tree.map(lambda x: np.asarray(x) + generator.normal(0, 0.1, x.shape), params)
    return config, jax.tree.map(lambda x: jnp.asarray(x, dtype), moved)


def given(shape=SHAPE, rows=3) -> Any:
    return np.random.default_rng(4).normal(0, 1.5, (rows, *shape))


def label(config, rows=3) -> Any:
    return jnp.arange(rows) % 3 if config.model.num_classes else None


@functools.cache
def mapped(name: str) -> tuple[Any, ...]:
    """z, log-determinant, what maps back, and the Jacobian of each example, of one program."""
    config, params = built(name)

    def run(x):
        z, log_det = flow.encode(config, params, x, label(config))
        back = flow.inverse(config, params, z, label(config))

        def one(x, row):
            of = None if label(config) is None else label(config)[row][None]
            return flow.encode(config, params, x[None], of)[0].ravel()

        jacobian = jax.vmap(jax.jacrev(one))(x, jnp.arange(len(x)))
        return z, log_det, back, jacobian.reshape(len(x), z[0].size, -1)

    return tuple(map(np.asarray, jax.jit(run)(given())))


@each(FLOWS)
def test_the_log_determinant_is_that_of_the_jacobian(name):
    _, log_det, _, jacobian = mapped(name)
    exact = np.linalg.slogdet(jacobian)[1]
    assert np.abs(exact).min() > 1e-3  # it is no identity
    # Norms are in float32; of a path the log-determinant is as exact as the solver is.
    tolerance = {"maf": 1e-10, "iaf": 1e-10, "continuous": 1e-4}.get(name, 2e-6)
    np.testing.assert_allclose(log_det, exact, atol=tolerance)


@each(FLOWS)
def test_the_inverse_is_exact(name):
    z, _, back, _ = mapped(name)
    assert z.shape == given().shape and np.abs(z - given()).max() > 0.1
    tolerance = 1e-4 if name == "continuous" else 1e-10
    np.testing.assert_allclose(back, given(), atol=tolerance)


@each(["spline", "glow", "maf", "transformer"], slow=("spline", "glow", "transformer"))
def test_the_inverse_in_single_precision(name):
    with jax.enable_x64(False):
        config, params = built(name, dtype="float32")
        x = given().astype(np.float32)

        @jax.jit
        def back(x):
            z, _ = flow.encode(config, params, x, label(config))
            return flow.inverse(config, params, z, label(config))

        np.testing.assert_allclose(back(x), x, atol=1e-5)


@each(["spline", "glow", "maf", "transformer", "continuous"], slow=("spline", "transformer"))
def test_a_fresh_flow_is_the_identity(name):
    """Glow's begins as rotations, which keep every volume."""
    config, _ = built(name)
    x = given(rows=1)

    @jax.jit
    def run(x):
        return flow.encode(config, flow.init(config, KEY), x, label(config, 1))

    z, log_det = map(np.asarray, run(x))
    np.testing.assert_allclose(log_det, 0, atol=1e-6)
    if name == "glow":
        np.testing.assert_allclose((z**2).sum(), (x**2).sum(), rtol=1e-5)
    else:  # layers turn the order round, an even number of times
        np.testing.assert_allclose(z, x, atol=1e-6)


def test_a_number_knows_only_those_before():
    """The Jacobian of one layer is triangular but for the order, turned round at its end."""
    config, params = built("maf")
    one = jax.tree.map(lambda x: x[:1], params["flow"])

    def ordered(x):
        z, _ = autoregressive_flow.forward(config.model, config.hardware, one, x)
        return z.ravel()[::-1]

    jacobian = np.asarray(jax.jacrev(ordered)(given(rows=1))).reshape(16, 16)
    assert np.abs(np.triu(jacobian, 1)).max() == 0
    assert np.abs(np.tril(jacobian, -1)).max() > 1e-3
    # Were a number told by itself, the diagonal would be more than the slope of its map.
    _, log_det = autoregressive_flow.forward(config.model, config.hardware, one, given(rows=1))
    assert np.log(np.diag(jacobian)).sum() == pytest.approx(float(log_det[0]), abs=1e-10)


def test_the_two_directions_are_inverses():
    config, params = built("maf")
    x, of = given(), jax.jit(autoregressive_flow.forward, static_argnums=(0, 1))
    z, log_det = of(config.model, config.hardware, params["flow"], x)
    other = FrozenConfigDict({**config.model, "direction": "sampling"})
    back, undone = of(other, config.hardware, params["flow"], z)
    np.testing.assert_allclose(back, x, atol=1e-10)
    np.testing.assert_allclose(log_det + undone, 0, atol=1e-10)


@pytest.mark.parametrize("side", [2, 4])
def test_squares_of_pixels_become_channels_and_come_back(side):
    x = given((8, 4, 3))
    y = layered.squeeze(x, side)
    assert y.shape == (3, 8 // side, 4 // side, 3 * side**2)
    np.testing.assert_array_equal(layered.unsqueeze(y, side), x)
    np.testing.assert_array_equal(y[1, 0, 0].reshape(side, side, 3), x[1, :side, :side])


def test_a_matrix_by_its_parts():
    """H W log|det W| of a 1x1 convolution is H W times the sum of its log diagonal."""
    config, params = built("glow")
    own, fixed = params["flow"]["scale_0"], glow.rotations(config.model, 0)
    dense = np.asarray(glow.matrix(own, fixed))
    np.testing.assert_allclose(np.linalg.slogdet(dense)[1], own["log_diagonal"].sum(-1), atol=1e-6)
    start = glow.matrix(
        dict(lower=fixed.lower, upper=fixed.upper, log_diagonal=fixed.log_diagonal), fixed
    )
    for each in np.asarray(start):
        np.testing.assert_allclose(each @ each.T, np.eye(4), atol=1e-6)


def test_actnorm_begins_with_the_first_batch():
    """What leaves the first actnorm has mean 0 and deviation 1 a channel, then and thereafter."""
    config, params = built("glow")
    x = 3 + 2 * given(rows=16)
    model, own = config.model, params["flow"]
    z, log_det, found = glow.begun(model, config.hardware, own, x)
    start = found["scale_0"]
    squeezed = layered.squeeze(x, 2)
    y = squeezed * np.exp(start["log_scale"][0]) + start["shift"][0]
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-10)
    np.testing.assert_allclose(y.std((0, 1, 2)), 1, atol=1e-5)
    now = glow.moved(own, found, jnp.int32(0))
    again, same = glow.forward(model, config.hardware, now, x)
    np.testing.assert_allclose(again, z, atol=1e-10)
    np.testing.assert_allclose(same, log_det, atol=1e-10)
    later = glow.moved(own, found, jnp.int32(1))
    jax.tree.map(np.testing.assert_array_equal, later, own)


SPLINE = FrozenConfigDict(dict(transform="spline", bins=5, bound=3.0))


def test_a_spline_is_monotone_and_the_identity_outside():
    raw: Any = np.random.default_rng(0).normal(0, 2, elementwise.numbers(SPLINE))
    x: Any = np.linspace(-5, 5, 4001)
    raw = np.broadcast_to(raw, (len(x), len(raw)))
    found: Any = elementwise.forward(SPLINE, raw, x)
    y, log_slope = map(np.asarray, found)
    assert (np.diff(y) > 0).all() and np.abs(y - x).max() > 0.1
    outside = np.abs(x) >= 3
    np.testing.assert_array_equal(y[outside], x[outside])
    assert (log_slope[outside] == 0).all()
    np.testing.assert_allclose(elementwise.inverse(SPLINE, raw, found[0]), x, atol=1e-10)
    slope = jax.jit(jax.vmap(jax.grad(lambda x, r: elementwise.forward(SPLINE, r, x)[0])))(x, raw)
    np.testing.assert_allclose(np.exp(log_slope), slope, rtol=1e-9)
    none, flat = elementwise.forward(SPLINE, 0 * raw, x)
    np.testing.assert_allclose(none, x, atol=1e-12)
    np.testing.assert_allclose(flat, 0, atol=1e-12)


@pytest.mark.slow
def test_a_path_against_another_solver():
    """z and the integral of the trace are those of an adaptive solver."""
    diffrax = pytest.importorskip("diffrax")
    config, params = built("continuous")
    x, of = given(rows=1), (config.model, config.hardware, params["flow"])

    def field(time, state, args):
        function = functools.partial(continuous.velocity, *of, time=time, label=None)
        jacobian = jax.jacfwd(function)(state[0]).reshape(16, 16)
        return function(state[0]), jnp.trace(jacobian)[None]

    found = diffrax.diffeqsolve(
        diffrax.ODETerm(field), diffrax.Dopri5(), 0.0, 1.0, 0.05, (x, jnp.zeros(1)),
        stepsize_controller=diffrax.PIDController(rtol=1e-7, atol=1e-7),
    )  # fmt: skip
    z, log_det, *_ = mapped("continuous")
    np.testing.assert_allclose(z[:1], found.ys[0][0], atol=1e-5)
    np.testing.assert_allclose(log_det[:1], found.ys[1][0], atol=1e-5)


def test_signs_estimate_the_trace():
    """Without bias, over many vectors of signs; exact for a diagonal Jacobian."""
    matrix = np.random.default_rng(3).normal(size=(5, 5))
    x: Any = np.ones((4000, 5))
    signs = jax.random.rademacher(KEY, x.shape, x.dtype)
    _, estimate = continuous.divergence(lambda x: x @ matrix, x, signs)
    _, exact = continuous.divergence(lambda x: x @ matrix, x, None)
    np.testing.assert_allclose(exact, np.trace(matrix), rtol=1e-12)
    error = (estimate - exact[0]).std() / len(x) ** 0.5
    assert abs(estimate.mean() - exact[0]) < 4 * error
    _, diagonal = continuous.divergence(lambda x: x**3, x, signs)
    np.testing.assert_allclose(diagonal, 15.0, rtol=1e-12)


POINTS = {"checkerboard": 101, "maf": 101, "iaf": 401, "continuous": 41}


@each(POINTS)
def test_a_density_integrates_to_one(name):
    """Over a plane, whose images have two pixels; pieces of a spline want a finer grid."""
    shape = (1, 2, 1)
    config, params = built(name, shape)
    side = np.linspace(-10, 10, POINTS[name])
    x = np.stack(np.meshgrid(side, side), -1).reshape(-1, *shape)

    @jax.jit
    def density(x):
        z, log_det = flow.encode(config, params, x)
        return jnp.exp(-flow._nats(z, log_det, jnp.zeros(len(x)))), log_det

    found, log_det = map(np.asarray, density(x))
    assert np.abs(log_det).max() > 0.05
    assert found.sum() * (side[1] - side[0]) ** 2 == pytest.approx(1, abs=1e-3)
