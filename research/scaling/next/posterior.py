"""What is believed of every row's loss, given the losses seen so far.

    log loss(x) = law(x; theta) + g(x) + noise,   g ~ GP(0, (ratio * sigma)^2 k(x, x'))

for each candidate law and each (ratio, length) of the discrepancy g: laws are wrong far from where
they were fitted, and a run tells more of its neighbours than of runs 1000 times its size (Kennedy
and O'Hagan 2001). theta is fitted by damped Gauss-Newton with its prior, its spread is Laplace's,
sigma is integrated over an inverse gamma prior by its mode, and the combinations are averaged with
their evidence. Everything is normal in log loss, so that design needs only means and covariances.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from research.scaling.engine.descent import descend, gauss_newton
from research.scaling.next.laws import Candidate, Columns, Evaluate

# Prior of the noise of log loss: two runs' worth of 0.5%.
NOISE_COUNT = 2.0
NOISE = 0.005
# (ratio of the discrepancy to the noise, its length in standard deviations of the logs).
# Long ones extrapolate: with 0.7 in place of 5 errors were a tenth larger (see runs.py).
DISCREPANCIES = (
    (0.0, 2.0),
    (1.0, 2.0),
    (3.0, 2.0),
    (10.0, 2.0),
    (3.0, 5.0),
    (10.0, 5.0),
    (30.0, 5.0),
)
START = (3.0, 2.0)
SMALLEST_SPREAD = 0.5  # of a variable's log, for distances
STARTS = 16
TOLERANCE = 1e-4  # nats
# Evidence counts half: runs share errors that no law here has. Errors stayed, intervals of 90%
# covered 90 instead of 86% (see runs.py), and laws keep their say in what to run next.
TEMPER = 0.5
KEPT = 16
NEGLIGIBLE = 10.0  # combinations this far below the best in log evidence are left out


@dataclass(frozen=True)
class Space:
    """The rows to choose from and to predict: log variables, laws, kernels [rows, rows]."""

    candidates: tuple[Candidate, ...]
    evaluate: tuple[Evaluate, ...]
    kernels: Mapping[float, np.ndarray]
    num_rows: int


def make_space(
    columns: Columns, candidates: Sequence[Candidate], reference: Columns | None = None
) -> Space:
    """Prepare `candidates` on the rows of `columns`; `reference` (default: the same) is the table
    whose means and spreads fix what priors and distances refer to."""
    reference = columns if reference is None else reference
    points = coordinates(columns, reference)
    distance = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    kernels = {length: _matern(distance / length) for _, length in DISCREPANCIES}
    centre = {name: float(np.log(value).mean()) for name, value in reference.items()}
    evaluate = tuple(candidate.make(columns, centre) for candidate in candidates)
    return Space(tuple(candidates), evaluate, kernels, len(points))


def coordinates(columns: Columns, reference: Columns) -> np.ndarray:
    """Log variables [rows, V] in units of their spread in `reference`."""
    spreads = [max(np.log(value).std(), SMALLEST_SPREAD) for value in reference.values()]
    logs = [np.log(columns[name]) for name in reference]
    return np.stack([log / spread for log, spread in zip(logs, spreads, strict=True)], -1)


def _matern(distance: np.ndarray) -> np.ndarray:
    scaled = np.sqrt(3.0) * distance
    return (1 + scaled) * np.exp(-scaled)


@dataclass(frozen=True)
class Posterior:
    """Normal belief about log loss: `mean` [rows], `covariance` [rows, rows], `noise` variance.

    `weights` is each law's share; `spreads` [combinations, rows] and `means` are those of the
    combinations averaged, `shares` their weights. `thetas` starts the next update.
    """

    mean: np.ndarray
    covariance: np.ndarray
    noise: float
    weights: Mapping[str, float]
    shares: np.ndarray
    means: np.ndarray
    spreads: np.ndarray
    thetas: Mapping[str, np.ndarray] = field(default_factory=dict)


def prior(space: Space) -> Posterior:
    """Before any loss is seen: each law at its prior mean, with the start's discrepancy."""
    parts = []
    kernel = START[0] ** 2 * space.kernels[START[1]]
    noise = (2 * NOISE) ** 2
    for candidate, evaluate in zip(space.candidates, space.evaluate, strict=True):
        value, slope = evaluate(candidate.mean[None])
        covariance = noise * kernel + (slope[0] * candidate.sd**2) @ slope[0].T
        parts.append(_Part(candidate.name, 0.0, value[0], covariance, noise))
    return _average(parts, {})


