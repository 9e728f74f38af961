"""The laws `next` averages: each with a weak prior, its log loss and derivatives for many thetas.

A prior is what makes a law of eight parameters usable after three runs. It is stated where
anyone's runs can be compared: the size of a term at the centre of the table (pool and target), as
a share of the loss, and exponents as the literature reports them.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from research.errors import UserError
from research.scaling import laws
from research.scaling.laws import Law, Parameter

# Loss falls with these, always; of other variables the sign is learned.
FALLING = ("N", "D", "U", "C")
# Prior mean and standard deviation of logs: the floor's and a term's share of the loss, an exponent
# (Kaplan 2020 to Hoffmann 2022 and Li 2025: 0.05 to 0.5).
FLOOR = (np.log(0.6), 0.7)
TERM = (np.log(0.2), 1.2)
SMALL_TERM = (np.log(0.03), 1.5)
EXPONENT = (np.log(0.3), 0.4)
OTHER_EXPONENT = (0.15, 0.25)  # of a variable whose sign is not known, itself
INTERACTION = (0.0, 0.5)
# Repeats after which more of them do no more harm, over those of the feature's centre.
SATURATION = (2.0, 1.5)
SMALLEST_LOG = -40.0
LARGEST_LOG = 40.0

Columns = Mapping[str, np.ndarray]
Evaluate = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Candidate:
    """A law to fit: normal prior `mean`, `sd` [P] in its coordinates; `unit` [P] is 1 where the
    coordinate is the log of a loss, so that the prior moves with the losses' size.

    `make(columns, centre)` gives theta [S, P] -> (log loss [S, rows], derivative [S, rows, P]);
    `centre` holds the mean log of each variable, where sizes of terms are stated.
    """

    name: str
    formula: str
    mean: np.ndarray
    sd: np.ndarray
    unit: np.ndarray
    make: Callable[[Columns, Mapping[str, float]], Evaluate]


@dataclass(frozen=True)
class Power:
    """`feature^(sign * exponent)` in a term; a `positive` exponent is fitted in its log.

    With `saturation`, the prior of log S, it is a power of `S (1 - exp(-feature / S))` instead.
    """

    feature: str
    prior: tuple[float, float]
    positive: bool = False
    sign: float = -1.0
    saturation: tuple[float, float] | None = None

    @property
    def priors(self) -> list[tuple[float, float]]:
        """Mean and standard deviation of each of its coordinates."""
        return [self.prior, *([self.saturation] if self.saturation else [])]

    def log(
        self, logs: Mapping[str, np.ndarray], theta: np.ndarray, place: int
    ) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
        """Its log [S, rows] for theta [S, P] and its derivatives, by place in theta."""
        exponent = theta[:, place, None]
        exponent = self.sign * (np.exp(exponent) if self.positive else exponent)
        feature = logs[self.feature][None]
        slopes = []
        if self.saturation:
            # Of S (1 - exp(-x / S)): the log, and its derivative by log S.
            log_scale = theta[:, place + 1, None]
            ratio = np.exp(np.clip(feature - log_scale, SMALLEST_LOG, LARGEST_LOG))
            decay = -np.expm1(-ratio)
            slopes = [(place + 1, exponent * (1 - ratio * (1 - decay) / decay))]
            feature = log_scale + np.log(decay)
        value = exponent * feature
        return value, [(place, value if self.positive else self.sign * feature), *slopes]


@dataclass(frozen=True)
class PriorTerm:
    """A term `share * prod powers`; `share` is the prior of its log size at the centre."""

    share: tuple[float, float]
    powers: tuple[Power, ...] = ()


def features(columns: Columns, centre: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Logs [rows] of the columns, centred; with N, D and U also repeats and N / U.

    `repeats` is log(D / U - 1), bounded below where nothing repeats.
    """
    logs = {name: np.log(np.asarray(columns[name], float)) for name in centre}
    result = {name: value - centre[name] for name, value in logs.items()}
    if {"N", "D", "U"} <= set(logs):
        repeats = np.expm1(np.maximum(logs["D"] - logs["U"], 0.0))
        # Repeats of 7 epochs, and one parameter for 3 unique tokens, are this term's centre.
        result["repeats"] = np.log(np.maximum(repeats, 1e-9)) - 2.0
        result["N/U"] = logs["N"] - logs["U"] + 1.0
    return result


