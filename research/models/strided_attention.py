"""Block-sparse attention: near neighbours, and every so many one column (Child et al. 2019, eq. 5).

Of positions further back than `stride` only those at the end of a block of `stride` are seen, which
gather what their block holds. Tiled kernels leave out what no query of a tile sees.
"""

from typing import Any

from ml_collections import ConfigDict

from research.errors import UserError


def default_model() -> dict[str, Any]:
    """Its keys of `config.model`."""
    return dict(stride=16, columns=1)  # of each block, how many at its end all may see


def check(config: ConfigDict) -> None:
    """Raise UserError for blocks that cannot be."""
    stride, columns = config.model.stride, config.model.columns
    if stride < 1:
        raise UserError(f"config.model.stride={stride} must be at least 1")
    if not 1 <= columns <= stride:
        raise UserError(
            f"config.model.columns={columns} must be from 1 to config.model.stride={stride}"
        )


def sees(model: Any, query: Any, key: Any) -> Any:
    """Keys fewer than `stride` away, and the columns."""
    return (abs(query - key) < model.stride) | (key % model.stride >= model.stride - model.columns)
