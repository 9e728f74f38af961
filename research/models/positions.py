"""How a network knows where a position stands: the table of what ships.

A part of it has any of

    embed(module, model, at) -> [..., D] that the network adds to its input, `at` int [...]
    turn(model, x, at) -> x [..., L, K] of queries or keys, turned by their positions [L] or
        [B, 1, L]; None is 0, 1, 2, ...
    bias(model, query, key, head) -> what is added to the scores of heads `head`, given positions

The two last ones are of each attention, so a pattern of layers may mix them: "positions=none" in
every fourth layer is a hybrid that holds at greater lengths (Yang et al. 2025, arXiv 2501.18795).
"""

from types import ModuleType
from typing import Any

from research import parts

POSITIONS = {
    "rotary": "research.models.rotary",
    "axial_rotary": "research.models.axial_rotary",
    "alibi": "research.models.alibi",
    "learned": "research.models.learned_positions",
    "sinusoidal": "research.models.sinusoidal_positions",
    "none": "research.models.no_positions",
}


def load(model: Any) -> ModuleType:
    """The part that `model` names."""
    return parts.load("model.positions", model.positions, POSITIONS)
