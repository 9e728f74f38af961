"""The laws `next` averages: each with a weak prior, its log loss and derivatives for many thetas.

A prior is what makes a law of eight parameters usable after three runs. It is stated where
anyone's runs can be compared: the size of a term at the centre of the table (pool and target), as
a share of the loss, and exponents as the literature reports them.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from research.errors import UserError
from research.scaling import laws
from research.scaling.engine.design import make_design
from research.scaling.laws import Law, Parameter, Term
from research.scaling.laws.law import Array
from research.scaling.laws.numerics import numerics

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

Prior = tuple[float, float]  # mean and standard deviation
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


def candidate(law: Law, priors: Sequence[tuple[float, float]]) -> Candidate:
    """`law` with a prior for each of its parameters, in its order.

    The coordinate of a floor or coefficient is the log of its term at the centre of the table. The
    others are the engine's, but for the `_positive` exponents, which are fitted in their logs.
    """
    mean, sd = np.array(priors).T
    unit = np.array([float(_is_share(parameter)) for parameter in law.parameters])
    make = _sum_of_powers if law.terms else _function
    return Candidate(law.name, law.formula, mean, sd, unit, functools.partial(make, law))


def _is_share(parameter: Parameter) -> bool:
    return parameter.linear and parameter.logarithmic


def _sum_of_powers(law: Law, columns: Columns, centre: Mapping[str, float]) -> Evaluate:
    design = make_design(law, columns, centre)
    logs = np.isin(law.names, [name for name, _ in _positive(law)])

    def evaluate(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(all="ignore"):
            plain = np.where(logs, np.exp(theta), theta)
            slope = design.jacobian(plain) * np.where(logs, plain, 1.0)[:, None]
            return design.predict(plain), slope

    return evaluate


def _positive(law: Law) -> list[tuple[str, str]]:
    """(exponent, variable) of every power by which loss falls, whatever the runs."""
    low = {parameter.name: parameter.low for parameter in law.parameters}
    return [(a, v) for term in law.terms for a, v in term.powers if v in FALLING and low[a] > 0]


def _at_centre(law: Law, parameters: Mapping, variables: Mapping) -> Array:
    """`law` of the sizes of its terms where the first row is, in place of their coefficients."""
    assert law.function is not None
    shares = [parameter.name for parameter in law.parameters if _is_share(parameter)]
    nothing = {**parameters, **dict.fromkeys(shares, 1e-30)}
    centre = {name: value[:1] for name, value in variables.items()}
    scaled = {
        name: parameters[name] / law.function({**nothing, name: 1.0}, centre) for name in shares
    }
    return law.function({**parameters, **scaled}, variables)


@functools.cache  # one law, one compilation
def _centred(law: Law) -> Law:
    return replace(law, function=functools.partial(_at_centre, law))


def _function(law: Law, columns: Columns, centre: Mapping[str, float]) -> Evaluate:
    given = {name: np.append(np.exp(centre[name]), columns[name]) for name in law.variables}
    design = make_design(_centred(law), given)
    free = np.array([_is_share(parameter) for parameter in law.parameters])
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = design.to_theta(np.array([(p.low, p.high) for p in law.parameters]).T)
    low, high = np.where(free, -np.inf, ends[0]), np.where(free, np.inf, ends[1])

    def evaluate(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inside = np.clip(theta, low, high)
        value, slope = design.predict(inside), design.jacobian(inside)
        # Past a bound the value stays; the prior alone pulls back.
        return value[:, 1:], slope[:, 1:] * (theta == inside)[:, None]

    return evaluate


def _sum(name: str, formula: str, terms: Sequence[tuple[Prior, dict[str, Prior]]]) -> Candidate:
    """A floor and `terms`, each the prior of its size and those of its variables' exponents."""
    parameters, priors, parts = [Parameter("E", "floor", "loss")], [FLOOR], [Term("E")]
    for k, (share, powers) in enumerate(terms):
        exponents = {variable: f"a_{k}_{variable}" for variable in powers}
        parameters.append(Parameter(f"A_{k}", "coefficient", "loss"))
        for variable, prior in powers.items():
            low = 1e-3 if prior is EXPONENT else -np.inf
            parameters.append(Parameter(exponents[variable], "exponent", "1", low))
        priors += [share, *powers.values()]
        parts.append(Term(f"A_{k}", tuple((exponents[v], v) for v in powers)))
    variables = tuple(dict.fromkeys(v for _, powers in terms for v in powers))
    law = Law(name, formula, "", tuple(parameters), variables, 1, terms=tuple(parts))
    return candidate(law, priors)


def _exponent(name: str) -> Prior:
    return EXPONENT if name in FALLING else OTHER_EXPONENT


