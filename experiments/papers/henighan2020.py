"""Autoregressive image models: the compute laws printed in PF-days, as laws in FLOPs.

Question: what loss do image transformers reach with compute, and does our object say what the
paper prints, so that it may be drawn beside our own runs?
Paper: Henighan et al. 2020, "Scaling Laws for Autoregressive Generative Modeling", images of 8x8,
16x16 and 32x32 pixels.
Data: none; `LAWS` are PUBLISHED["henighan2020_..."], C in FLOPs, nats per image token.
Cost: under a second.
Expected: every line passes: each law at a thousandth, one and a thousand PF-days, and the compute
at which the reducible loss is one nat.
"""

from pathlib import Path

import numpy as np
from scipy.optimize import brentq

from research.scaling.laws.published import PUBLISHED, Published
from research.scaling.reproduce import Line, close

DATA = None
LEARNED = """
A slip of ten in the unit of compute shifts a curve sideways and looks like another law: constants
carry their unit. From 8x8 to 32x32 pixels the floor of a token falls from 3.13 to 2.21 nats and the
exponent from 0.19 to 0.10: larger images gain more slowly.
"""
PF_DAY_FLOPS = 1e15 * 24 * 60 * 60
# side: floor (nats), scale (PF-days), exponent: loss = floor + (C / scale)^-exponent
PRINTED = {8: (3.13, 1.8e-8, 0.19), 16: (2.64, 1.6e-8, 0.16), 32: (2.21, 3.6e-9, 0.10)}
LAWS = {side: PUBLISHED[f"henighan2020_{side}x{side}"] for side in PRINTED}


def reproduce(path: Path | None) -> list[Line]:
    """Four lines a resolution."""
    lines = []
    for side, (floor, scale, exponent) in PRINTED.items():
        law = LAWS[side]
        for days in (1e-3, 1.0, 1e3):
            printed = floor + (days / scale) ** -exponent
            ours = float(law.predict(C=days * PF_DAY_FLOPS))
            lines.append(close(f"{side}x{side}: loss at {days:g} PF-days", printed, ours, 1e-12))
        log_days = brentq(_above, -30.0, 0.0, args=(law, floor + 1), xtol=1e-13)
        name = f"{side}x{side}: PF-days to one nat above the floor"
        lines.append(close(name, scale, float(np.exp(log_days)), 1e-9 * scale))
    return lines


def _above(log_days: float, law: Published, loss: float) -> float:
    return float(law.predict(C=np.exp(log_days) * PF_DAY_FLOPS)) - loss
