"""A contest of recipes at fixed FLOPs: what it holds fixed, its rules, its test and its table.

`contest.py` reads a contest's file (experiments/golf.py) and makes a recipe's runs a study, whose
trials the sweep runs; `guard.py` keeps validation closed to a recipe, `proper.py` asks whether what
was trained predicts at all, and `verdict.py` tests losses against the record and writes rows.

Held by the code: bytes, split, score, seeds and budget are the contest's; FLOPs are the ledger's;
a run begins at its own initial parameters, is scored once, at its end, and neither the recipe nor
a module that it names can open the packed validation or test split, or the sources that these
splits were made of; the trained network gives each next byte a probability, whatever comes after.

Held by readers only, for a recipe is Python in our process: that it patches none of our code,
carries no bytes of validation in its text or in a file of its own, computes no product by
elementwise work, which the ledger does not count, and was not chosen among many by the seeds that
it is tested with. So a row names the revision and the digest of the recipe's file.
"""