def update(
    space: Space,
    rows: Sequence[int] | np.ndarray,
    log_loss: np.ndarray,
    previous: Posterior | None,
    seed: int,
    thorough: bool,
) -> Posterior:
    """Belief given `log_loss` [n] of `rows` [n].

    `thorough` starts every law from many places; otherwise it moves on from `previous`.
    """
    index = np.asarray(rows, int)
    whitening, determinants = _whitening(space, index)
    found, thetas = [], {}
    for candidate, evaluate in zip(space.candidates, space.evaluate, strict=True):
        problem = _Problem(candidate, evaluate, index, log_loss)
        known = None if previous is None else previous.thetas.get(candidate.name)
        if thorough or known is None:
            theta = _search(problem, whitening, known, seed)
        else:
            theta = problem.fit(known, whitening, 3)[0]
        thetas[candidate.name] = theta
        state = problem.state(theta, whitening)
        evidence = problem.evidence(state) - 0.5 * determinants
        found += [(evidence[k], problem, state, k) for k in range(len(DISCREPANCIES))]
    found = sorted(found, key=lambda each: -each[0])[:KEPT]
    parts = []
    for evidence, problem, state, k in found:
        if evidence > found[0][0] - NEGLIGIBLE:
            ratio, length = DISCREPANCIES[k]
            kernel = ratio**2 * space.kernels[length]
            parts.append(problem.predict(evidence, state, k, whitening[k], kernel))
    return _average(parts, thetas)


