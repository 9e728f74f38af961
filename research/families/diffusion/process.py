"""Every Gaussian process in one language: x_t = alpha x_0 + sigma eps at gamma = -log SNR.

Processes that pass through the same log-SNRs differ by the scale of x_t alone (Kingma 2021, section
5; Karras 2022, section 2), so a process is that scale, a function of gamma; the path of gamma over
time is a `schedule`. Whatever a network predicts is a x_0 + b eps with a and b of gamma, so one 2x2
system turns any prediction into any other. `gamma` is [batch], images are [batch, ...].
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from research.families.diffusion.schedule import Schedule


def _preserving(gamma: Array) -> tuple[Array, Array]:
    """The variance of unit data is kept, alpha^2 + sigma^2 = 1 (Ho 2020; Song 2021, VP)."""
    return jnp.sqrt(jax.nn.sigmoid(-gamma)), jnp.sqrt(jax.nn.sigmoid(gamma))


def _exploding(gamma: Array) -> tuple[Array, Array]:
    """Noise is added to the data as they are (Song 2021, VE; Karras 2022)."""
    return jnp.ones_like(gamma), jnp.exp(0.5 * gamma)


def _sub_preserving(gamma: Array) -> tuple[Array, Array]:
    """sigma = 1 - alpha^2, below that of `_preserving` (Song 2021, sub-VP, eq. 29)."""
    ratio = jnp.exp(gamma)  # (1 - alpha^2)^2 / alpha^2, a quadratic equation of alpha^2
    root = ratio + jnp.sqrt(ratio * (ratio + 4))
    return jnp.sqrt(2 / (2 + root)), root / (2 + root)


def _straight(gamma: Array) -> tuple[Array, Array]:
    """alpha + sigma = 1: a straight line from data to noise (Liu 2023; Lipman 2023)."""
    return jax.nn.sigmoid(-0.5 * gamma), jax.nn.sigmoid(0.5 * gamma)


# (alpha, sigma) as functions of gamma.
SCALES: dict[str, Callable[[Array], tuple[Array, Array]]] = {
    "vp": _preserving,
    "ve": _exploding,
    "sub_vp": _sub_preserving,
    "flow": _straight,
}


def _edm(gamma: Array, sigma: Array, std: float) -> tuple[Array, Array]:
    """Unit variance in and out for data of deviation `std` (Karras 2022, table 1, eq. 8): F."""
    noise = jnp.exp(0.5 * gamma)
    root = jnp.sqrt(noise**2 + std**2)
    return noise / (std * root), -std / root


# (a, b) of the target a x_0 + b eps: functions of gamma, the process's sigma and the data's
# deviation. v = alpha eps - sigma x_0 of the variance-preserving scale (Salimans 2022); velocity is
# dx/dt of a straight line, eps - x_0; score is the gradient of the log density of x_t given x_0.
PREDICTIONS: dict[str, Callable[[Array, Array, float], tuple[Array, Array]]] = {
    "eps": lambda gamma, sigma, std: (jnp.zeros_like(gamma), jnp.ones_like(gamma)),
    "x0": lambda gamma, sigma, std: (jnp.ones_like(gamma), jnp.zeros_like(gamma)),
    "v": lambda gamma, sigma, std: (-_preserving(gamma)[1], _preserving(gamma)[0]),
    "velocity": lambda gamma, sigma, std: (-jnp.ones_like(gamma), jnp.ones_like(gamma)),
    "score": lambda gamma, sigma, std: (jnp.zeros_like(gamma), -1 / sigma),
    "edm": _edm,
}


def along(values_B: Array, x: Array) -> Array:
    """`values` [B] as [B, 1, ...], to multiply x [B, ...] by."""
    return values_B.reshape(values_B.shape + (1,) * (x.ndim - values_B.ndim))


@dataclass(frozen=True)
class Process:
    """A scale of x_t, and what of it a network predicts.

    Attributes:
        scale: one of SCALES.
        prediction: one of PREDICTIONS.
        data_std: deviation of the data, for "edm" and for the network's input.
        scale_input: whether the network sees x_t / sqrt(alpha^2 data_std^2 + sigma^2), of unit
            variance (Karras 2022, eq. 7: c_in), in place of x_t.
    """

    scale: str = "vp"
    prediction: str = "eps"
    data_std: float = 1.0
    scale_input: bool = False

    def scales(self, gamma: Array) -> tuple[Array, Array]:
        """alpha and sigma, each of the shape of `gamma`."""
        return SCALES[self.scale](gamma)

    def parts(self, gamma: Array) -> tuple[Array, Array]:
        """a and b of what is predicted, a x_0 + b eps, each of the shape of `gamma`."""
        return PREDICTIONS[self.prediction](gamma, self.scales(gamma)[1], self.data_std)

    def add_noise(self, x0: Array, eps: Array, gamma: Array) -> Array:
        """Sample q(x_t | x_0) from its noise `eps` (Kingma 2021, eq. 1)."""
        alpha, sigma = (along(each, x0) for each in self.scales(gamma))
        return alpha * x0 + sigma * eps

    def target(self, x0: Array, eps: Array, gamma: Array) -> Array:
        """What the network should return."""
        a, b = (along(each, x0) for each in self.parts(gamma))
        return a * x0 + b * eps

    def to_x0(self, output: Array, x_t: Array, gamma: Array) -> Array:
        """The clean image implied by a network's `output` (Tweedie: the posterior mean)."""
        (alpha, sigma), (a, b) = self.scales(gamma), self.parts(gamma)
        across = alpha * b - sigma * a
        return along(b / across, x_t) * x_t - along(sigma / across, x_t) * output

    def to_eps(self, output: Array, x_t: Array, gamma: Array) -> Array:
        """The noise implied by a network's `output`."""
        (alpha, sigma), (a, b) = self.scales(gamma), self.parts(gamma)
        across = alpha * b - sigma * a
        return along(alpha / across, x_t) * output - along(a / across, x_t) * x_t

    def eps_error_weight(self, gamma: Array) -> Array:
        """Squared error in eps per squared error of the output, [batch]."""
        (alpha, sigma), (a, b) = self.scales(gamma), self.parts(gamma)
        return (alpha / (alpha * b - sigma * a)) ** 2

    def network_input(self, x_t: Array, gamma: Array) -> Array:
        """What the network sees of x_t."""
        if not self.scale_input:
            return x_t
        alpha, sigma = self.scales(gamma)
        return x_t * along(jax.lax.rsqrt((alpha * self.data_std) ** 2 + sigma**2), x_t)


