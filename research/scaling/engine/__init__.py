"""The optimiser: a law on a table, every start and every bootstrap draw at once."""

from research.scaling.engine.newton import (
    Minimum,
    minimise,
    minimise_draws,
    minimise_from_afar,
    objectives,
)

__all__ = ["Minimum", "minimise", "minimise_draws", "minimise_from_afar", "objectives"]
