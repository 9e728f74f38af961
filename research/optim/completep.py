"""CompleteP (Dey et al. 2025, table 1, alpha = 1): muP in width, and branches that add 1 / depth.

The factor 1 / depth of a branch is in the weights that write it: they begin smaller, where networks
already draw them with 1 / sqrt(depth), and move less. So their eps, too, is that of muP: a weight
L times smaller has a gradient L times larger.
"""

from research.optim import mup
from research.optim.parametrization import Scales, Weight

NEEDS = ("width", "depth")


def scales(weight: Weight) -> Scales:
    found, depth = mup.scales(weight), weight.depth
    if not weight.residual:
        return found._replace(eps=found.eps / depth) if weight.role == "hidden" else found
    slower = depth**-2 if weight.step == "gradient" else 1 / depth
    return found._replace(
        init=found.init * depth**-0.5, rate=found.rate * slower, decay=found.decay / slower
    )