def drift_and_diffusion(process: Process, path: Schedule, times: Array) -> tuple[Array, Array]:
    """f and g^2 of dx = f x dt + g dw, whose marginals are the process (Song 2021, eq. 5).

    f = d log(alpha) / dt and g^2 = sigma^2 d gamma / dt, each of the shape of `times`.
    """
    gamma, slope = path(times)

    def log_alpha(gamma):
        return jnp.log(process.scales(gamma)[0])

    _, change = jax.jvp(log_alpha, (gamma,), (slope,))
    return change, process.scales(gamma)[1] ** 2 * slope


def step_back(gamma_t: Array, gamma_s: Array, place: Array | float = -1.0) -> tuple[Array, Array]:
    """Of q(y_s | y_t, x_0) with y = x / alpha: the share of x_0 in its mean, and its variance.

    Its mean is (1 - share) y_t + share x_0 (Kingma 2021, eq. 27). At `place` -1 the variance is
    that of the posterior, at 1 that of a step forward, between them it goes by its logarithm (Ho
    2020, section 3.2; Nichol 2021, eq. 15), both at the variance-preserving scale.
    """
    share = -jnp.expm1(gamma_s - gamma_t)
    wider = jax.nn.log_sigmoid(gamma_t) - jax.nn.log_sigmoid(gamma_s)  # of sigma^2
    return share, share * jnp.exp(gamma_s + 0.5 * (place + 1) * wider)


def stratified_times(key: Array, shape: tuple[int, ...]) -> Array:
    """Times in [0, 1): each is uniform, together they are evenly spaced (Kingma 2021, app. I.1).

    For a shape [samples, batch] every column is evenly spaced too.
    """
    count = 1
    for size in shape:
        count *= size
    grid = jnp.arange(count, dtype=jnp.float32).reshape(shape) / count
    return jnp.mod(jax.random.uniform(key) + grid, 1.0)
