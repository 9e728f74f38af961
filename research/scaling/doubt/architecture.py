"""FLOPs counted again from the architecture, where a table tells it (check 2).

A token passes 24 width^2 FLOPs a layer forwards (attention 8, a feed-forward of ratio 4 sixteen),
4 length width of attention scores, and 2 width vocabulary in the head; backwards it costs twice
that (Kaplan 2020, table 1; Porian 2024, section 3.1). Papers differ in which of these they count.
"""

import numpy as np

from research.scaling.table import Table

NAMES = {
    "width": ("width", "d_model", "hidden_size", "hidden_dim", "n_embd", "model_dim", "embed_dim"),
    "depth": ("depth", "num_layers", "n_layers", "n_layer", "layers", "num_hidden_layers"),
    "feed-forward": ("d_ff", "ffn_dim", "intermediate_size", "ffw_size", "mlp_dim", "hidden_mlp"),
    "vocabulary": ("vocab_size", "vocab", "vocabulary", "n_vocab", "padded_vocab_size"),
    "length": ("seq_len", "sequence_length", "seq_length", "context_length", "max_length", "n_ctx"),
}


def counted_flops(table: Table) -> dict[str, np.ndarray]:
    """Training FLOPs [rows] by each convention that the table's columns allow.

    Keys say what is counted beside the layers: "layers alone", "layers and head", and so on. There
    are none without width and depth, or where experts share out the tokens.
    """
    if any("experts" in str(column).lower() for column in table.frame.columns):
        return {}
    found = {what: _column(table, names) for what, names in NAMES.items()}
    width, depth = found["width"], found["depth"]
    if width is None or depth is None:
        return {}
    hidden = found["feed-forward"] if found["feed-forward"] is not None else 4 * width
    layers = depth * (8 * width**2 + 4 * width * hidden)
    extra = {}
    if found["vocabulary"] is not None:
        extra["head"] = 2 * width * found["vocabulary"]
    if found["length"] is not None:
        extra["attention scores"] = 4 * depth * width * found["length"]
    tokens = 3 * table["D"]
    counted = {"layers alone": tokens * layers}
    for name, flops in extra.items():
        counted[f"layers and {name}"] = tokens * (layers + flops)
    if len(extra) == 2:
        counted["layers, head and attention scores"] = tokens * (layers + sum(extra.values()))
    return counted


def _column(table: Table, names: tuple[str, ...]) -> np.ndarray | None:
    lowered = {str(column).lower().replace(" ", "_"): column for column in table.frame.columns}
    for name in names:
        values = table.numbers(lowered[name]) if name in lowered else None
        if values is not None and (values > 0).all():
            return values
    return None
