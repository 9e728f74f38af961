"""The spectral condition (Yang, Simon & Bernstein 2023, condition 1), without a base.

A matrix and its steps have a spectral norm of about sqrt(outputs / inputs), so that entries of
activations and of their changes are of order 1 at every width. A matrix drawn with variance v has
about sqrt(v) (sqrt(inputs) + sqrt(outputs)); steps whose elements are of order 1 add up to
sqrt(inputs outputs). The inputs of a table are one of its rows, whatever their number.
"""

from research.optim.parametrization import Scales, Weight

NEEDS = ()


def scales(weight: Weight) -> Scales:
    if weight.role in ("input", "scalar"):
        return Scales().times(weight.outputs if weight.step == "gradient" else 1.0)
    inputs, outputs = weight.inputs, weight.outputs
    rate = {
        "element": 1 / inputs,
        "orthogonal": (outputs / inputs / max(inputs, outputs)) ** 0.5,
        "spectral": 1.0,
        "angle": 1.0,
        "gradient": outputs / inputs,
    }[weight.step]
    return Scales(init=min(1.0, (outputs / inputs) ** 0.5)).times(rate)