def _whitening(space: Space, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of DISCREPANCIES the matrix [n, n] that takes vectors over the chosen rows to where
    `1 + ratio^2 k` is the identity, and the log of that one's determinant."""
    grid = np.ix_(rows, rows)
    spectra = {length: np.linalg.eigh(kernel[grid]) for length, kernel in space.kernels.items()}
    matrices, determinants = [], []
    for ratio, length in DISCREPANCIES:
        values, vectors = spectra[length]
        variances = 1 + ratio**2 * np.maximum(values, 0)
        matrices.append(vectors.T / np.sqrt(variances)[:, None])
        determinants.append(np.log(variances).sum())
    return np.stack(matrices), np.array(determinants)


def _search(
    problem: "_Problem", whitening: np.ndarray, known: np.ndarray | None, seed: int
) -> np.ndarray:
    """The best theta [combinations, P] from draws of the prior, and from `known`."""
    candidate = problem.candidate
    generator = np.random.default_rng(seed)
    draws = generator.standard_normal((STARTS, len(candidate.mean)))
    draws[0] = 0
    starts = problem.centre + candidate.sd * draws
    first = whitening[DISCREPANCIES.index(START)]
    theta, objective = problem.fit(starts, np.stack([first] * STARTS), 20)
    best = np.repeat(theta[objective.argmin()][None], len(DISCREPANCIES), 0)
    theta, objective = problem.fit(best, whitening, 15)
    if known is not None:
        other, value = problem.fit(known, whitening, 15)
        theta = np.where((value < objective)[:, None], other, theta)
    return theta


class _Part(NamedTuple):
    """The normal belief of one combination at every row."""

    name: str
    evidence: float
    mean: np.ndarray
    covariance: np.ndarray
    noise: float


def _average(parts: list[_Part], thetas: Mapping[str, np.ndarray]) -> Posterior:
    names, evidence, means, covariances, noises = zip(*parts, strict=True)
    shares = np.exp(TEMPER * (np.array(evidence) - max(evidence)))
    shares /= shares.sum()
    means, covariances, noises = np.stack(means), np.stack(covariances), np.array(noises)
    mean = shares @ means
    apart = means - mean
    covariance = np.tensordot(shares, covariances, 1) + (shares[:, None] * apart).T @ apart
    weights = dict.fromkeys(names, 0.0)
    for name, share in zip(names, shares, strict=True):
        weights[name] += float(share)
    variances = np.maximum(np.einsum("sii->si", covariances), 0) + noises[:, None]
    noise = float(shares @ noises)
    return Posterior(mean, covariance, noise, weights, shares, means, np.sqrt(variances), thetas)


class _State(NamedTuple):
    """Everything at some theta: of all rows the `value` and its `slope`, of the chosen rows the
    `whitened` residuals, the variance of their noise, and what is minimised."""

    value: np.ndarray
    slope: np.ndarray
    whitened: np.ndarray
    noise: np.ndarray
    objective: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray


@dataclass(frozen=True)
class _Problem:
    """One law on the chosen rows, for several discrepancies at once."""

    candidate: Candidate
    evaluate: Evaluate
    rows: np.ndarray
    log_loss: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """The prior mean [P], moved to the losses' size."""
        return self.candidate.mean + self.candidate.unit * self.log_loss.mean()

    def state(self, theta: np.ndarray, whitening: np.ndarray) -> _State:
        """Minus log posterior (sigma maximised) and its derivatives at theta [S, P], each with its
        matrix of `whitening` [S, n, n]."""
        value, slope = self.evaluate(theta)
        residual = value[:, self.rows] - self.log_loss
        residual = np.where(np.isfinite(residual), residual, 1e3)
        whitened = (whitening @ residual[..., None])[..., 0]
        jacobian = whitening @ np.where(np.isfinite(slope), slope, 0)[:, self.rows]
        across, sd = jacobian.transpose(0, 2, 1), self.candidate.sd
        pull = (theta - self.centre) / sd
        squares = NOISE_COUNT * NOISE**2 + (whitened**2).sum(1)
        count = NOISE_COUNT + len(self.rows)
        objective = 0.5 * count * np.log(squares) + 0.5 * (pull**2).sum(1)
        noise = squares / count
        gradient = (across @ whitened[..., None])[..., 0] / noise[:, None] + pull / sd
        hessian = across @ jacobian / noise[:, None, None] + np.diag(1 / sd**2)
        return _State(value, slope, whitened, noise, objective, gradient, hessian)

    def fit(
        self, theta: np.ndarray, whitening: np.ndarray, steps: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """From theta [S, P] to where the posterior is highest; returns theta and objective [S]."""
        theta, state = descend(
            lambda *problems: self.state(*problems)[-3:],
            gauss_newton(3 * self.candidate.sd),
            theta,
            (whitening,),
            tolerance=lambda _: TOLERANCE,
            max_steps=steps,
            damping=1e-2,
            growth=5.0,
        )
        return theta, state[0]

    def evidence(self, state: _State) -> np.ndarray:
        """Laplace's log evidence [S], up to the discrepancy's determinant and what laws share."""
        spread = np.linalg.slogdet(state.hessian)[1] + 2 * np.log(self.candidate.sd).sum()
        return -state.objective - 0.5 * spread

    def predict(
        self, evidence: float, state: _State, k: int, whitening: np.ndarray, kernel: np.ndarray
    ) -> _Part:
        """The belief at every row by problem `k` of `state`."""
        rows, noise = self.rows, float(state.noise[k])
        cross = whitening @ kernel[rows]
        slope = np.nan_to_num(state.slope[k])
        mean = state.value[k] - cross.T @ state.whitened[k]
        left = slope - cross.T @ (whitening @ slope[rows])
        covariance = noise * (kernel - cross.T @ cross)
        covariance += left @ np.linalg.solve(state.hessian[k], left.T)
        return _Part(self.candidate.name, float(evidence), mean, covariance, noise)
