"""Diffusion transformers: the published size, data and loss laws, held against each other.

Question: are the three printed power laws of DiT one law, and does our object say what they print,
so that it may be drawn beside our own diffusion runs?
Paper: Liang, He, Yang, Dai 2024, "Scaling Laws for Diffusion Transformers", 1e17 to 6e18 FLOPs,
extrapolated to 1.5e21.
Data: none; `LAWS` are PUBLISHED["liang2024..."], C in FLOPs, rectified-flow loss.
Cost: under a second.
Expected: every line passes. N_opt D_opt is C / 6 within the digits printed, and N_opt at 1.5e21
FLOPs is the billion parameters the authors trained.
"""

from pathlib import Path

from research.scaling.laws.published import PUBLISHED
from research.scaling.reproduce import Line, close, inside

DATA = None
LEARNED = """
Size and data laws multiply to C = 6ND, so one is the other's check; 0.0009 has one digit, which
leaves N_opt 6% uncertain before any noise. N_opt ~ C^0.57 asks for more size than text does (0.50).
The loss law has no floor: it may be drawn over its own range, not extrapolated to zero.
"""
# k and a of k C^a
PRINTED = {
    "liang2024_params": (0.0009, 0.5681),
    "liang2024_data": (186.85, 0.4319),
    "liang2024": (2.3943, -0.0273),
}
WORDS = {"liang2024_params": "N_opt", "liang2024_data": "D_opt", "liang2024": "loss"}
LAWS = {name: PUBLISHED[name] for name in PRINTED}
SMALLEST, LARGEST = 1e17, 6e18  # FLOPs that were fitted
TRAINED = (1.5e21, 1e9)  # FLOPs, parameters
HALF_DIGIT = 0.00005 / 0.0009  # what rounding leaves of 0.0009, relative


def reproduce(path: Path | None) -> list[Line]:
    """The printed laws, evaluated; the allocations against 6ND and against the size trained."""
    lines = []
    for name, (factor, exponent) in PRINTED.items():
        for flops in (SMALLEST, LARGEST):
            printed = factor * flops**exponent
            ours = float(LAWS[name].predict(C=flops))
            text = f"{WORDS[name]} at {flops:.2g} FLOPs"
            lines.append(close(text, printed, ours, 1e-12 * printed))
    flops, trained = TRAINED
    size, data = (float(LAWS[f"liang2024_{k}"].predict(C=flops)) for k in ("params", "data"))
    allowed = (1 - HALF_DIGIT, 1 + HALF_DIGIT)
    shares = sum(PRINTED[f"liang2024_{k}"][1] for k in ("params", "data"))
    return [
        *lines,
        close("exponents of N_opt and D_opt, sum", 1.0, shares, 1e-12),
        inside(f"6 N_opt D_opt / C at {flops:.2g} FLOPs", 1.0, 6 * size * data / flops, allowed),
        close(f"N_opt at {flops:.2g} FLOPs", trained, size, HALF_DIGIT * trained),
    ]
