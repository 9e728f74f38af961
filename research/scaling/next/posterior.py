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
    whitening = _Whitening(space, index)
    ratios = np.array([ratio for ratio, _ in DISCREPANCIES])
    parts, thetas = [], {}
    for candidate, evaluate in zip(space.candidates, space.evaluate, strict=True):
        problem = _Problem(candidate, evaluate, index, log_loss, whitening)
        known = None if previous is None else previous.thetas.get(candidate.name)
        if thorough or known is None:
            theta = _search(problem, known, seed)
        else:
            theta = problem.fit(known, DISCREPANCIES, 3)[0]
        thetas[candidate.name] = theta
        state = problem.state(theta, whitening.stack(DISCREPANCIES))
        evidence = problem.evidence(state)
        for k, (_, length) in enumerate(DISCREPANCIES):
            kernel = ratios[k] ** 2 * space.kernels[length]
            parts.append((evidence[k], problem, state, k, kernel))
    best = max(part[0] for part in parts)
    parts = sorted(parts, key=lambda part: -part[0])[:KEPT]
    kept = [part for part in parts if part[0] > best - NEGLIGIBLE]
    return _average([_predict(*part) for part in kept], thetas)


def _search(problem: "_Problem", known: np.ndarray | None, seed: int) -> np.ndarray:
    """The best theta [combinations, P] from draws of the prior, and from `known`."""
    candidate = problem.candidate
    generator = np.random.default_rng(seed)
    draws = generator.standard_normal((STARTS, len(candidate.mean)))
    draws[0] = 0
    starts = problem.centre + candidate.sd * draws
    theta, objective = problem.fit(starts, (START,) * len(starts), 20)
    first = np.repeat(theta[objective.argmin()][None], len(DISCREPANCIES), 0)
    theta, objective = problem.fit(first, DISCREPANCIES, 15)
    if known is not None:
        other, value = problem.fit(known, DISCREPANCIES, 15)
        theta = np.where((value < objective)[:, None], other, theta)
    return theta


@dataclass(frozen=True)
class _Part:
    name: str
    evidence: float
    mean: np.ndarray
    covariance: np.ndarray
    noise: float


def _average(parts: list[_Part], thetas: Mapping[str, np.ndarray]) -> Posterior:
    evidence = np.array([part.evidence for part in parts])
    shares = np.exp(TEMPER * (evidence - evidence.max()))
    shares /= shares.sum()
    means = np.stack([part.mean for part in parts])
    mean = shares @ means
    covariance = np.zeros((len(mean), len(mean)))
    for share, part in zip(shares, parts, strict=True):
        apart = part.mean - mean
        covariance += share * (part.covariance + apart[:, None] * apart)
    weights: dict[str, float] = {}
    for share, part in zip(shares, parts, strict=True):
        weights[part.name] = weights.get(part.name, 0.0) + float(share)
    noise = float(sum(share * part.noise for share, part in zip(shares, parts, strict=True)))
    spreads = np.stack(
        [np.sqrt(np.maximum(np.diag(part.covariance), 0) + part.noise) for part in parts]
    )
    return Posterior(mean, covariance, noise, weights, shares, means, spreads, thetas)


class _Whitening:
    """Takes vectors over the chosen rows to where `1 + ratio^2 k` is the identity."""

    def __init__(self, space: Space, rows: np.ndarray):
        grid = np.ix_(rows, rows)
        self.parts = {
            length: np.linalg.eigh(kernel[grid]) for length, kernel in space.kernels.items()
        }

    def variances(self, discrepancy: tuple[float, float]) -> np.ndarray:
        """Eigenvalues [n] of `1 + ratio^2 k`."""
        ratio, length = discrepancy
        return 1 + ratio**2 * np.maximum(self.parts[length][0], 0)

    def matrix(self, discrepancy: tuple[float, float]) -> np.ndarray:
        """The whitening matrix [n, n]."""
        return self.parts[discrepancy[1]][1].T / np.sqrt(self.variances(discrepancy))[:, None]

    def stack(self, discrepancies: Sequence[tuple[float, float]]) -> np.ndarray:
        """One matrix for each of `discrepancies` [S, n, n]."""
        known = {found: self.matrix(found) for found in set(discrepancies)}
        return np.stack([known[found] for found in discrepancies])


