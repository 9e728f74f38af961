"""Which positions hold in windows longer than those of training?

Question: of networks trained on windows of 64 bytes, what does the same text cost in windows of 64
to 512, by octave of position: with rotary positions, as trained and scaled after training, ALiBi,
learned or sinusoidal vectors, no word of positions, and hybrids in which every fourth or every
second layer has none?
Cost: 1.9e13 FLOPs in 28 trials (trunks shared), about 8 minutes on two cores. The runs
are in length_generalisation.csv.
Expected, as found: ALiBi alone costs no more in longer windows, and gains from them; of the rest
YaRN's scaling holds best. Bits a byte of the same text after 1.2e12 FLOPs, means of two seeds, in
windows of 64, 128 and 512, and the power of the length in windows of 64 to 512 at both budgets:

- ALiBi 2.20, 2.17 and 2.15, length^-.009 [-.013, -.005]. Within the window it is .12 behind rotary.
- Rotary 2.09, 2.23 and 4.21, ^.28 [.20, .35]; sinusoids 2.27, 3.46 and 4.87, ^.29 [.23, .36]. A
  learned table, which ends at 64, has 2.23. What breaks are positions beyond 64: of windows of 512,
  rotary's bytes 32 to 63 cost 2.00, 64 to 127 2.33, 128 to 255 4.67.
- Rotary scaled after training by YaRN 2.11 and 2.47, ^.08 [.06, .10]; by NTK 2.07 and 3.30, ^.16
  [.10, .23]; linearly 3.43 and 4.77, ^.33 [.26, .40], which is worse than not at all. At twice the
  length NTK is the best, and better than 64.
- Without positions 2.54, 2.74 and 3.71, ^.12 [.08, .16]: less is lost with the length than by
  rotary, but it is .45 behind within the window, and ahead of it from 256 on only.
- Hybrids break as rotary does: a fourth of the layers without positions 2.07, 2.30 and 4.25, ^.29
  [.20, .37], half of them 2.09, 2.23 and 4.05, ^.27 [.20, .34]. Seeds differ by .2 to .6 at 512.

Better networks break harder: at 3e11 rotary has 3.54 in windows of 512, at four times that 4.21.
Depth 4, 48 wide, windows of 64, without smear.

Literature: partly: as Press et al. 2022 (figure 1) for ALiBi, sinusoids and rotary positions, and
Peng et al. 2024 for YaRN, but linear scaling without training anew fails. No positions break later
than rotary (Kazemnejad et al. 2023), but are not as good within the window (Haviv et al. 2022) in
networks so small. Hybrids hold no longer, unlike those of Yang et al. 2025 (arXiv 2501.18795),
whose rotary layers see a window alone.

    python -m research power length_generalisation.csv --loss loss --over length --over budget \
        --where "kind == 'window' and arm != 'learned'"

Rows of kind "octave" are by the first position of an octave in windows of 512, whose last is one
position, and noisy. The FLOPs of a run stand in its row of 64 alone.

At the size of a pod: experiments/pod_studies.py:length_generalisation.
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
ANSWERS = (
    "power --loss loss --over length --over budget"
    " --where \"kind == 'window' and arm != 'learned'\"",
)
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
