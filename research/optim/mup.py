"""The maximal-update parametrisation (Yang et al. 2022, table 3), relative to a base width.

Networks draw matrices with variance 1 / inputs. Hidden ones stay so; an output, whose variance is
to be 1 / inputs^2, shrinks further by the root of the width's ratio. Attention divides by the root
of the head's size: where heads grow in number, not in size, that is a constant factor of muP's.
Weight decay times rate is kept, so that weights forget as fast at every width; Adam's eps follows
the gradient, which shrinks with width before the head (Dey et al. 2025, table 1).
"""

from research.optim.parametrization import Scales, Weight

NEEDS = ("width",)


def scales(weight: Weight) -> Scales:
    m, grows = weight.width, weight.role in ("hidden", "output")
    rate = {
        "element": 1 / m if grows else 1.0,
        "orthogonal": m**-0.5,
        "spectral": 1.0,
        "angle": 1.0,
        "gradient": {"input": m, "scalar": m, "hidden": 1.0, "output": 1 / m}[weight.role],
    }[weight.step]
    return Scales(
        init=m**-0.5 if weight.role == "output" else 1.0,
        rate=rate,
        decay=1 / rate,
        eps=1.0 if weight.role == "output" else 1 / m,
    )