@dataclass(frozen=True)
class _State:
    """Everything at some theta; `jacobian` and the `whitened` residuals are of the chosen rows,
    `pull` is the distance from the prior mean in standard deviations."""

    value: np.ndarray
    slope: np.ndarray
    jacobian: np.ndarray
    whitened: np.ndarray
    pull: np.ndarray
    noise: np.ndarray
    objective: np.ndarray
    hessian: np.ndarray


@dataclass(frozen=True)
class _Problem:
    """One law on the chosen rows, for several discrepancies at once."""

    candidate: Candidate
    evaluate: Evaluate
    rows: np.ndarray
    log_loss: np.ndarray
    whitening: _Whitening

    @property
    def centre(self) -> np.ndarray:
        """The prior mean [P], moved to the losses' size."""
        return self.candidate.mean + self.candidate.unit * self.log_loss.mean()

    def state(self, theta: np.ndarray, stack: np.ndarray) -> _State:
        """Objective (minus log posterior, sigma maximised), gradient parts, Hessian at theta
        [S, P], each with its matrix of the whitening's `stack` [S, n, n]."""
        value, slope = self.evaluate(theta)
        residual = value[:, self.rows] - self.log_loss
        residual = np.where(np.isfinite(residual), residual, 1e3)
        whitened = (stack @ residual[..., None])[..., 0]
        jacobian = stack @ np.where(np.isfinite(slope), slope, 0)[:, self.rows]
        pull = (theta - self.centre) / self.candidate.sd
        squares = NOISE_COUNT * NOISE**2 + (whitened**2).sum(1)
        count = NOISE_COUNT + len(self.rows)
        objective = 0.5 * count * np.log(squares) + 0.5 * (pull**2).sum(1)
        noise = squares / count
        hessian = jacobian.transpose(0, 2, 1) @ jacobian / noise[:, None, None]
        hessian += np.diag(1 / self.candidate.sd**2)
        return _State(value, slope, jacobian, whitened, pull, noise, objective, hessian)

    def fit(
        self, theta: np.ndarray, discrepancies: Sequence, steps: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """From theta [S, P] to where the posterior is highest; returns theta and objective [S]."""

        def evaluate(theta, stack):
            now = self.state(theta, stack)
            across = now.jacobian.transpose(0, 2, 1)
            gradient = (across @ now.whitened[..., None])[..., 0] / now.noise[:, None]
            return now.objective, gradient + now.pull / self.candidate.sd, now.hessian

        theta, state = descend(
            evaluate,
            gauss_newton(3 * self.candidate.sd),
            theta,
            (self.whitening.stack(discrepancies),),
            tolerance=lambda _: TOLERANCE,
            max_steps=steps,
            damping=1e-2,
            growth=5.0,
        )
        return theta, state[0]

    def evidence(self, state: _State) -> np.ndarray:
        """Laplace's log evidence [S], up to what all laws share."""
        spread = np.linalg.slogdet(state.hessian)[1] + 2 * np.log(self.candidate.sd).sum()
        kernel = [np.log(self.whitening.variances(found)).sum() for found in DISCREPANCIES]
        return -state.objective - 0.5 * spread - 0.5 * np.array(kernel)


def _predict(evidence, problem: _Problem, state: _State, k: int, kernel: np.ndarray) -> _Part:
    """The normal belief of one combination at every row."""
    rows, noise = problem.rows, float(state.noise[k])
    matrix = problem.whitening.matrix(DISCREPANCIES[k])
    cross = matrix @ kernel[rows]
    slope = np.nan_to_num(state.slope[k])
    mean = state.value[k] - cross.T @ state.whitened[k]
    left = slope - cross.T @ (matrix @ slope[rows])
    covariance = noise * (kernel - cross.T @ cross)
    covariance += left @ np.linalg.solve(state.hessian[k], left.T)
    return _Part(problem.candidate.name, float(evidence), mean, covariance, noise)
