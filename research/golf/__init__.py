"""A contest of recipes at fixed FLOPs: what it holds fixed, its rules, its test and its table.

`contest.py` reads a contest's file (experiments/golf.py) and makes a recipe's runs a study, whose
trials the sweep runs; `guard.py` catches who reads validation by mistake, `proper.py` asks whether
what was trained predicts at all, `verdict.py` tests losses against the record and writes rows, and
`research/run/code.py` says which code they are of.

Held by the code: bytes, split, score, seeds and budget are the contest's; FLOPs are the ledger's,
never above the budget; a run begins at its own initial parameters and is scored once, at its end;
its folder goes by the digest of all that computes it, so no run goes on under changed code; the
trained network gives each next byte a probability, whatever comes after, where it is asked.

Held by readers only, for a recipe is Python in our process: that it patches none of our code, does
not get round the guard, trains on none of the files that validation was made of, carries no bytes
of validation in its text, computes no product by elementwise work, which the ledger does not count,
and was not chosen among many by the seeds that it is tested with. So a record is of a commit.
"""
