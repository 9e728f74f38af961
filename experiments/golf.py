"""The lowest loss at fixed FLOPs: a contest of recipes on two cores, without a network connection.

Speedruns hold loss against time, others hold it against data or size; here it is against compute,
counted by the ledger (research/cost.py): every matrix product and convolution of the train step,
the optimizer's among them, and nothing for look-ups and elementwise work. A recipe is a file with
`get_config(budget)`, which returns the config of one run built from research.defaults; the ones in
experiments/golf/ are the first rows of experiments/golf.csv, where failures are kept like records.

    python -m research golf experiments/golf/nanogpt.py >> experiments/golf.csv

It prints a row a budget and nothing else to stdout; stopped, it goes on where it was. Only what a
commit has can be a record. Cost of all three budgets: 2.1e13 FLOPs in 15 runs, about 10 minutes on
two cores. The first rows, bits a byte: nanoGPT's model and tuned AdamW 3.159, 2.592 and 2.204, the
first ladder 2.780, 2.396 and 1.999, today's 2.423, 2.067 and 1.835; at equal loss the former two
take 7.1 [6.7, 7.5] and 3.1 [2.7, 3.4] times the compute of today's, by `compare` of their losses.

A recipe chooses the network, the optimizer, the batch, the order of magnitude of everything and
what it spends the FLOPs on. It does not choose the bytes, the split, the score or the seeds, may
spend no more than the budget, begins from no other run, and does not read validation; see
research/golf/ for what of that the code holds, and what is held by readers only.

A p-value is that of one try: of many recipes no better than the record, or one sent many times with
other seeds or small changes, one in a hundred takes it by luck, so that failures are rows as well
and whoever reads a record counts the rows that were held against the one before.
"""

FAMILY = "autoregressive"
DATA = {"name": "python_stdlib", "length": 128, "include_tests": False, "files": ("*",)}
# The standard library differs by version: rows on other bytes are of another contest.
MADE_BY = "CPython 3.11.7"
FINGERPRINT = "ea7ca048c73a243f7673e494bc66f8eb7a3f8b0cc561e34080ddcaa7fe7e86d6"
EXAMPLES = 2048  # windows of validation, 128 bytes each
BUDGETS = (2e11, 8e11, 3.2e12)  # FLOPs of a run, from step 0
SEEDS = 5  # 0 to 4, at least
MARGIN = 0.005  # bits/byte below the record; the ladder's seeds have sd .015, .008 and .003
LEVEL = 0.01  # of all budgets together: each is tested at a third of it (Bonferroni)
RECORDS = "experiments/golf.csv"
ANSWERS = (
    "compare --by recipe --arms nanogpt,ladder --loss mean --flops flops --params params",
    "compare --by recipe --arms adamw_ladder,ladder --loss mean --flops flops --params params",
)