def sum_candidate(name: str, formula: str, terms: Sequence[PriorTerm]) -> Candidate:
    """A sum of power terms, with derivatives in closed form."""
    mean, sd, unit = [], [], []
    places = []
    for term in terms:
        place = len(mean)
        priors = [term.share, *(prior for power in term.powers for prior in power.priors)]
        mean += [prior[0] for prior in priors]
        sd += [prior[1] for prior in priors]
        unit += [1.0] + [0.0] * (len(priors) - 1)
        places.append((place, term))

    def make(columns: Columns, centre: Mapping[str, float]) -> Evaluate:
        logs = features(columns, centre)
        return functools.partial(_sum_of_terms, tuple(places), logs)

    return Candidate(name, formula, np.array(mean), np.array(sd), np.array(unit), make)


def _sum_of_terms(places, logs, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = len(next(iter(logs.values())))
    values, slopes = [], []
    for place, term in places:
        value = np.repeat(theta[:, place, None], rows, 1)
        slope = [(place, np.ones((len(theta), rows)))]
        for power in term.powers:
            part, slopes_of_part = power.log(logs, theta, place + 1)
            value = value + part
            slope += slopes_of_part
            place += len(power.priors)
        values.append(np.clip(value, SMALLEST_LOG, LARGEST_LOG))
        slopes.append(slope)
    largest = np.max(values, 0)
    shares = [np.exp(value - largest) for value in values]
    total = np.sum(shares, 0)
    jacobian = np.zeros((*total.shape, theta.shape[1]))
    for share, slope in zip(shares, slopes, strict=True):
        for k, part in slope:
            jacobian[:, :, k] += share / total * part
    return largest + np.log(total), jacobian


def _falling(name: str) -> Power:
    return Power(name, EXPONENT, True) if name in FALLING else Power(name, OTHER_EXPONENT)


def _additive(names: Sequence[str]) -> list[PriorTerm]:
    return [PriorTerm(FLOOR), *(PriorTerm(TERM, (_falling(name),)) for name in names)]


def general(names: Sequence[str]) -> list[Candidate]:
    """Laws that exist for any variables: additive, additive with an interaction, product, and a
    quadratic of logs; with unique tokens also the overfitting law (Lovelace 2026), whose harm here
    ends growing after some repeats: what could be learned by heart has been."""
    found = [sum_candidate("additive", "E + sum_v A_v / v^a_v", _additive(names))]
    if len(names) > 1:
        mixed = PriorTerm(SMALL_TERM, tuple(Power(name, INTERACTION) for name in names))
        formula = "E + sum_v A_v / v^a_v + G prod_v v^g_v"
        found.append(sum_candidate("interaction", formula, [*_additive(names), mixed]))
        powers = tuple(Power(n, (0.2, 0.2) if n in FALLING else OTHER_EXPONENT) for n in names)
        formula = "E + A / prod_v v^a_v"
        terms = [PriorTerm(FLOOR), PriorTerm((np.log(0.4), 1.0), powers)]
        found.append(sum_candidate("product", formula, terms))
    found.append(_quadratic(names))
    if {"N", "D", "U"} <= set(names):
        repeats = Power("repeats", (1.0, 0.5), sign=1.0, saturation=SATURATION)
        penalty = (repeats, Power("N/U", (0.7, 0.5), sign=1.0))
        others = [name for name in names if name != "U"]
        terms = [*_additive(others), PriorTerm(SMALL_TERM, penalty)]
        formula = "E + A / N^a + B / D^b + P (1 - exp(-(D / U - 1) / S))^p (N / U)^q"
        found.append(sum_candidate("overfitting", formula, terms))
    return found


def _quadratic(names: Sequence[str]) -> Candidate:
    pairs = [(a, b) for i, a in enumerate(names) for b in names[: i + 1]]
    count = len(names)
    mean = np.array([0.0] + [-0.06] * count + [0.0] * len(pairs))
    sd = np.array([1.0] + [0.06] * count + [0.01] * len(pairs))

    def make(columns: Columns, centre: Mapping[str, float]) -> Evaluate:
        logs = features(columns, centre)
        rows = len(next(iter(logs.values())))
        parts = [np.ones(rows), *(logs[name] for name in names)]
        matrix = np.stack(parts + [logs[a] * logs[b] for a, b in pairs], -1)

        def evaluate(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return theta @ matrix.T, np.repeat(matrix[None], len(theta), 0)

        return evaluate

    unit = np.eye(len(mean))[0]
    return Candidate("quadratic", "log L = quadratic of the logs", mean, sd, unit, make)


BLOCK = 32  # thetas evaluated together by JAX: one shape, one compilation


def published(law: Law) -> Candidate:
    """A law of the laboratory with a prior made of its parameters' kinds, grids and bounds.

    The coordinate of a floor or coefficient is the log of its term at the centre of the table.
    """
    if law.terms:
        index = {parameter.name: parameter for parameter in law.parameters}
        terms = []
        for term in law.terms:
            floor = index[term.coefficient].kind == "floor"
            powers = tuple(_falling(variable) for _, variable in term.powers)
            terms.append(PriorTerm(FLOOR if floor else TERM, powers))
        return sum_candidate(law.name, law.formula, terms)
    priors = [_prior(parameter) for parameter in law.parameters]
    mean, sd = np.array(priors).T
    unit = np.array([float(_is_share(parameter)) for parameter in law.parameters])
    return Candidate(law.name, law.formula, mean, sd, unit, functools.partial(_autodiff, law))


def _is_share(parameter: Parameter) -> bool:
    return parameter.linear and parameter.logarithmic


def _prior(parameter: Parameter) -> tuple[float, float]:
    if _is_share(parameter):
        return FLOOR if parameter.kind == "floor" else TERM
    if parameter.within:
        raise UserError(f"--law: {parameter.name} depends on the table; `next` cannot fit this law")
    grid = np.array(parameter.grid or (1.0,))
    grid = np.log(grid) if parameter.logarithmic else grid
    smallest = 1.0 if parameter.logarithmic else 0.1
    return float(grid.mean()), float(max(1.5 * grid.std(), smallest))


def _autodiff(law: Law, columns: Columns, centre: Mapping[str, float]) -> Evaluate:
    import jax
    import jax.numpy as jnp

    given = {name: np.asarray(columns[name], float) for name in law.variables}
    middle = {name: np.exp([centre[name]]) for name in law.variables}
    function = law.function
    assert function is not None

    def parameters(theta):
        values = {}
        for i, parameter in enumerate(law.parameters):
            values[parameter.name] = jnp.exp(theta[i]) if parameter.logarithmic else theta[i]
        shares = [parameter.name for parameter in law.parameters if _is_share(parameter)]
        nothing = {**values, **{name: 1e-30 for name in shares}}
        for name in shares:
            at_centre = function({**nothing, name: 1.0}, middle)[0]
            values[name] = values[name] / at_centre
        return values

    def log_loss(theta):
        return jnp.log(function(parameters(theta), given))

    kernel = jax.vmap(lambda theta: (log_loss(theta), jax.jacfwd(log_loss)(theta)))
    low = np.array([p.low for p in law.parameters])
    high = np.array([p.high for p in law.parameters])
    logs = np.array([p.logarithmic for p in law.parameters])
    free = np.array([_is_share(p) for p in law.parameters])
    with np.errstate(divide="ignore"):
        low = np.where(free, -np.inf, np.where(logs, np.log(np.maximum(low, 0)), low))
        high = np.where(free, np.inf, np.where(logs, np.log(np.maximum(high, 0)), high))
    with jax.enable_x64():
        compiled = jax.jit(kernel)

    def evaluate(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inside = np.clip(theta, low, high)
        parts = []
        for start in range(0, len(theta), BLOCK):
            block = inside[start : start + BLOCK]
            padded = np.concatenate([block, np.repeat(block[:1], BLOCK - len(block), 0)])
            with jax.enable_x64():
                value, slope = compiled(padded)
            parts.append((np.asarray(value)[: len(block)], np.asarray(slope)[: len(block)]))
        value, slope = (np.concatenate(part) for part in zip(*parts, strict=True))
        # Past a bound the value stays; the prior alone pulls back.
        return value, slope * (theta == inside)[:, None, :]

    return evaluate


def candidates(name: str, variables: Sequence[str]) -> list[Candidate]:
    """The laws to average for `name`: every one that reads these variables (auto), or that one.

    Raises:
        UserError: no such law, one that predicts no loss, or one that reads other variables.
    """
    if name != "auto":
        chosen = {law.name: law for law in general(variables)}
        if name in chosen:
            return [chosen[name]]
        law = laws.get(name)
        missing = [v for v in law.variables if v not in variables]
        if law.target != "loss":
            raise UserError(f"--law {name}: predicts {law.target}, not the loss")
        if missing:
            raise UserError(
                f"--law {name}: needs {_list(missing)}, which no option gives"
                f" (given: {', '.join(variables)}); {_how(missing[0])}"
            )
        return [published(law)]
    found = general(variables)
    if {"N", "D"} <= set(variables) and len(variables) > 2:
        found.insert(0, published(laws.CHINCHILLA))
    if len(variables) == 1:
        return found  # of one variable the additive law is every published one's core
    for law in laws.LAWS.values():
        # Published laws of N and D alone are the additive one, or need far more runs than 20.
        if law.target == "loss" and set(law.variables) == set(variables) != {"N", "D"}:
            found.append(published(law))
    return found


def _list(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _how(name: str) -> str:
    option = {"N": "--params", "D": "--data", "U": "--unique"}.get(name)
    return f"name its column with {option or f'--column {name}=COLUMN'}"
