"""Does another mixer change how fast compute pays, or only the constant?

Question: at equal loss, how many FLOPs do transformers need for one of a network of gated delta
rules, of Mamba-2, of LSTMs, of gated convolutions, or of three recurrent layers to one of
attention; and does that factor grow with compute?
Cost: 1.2e13 FLOPs in 42 trials (trunks shared), about 9 minutes on two cores. The runs
are in mixers.csv.
Expected, as found: all but two arms are within 15% of attention in FLOPs; those two beat it. By
`compare mixers.csv`, attention needs these times the FLOPs of the other arm, in the middle of the
losses that both reach (2.1 to 2.9 bits a byte), 95% intervals:

- convolutions of four taps 1.53 [1.40, 1.66] and LSTMs 1.27 [1.17, 1.37], though convolutions see
  no more than 13 bytes through four layers. Their steps are cheaper; of tokens attention needs
  1.07 [.99, 1.17] and 1.22 [1.13, 1.31] times as many.
- gated delta rules .92 [.85, .99] and Mamba-2 .86 [.74, .99]; hybrids, three layers of each to one
  of attention, 1.06 [1.04, 1.08] and .85 [.79, .92]. Delta's hybrid is better than its parts,
  Mamba-2's is no better than Mamba-2, which needs the fewest tokens: attention 1.36 [1.18, 1.57].
- Convolutions' factor fades, as compute^-.19 [-.30, -.08]: their loss is 13% lower at 32 wide and
  1e11 FLOPs, 2% at 48 wide and 8e11. The factors of both recurrences and of both hybrids fall too,
  so that attention gains on all with compute but on LSTMs, whose trend cannot be told, .01 [-.25,
  .27].

Networks 32 and 48 wide in windows of 128 bytes learn little of what stands far back, so that what
is cheap wins; every arm has the rates of attention, and smear, itself a convolution. Intervals take
horizons of one trunk as independent, one seed each. Two sizes and eightfold compute tell a constant
and hardly an exponent.

Literature: partly: not as in Kaplan et al. 2020, figure 7, where LSTMs fall behind: here they lead,
which longer windows and larger networks may turn. As in Yang et al. 2025 (arXiv 2412.06464) the
gated delta rule is ahead of Mamba-2, by less than is certain, and its hybrid ahead of it.

    python -m research compare mixers.csv --params params --data data --flops flops --loss loss \\
        --arms attention,gated_delta,mamba2,delta_hybrid,mamba2_hybrid,lstm,convolution

At the size of a pod: experiments/pod_studies.py:mixers.
"""

from ml_collections import ConfigDict

from research import defaults

PARTS = {
    "text": {
        "title": "Mixers of text models on Python source",
        "family": "autoregressive",
        "data": "python_stdlib",
        "unit": "bits/byte",
        "data_unit": "tokens",
    }
}
ANSWERS = (
    "compare --params params --data data --flops flops --loss loss"
    " --arms attention,gated_delta,mamba2,delta_hybrid,mamba2_hybrid,lstm,convolution",
)
DEPTH = 4  # layers, so that one in four can be of attention
BUDGETS = (1e11, 2e11, 4e11, 8e11)
GRID = {32: BUDGETS[:3], 48: BUDGETS[1:]}  # by width, those that buy it some 100 steps or more
# FLOPs of a step as the ledger counts them, which takes longer than all else of loading this file.
STEP_FLOPS = {
    "attention": {32: 592_969_728, 48: 1_189_675_008},
    "gated_delta": {32: 626_283_136, 48: 1_268_291_184},
    "mamba2": {32: 962_603_328, 48: 1_750_436_664},
    "delta_hybrid": {32: 617_954_784, 48: 1_248_637_140},
    "mamba2_hybrid": {32: 870_194_928, 48: 1_610_246_250},
    "lstm": {32: 537_133_056, 48: 1_237_155_840},
    "convolution": {32: 391_643_136, 48: 887_685_120},
}
ARMS = {
    "attention": {},
    "gated_delta": {"model.mixer": "gated_delta"},
    "mamba2": {"model.mixer": "mamba2"},
    "delta_hybrid": {"model.pattern": (*3 * ("mixer=gated_delta",), "mixer=attention")},
    "mamba2_hybrid": {"model.pattern": (*3 * ("mixer=mamba2",), "mixer=attention")},
    "lstm": {"model.mixer": "lstm"},
    "convolution": {"model.mixer": "convolution"},
}


def get_config(part: str) -> ConfigDict:
    """One run of the ladder; every arm has its rates, which are those of attention."""
    config = defaults.config(PARTS[part]["family"], PARTS[part]["data"])
    config.part, config.sampling.num = part, 0
    config.model.depth = DEPTH
    config.evaluation.examples = 1024
    return config


def get_trials(part: str) -> list[dict]:
    """Every mixer at both sizes and their budgets, as steps."""
    return [
        {"arm": arm, "size": size, "budget": budget, "train.steps": steps, "seed": 0} | keys
        for arm, keys in ARMS.items()
        for size, budgets in GRID.items()
        for budget in budgets
        for steps in [round(budget / STEP_FLOPS[arm][size])]
    ]