def general(names: Sequence[str]) -> list[Candidate]:
    """Laws that exist for any variables: additive, additive with an interaction, product, and a
    quadratic of logs; with unique tokens also the overfitting law."""
    additive = [(TERM, {name: _exponent(name)}) for name in names]
    found = [_sum("additive", "E + sum_v A_v / v^a_v", additive)]
    if len(names) > 1:
        mixed = (SMALL_TERM, dict.fromkeys(names, INTERACTION))
        formula = "E + sum_v A_v / v^a_v + G prod_v v^g_v"
        found.append(_sum("interaction", formula, [*additive, mixed]))
        powers = {n: (0.2, 0.2) if n in FALLING else OTHER_EXPONENT for n in names}
        product = [((np.log(0.4), 1.0), powers)]
        found.append(_sum("product", "E + A / prod_v v^a_v", product))
    found.append(_quadratic(names))
    if {"N", "D", "U"} <= set(names):
        found.append(_overfitting([name for name in names if name != "U"]))
    return found


def _overfitting(names: Sequence[str]) -> Candidate:
    """Harm by repeats (Lovelace 2026), which here ends growing after some: what could be learned by
    heart has been. Repeats of 7 epochs, and one parameter for 3 unique tokens, are its centre."""
    # Name, kind, prior, and whether it is the log of a loss.
    rows = [("E", "scale", FLOOR, 1.0)]
    for name in names:
        kind = "scale" if name in FALLING else "exponent"
        rows += [(f"A_{name}", "scale", TERM, 1.0), (f"a_{name}", kind, _exponent(name), 0.0)]
    rows += [("P", "scale", SMALL_TERM, 1.0), ("p", "exponent", (1.0, 0.5), 0.0)]
    rows += [("S", "scale", SATURATION, 0.0), ("q", "exponent", (0.7, 0.5), 0.0)]
    parameters = [
        Parameter(name, kind, "loss" if unit else "1", 0.0 if kind == "scale" else -np.inf)
        for name, kind, _, unit in rows
    ]
    law = Law(
        name="overfitting",
        formula="E + A / N^a + B / D^b + P (1 - exp(-(D / U - 1) / S))^p (N / U)^q",
        source="Lovelace 2026, with an end to the harm",
        parameters=tuple(parameters),
        variables=(*names, "U"),
        minimum_rows=1,
        function=functools.partial(_overfitted, tuple(names)),
    )
    found = candidate(law, [prior for _, _, prior, _ in rows])
    return replace(found, unit=np.array([unit for *_, unit in rows]))


def _overfitted(names: Sequence[str], parameters: Mapping, variables: Mapping) -> Array:
    """Loss; sizes of the other terms are where the first row is (see `_function`)."""
    xp, p = numerics(parameters, variables), parameters
    logs = {name: xp.log(value) for name, value in variables.items()}
    repeats = xp.maximum(xp.expm1(logs["D"] - logs["U"]), 1e-9) * np.exp(-2.0)
    saturated = -p["S"] * xp.expm1(-repeats / p["S"])
    harm = p["p"] * xp.log(saturated) + p["q"] * (logs["N"] - logs["U"] + 1.0)
    fall = sum(p[f"A_{n}"] * xp.exp(-p[f"a_{n}"] * (logs[n] - logs[n][:1])) for n in names)
    return p["E"] + fall + p["P"] * xp.exp(harm)


def _quadratic(names: Sequence[str]) -> Candidate:
    pairs = [(a, b) for i, a in enumerate(names) for b in names[: i + 1]]
    count = len(names)
    mean = np.array([0.0] + [-0.06] * count + [0.0] * len(pairs))
    sd = np.array([1.0] + [0.06] * count + [0.01] * len(pairs))

    def make(columns: Columns, centre: Mapping[str, float]) -> Evaluate:
        logs = {name: np.log(columns[name]) - centre[name] for name in names}
        rows = len(next(iter(logs.values())))
        parts = [np.ones(rows), *(logs[name] for name in names)]
        matrix = np.stack(parts + [logs[a] * logs[b] for a, b in pairs], -1)

        def evaluate(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return theta @ matrix.T, np.repeat(matrix[None], len(theta), 0)

        return evaluate

    unit = np.eye(len(mean))[0]
    return Candidate("quadratic", "log L = quadratic of the logs", mean, sd, unit, make)


def published(law: Law) -> Candidate:
    """A law of the laboratory with a prior made of its parameters' kinds, grids and bounds."""
    falling = dict(_positive(law))
    powers = {exponent for term in law.terms for exponent, _ in term.powers}
    return candidate(law, [_prior(p, p.name in falling, p.name in powers) for p in law.parameters])


def _prior(parameter: Parameter, falling: bool, power: bool) -> Prior:
    if _is_share(parameter):
        return FLOOR if parameter.kind == "floor" else TERM
    if power:
        return EXPONENT if falling else OTHER_EXPONENT
    if parameter.within:
        raise UserError(f"--law: {parameter.name} depends on the table; `next` cannot fit this law")
    grid = np.array(parameter.grid or (1.0,))
    grid = np.log(grid) if parameter.logarithmic else grid
    smallest = 1.0 if parameter.logarithmic else 0.1
    return float(grid.mean()), float(max(1.5 * grid.std(), smallest))


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
