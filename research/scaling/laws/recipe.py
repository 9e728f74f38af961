"""What to train with: learning rate and batch (Li 2025), and the best size at a compute budget.

Their coefficients are "scales": in logs these laws are linear, and one step from anywhere will do.
"""

from research.scaling.laws.law import Law, Parameter
from research.scaling.laws.numerics import numerics


def _learning_rate(p, v):
    xp = numerics(p, v)
    power = p["p"] * xp.log(v["N"]) + p["q"] * xp.log(v["D"])
    return p["c"] * xp.exp(power)


STEP_LEARNING_RATE = Law(
    name="step_learning_rate",
    formula="learning rate = c N^p D^q",
    source="Li 2025, step law (N without embeddings, D in tokens)",
    parameters=(
        Parameter("c", "scale", "learning rate / (parameters^p data^q)", 1e-40, 1e40, (1.0,)),
        Parameter("p", "exponent", "1", -3.0, 3.0, (-0.5,)),
        Parameter("q", "exponent", "1", -3.0, 3.0, (0.3,)),
    ),
    variables=("N", "D"),
    minimum_rows=5,
    function=_learning_rate,
    target="learning rate",
)


def _batch(p, v):
    xp = numerics(p, v)
    return p["c"] * xp.exp(p["q"] * xp.log(v["D"]))


STEP_BATCH = Law(
    name="step_batch",
    formula="batch = c D^q",
    source="Li 2025, step law (batch and D in tokens)",
    parameters=(
        Parameter("c", "scale", "batch / data^q", 1e-40, 1e40, (1.0,)),
        Parameter("q", "exponent", "1", -3.0, 3.0, (0.5,)),
    ),
    variables=("D",),
    minimum_rows=3,
    function=_batch,
    target="batch size",
)


def _allocation(p, v):
    xp = numerics(p, v)
    return p["k"] * xp.exp(p["a"] * xp.log(v["C"]))


ALLOCATION = Law(
    name="allocation",
    formula="N*(C) = k C^a, or D*, or any other best choice",
    source="Kaplan 2020, equation 1.7; Hoffmann 2022, equation 4",
    parameters=(
        Parameter("k", "scale", "choice / FLOPs^a", 1e-40, 1e40, (1.0,)),
        Parameter("a", "exponent", "1", -3.0, 3.0, (0.5,)),
    ),
    variables=("C",),
    minimum_rows=3,
    function=_allocation,
    target="best choice",
)

RECIPE_LAWS = (STEP_LEARNING_RATE, STEP_BATCH, ALLOCATION)
