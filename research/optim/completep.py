"""CompleteP (Dey et al. 2025, table 1, alpha = 1): muP in width, and branches that add 1 / depth.

The factor 1 / depth of a branch is in the weights that write it: they begin smaller, where networks
already draw them with 1 / sqrt(depth), and move less. Other weights of a layer have gradients that
are 1 / depth as large, which Adam's eps follows and the rate of steps as large as the gradient has
to make up for; those of what writes the stream are as large at every depth.
"""

from research.optim import mup
from research.optim.parametrization import Scales, Weight

NEEDS = ("width", "depth")


def scales(weight: Weight) -> Scales:
    found, depth = mup.scales(weight), weight.depth
    if not weight.layered:
        return found
    if weight.residual:
        found = found._replace(init=found.init * depth**-0.5)
        return found if weight.step == "angle" else found.times(1 / depth)
    if weight.step == "gradient":
        return found.times(depth)
    return found._replace(eps=found.eps / depth)
