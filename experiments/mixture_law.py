"""Can the loss of a mixture be predicted at a ratio and a size that were not run?

Question: of networks trained on Python and C++ source in seven ratios, what does each domain cost
as a function of its share; and does a law fitted on four small rungs predict it at two other ratios
and at a larger network?
Cost: 1.9e13 FLOPs in 46 trials, about 7 minutes on two cores.
Expected by the literature: the loss of a domain is c + k exp(t r) in the share r of the domain
itself, at one size and horizon (Ye et al. 2024, equation 7), and nested with laws of steps and of
sizes it predicts the losses, and the best ratio, of a larger run. Here c and k fall with the same
power of compute along the ladder: LAW, which at one compute is theirs. Code helps code: without any
C++ its loss is far below that of a network that learned nothing.

    python -m research fit mixture_law.csv --law mixture:2 --loss loss --column r_1=share \\
        --where "domain == 'cpp_headers' and size == 48"
    python -m research fit mixture_law.csv --law experiments/mixture_law.py --flops flops \\
        --loss loss --column r=share --where "domain == 'cpp_headers' and size < 64" --out laws.json
    python -m research predict laws.json --law experiments/mixture_law.py --table mixture_law.csv \\
        --where "domain == 'cpp_headers' and size == 64"
"""

from ml_collections import ConfigDict

from research import defaults
from research.scaling.laws import Law, Parameter
from research.scaling.laws.numerics import numerics

DOMAINS = ("python_stdlib", "cpp_headers")
PARTS = {
    "text": {
        "title": "Mixtures of Python and C++ source",
        "family": "autoregressive",
        "data": "mixture",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
}
SHARES = (0.0, 0.125, 0.25, 0.5, 0.75, 0.875, 1.0)  # of Python
RUNGS = ((16, 400), (24, 600), (32, 900), (48, 1350))  # width and steps: three times the FLOPs each
FARTHER, BETWEEN = (64, 2000), (0.35, 0.65)  # what is predicted: rung and shares
SEEDS = {16: (0, 1), 24: (0, 1), 64: (0, 1)}  # by width; one elsewhere


def _loss(p, v):
    xp = numerics(p, v)
    return p["E"] + xp.exp(-p["alpha"] * xp.log(v["C"])) * (
        p["A"] + p["B"] * xp.exp(p["t"] * v["r"])
    )


LAW = Law(
    name="mixture_of_compute",
    formula="L(C, r) = E + C^-alpha (A + B exp(t r))",
    source="Ye 2024, equation 7, whose c and k fall with compute",
    parameters=(
        Parameter("E", "floor", "loss"),
        Parameter("A", "coefficient", "loss * FLOPs^alpha"),
        Parameter("B", "coefficient", "loss * FLOPs^alpha"),
        Parameter("alpha", "exponent", "1", 1e-3, 4.0, (0.05, 0.1, 0.2, 0.4)),
        Parameter("t", "exponent", "1 / share", -50.0, 50.0, (-20.0, -8.0, -3.0, -1.0, 1.0)),
    ),
    variables=("C", "r"),
    minimum_rows=8,
    function=_loss,
)


def get_config(part: str) -> ConfigDict:
    """One run of the ladder, scored on as much of each domain whatever it was trained on."""
    config = defaults.config(PARTS[part]["family"], PARTS[part]["data"])
    config.part, config.sampling.num = part, 0
    config.data.sources, config.data.validation_weights = DOMAINS, (0.5, 0.5)
    config.evaluation.evaluators = ("validation", "by_source")
    return config


def get_trials(part: str) -> list[dict]:
    """Every ratio at the small rungs, and the two others at the farther one."""
    small = [(rung, share) for share in SHARES for rung in RUNGS]
    return [
        {"size": size, "train.steps": steps, "data.weights": (share, 1 - share), "seed": seed}
        for (size, steps), share in [*small, *((FARTHER, share) for share in BETWEEN)]
        for seed in SEEDS.get(size, (0,))
    ]
