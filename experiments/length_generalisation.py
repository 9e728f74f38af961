"""Which positions hold in windows longer than those of training?

Question: of networks trained on windows of 64 bytes, what does the same text cost in windows of 64
to 512, by octave of position: with rotary positions, as trained and scaled after training, ALiBi,
learned or sinusoidal vectors, no word of positions, and hybrids in which every fourth or every
second layer has none?
Cost: 1.9e13 FLOPs in 28 trials (trunks shared), about 8 minutes on two cores.
Expected by the literature: ALiBi costs no more in longer windows, while sinusoids and rotary
positions soon cost more beyond the trained length (Press et al. 2022, figure 1), where a learned
table has no vector. Without positions a causal network is as good within the window (Haviv et al.
2022) and breaks later than a rotary one (Kazemnejad et al. 2023, on small tasks); a hybrid holds
longer than rotary alone (Yang et al. 2025, arXiv 2501.18795). Rotary positions scaled by as much as
the window grew hold without training anew, YaRN best, then NTK, then linear (Peng et al. 2024).

    python -m research power length_generalisation.csv --loss loss --over length --over budget \
        --where "kind == 'window' and arm != 'learned'"
"""

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    "text": {
        "title": "Positions beyond the length of training, on Python source",
        "family": "autoregressive",
        "data": "python_stdlib",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
}
LENGTH, LENGTHS = 64, (64, 128, 256, 512)
SIZE, DEPTH = 48, 4  # layers, so that one in four can differ
BUDGETS, SEEDS = (3e11, 1.2e12), (0, 1)
ROTARY, NONE = "positions=rotary", "positions=none"
ARMS = {
    "rotary": {"evaluation.scalings": ("linear", "ntk", "yarn")},
    "alibi": {"model.positions": "alibi"},
    "sinusoidal": {"model.positions": "sinusoidal"},
    "none": {"model.positions": "none"},
    "none_in_four": {"model.pattern": (ROTARY, ROTARY, ROTARY, NONE)},
    "none_in_two": {"model.pattern": (ROTARY, NONE)},
    # Its table has no row beyond the window that was trained.
    "learned": {
        "model.positions": "learned",
        "model.max_length": LENGTH,
        "evaluation.lengths": (LENGTH,),
    },
}


def get_config(part: str) -> ConfigDict:
    """One run of the ladder, scored at every length.

    Without smear, which tells each position what stands before it: what tells the order of tokens
    is then the positions alone, or the causal mask.
    """
    config = defaults.config(PARTS[part]["family"], PARTS[part]["data"])
    config.part, config.sampling.num = part, 0
    config.data.length, config.size = LENGTH, SIZE
    config.model.depth, config.model.smear = DEPTH, False
    config.evaluation.evaluators, config.evaluation.lengths = ("longer",), LENGTHS
    config.evaluation.examples, config.evaluation.batch_size = 256, 16
    return config


def get_trials(part: str) -> list[dict]:
    """Every kind of positions at both budgets."""
    return [
        {"arm": arm, "budget": budget, "seed": seed} | keys
        for arm, keys in ARMS.items()
        for seed in SEEDS
        for budget in BUDGETS
    ]
