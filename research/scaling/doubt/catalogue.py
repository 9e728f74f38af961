"""The 23 checks by number, as warnings cite them: what each asks, and the case that taught it.

`python -m research fit --checks` prints them. Every one has tests called test_<number>_... .
"""

CHECKS = """\
 1  One count of N and C on every row, in plain units; mixed rows are refused.
    Porian 2024: counting the head moves the exponent from .835 to .706.
 2  C within 5% of 6ND, and of what width, depth, vocabulary and length give.
    Porian 2024: at small width the head is most of the FLOPs.
 3  Warm-up at most 20% of the tokens.
    Porian 2024: a shorter one moves the exponent from .706 to .602.
 4  A learning-rate schedule that ends with the run (cooldowns are fine).
    Hoffmann 2022: Kaplan's schedules ended later, whence his .73.
 5  Best learning rate and batch inside their sweeps, and tuned per size.
    Porian 2024: tuning moves the exponent from .571 to .497.
 6  An isoFLOP minimum inside its sizes and convex, or the budget is dropped.
    Hoffmann 2022, approach 2: a parabola through an open valley has no minimum.
 7  IsoFLOP methods and the parametric fit within one error of each other.
    Besiroglu 2024: Hoffmann's third approach disagreed with his first two.
 8  A sum minimised in float64 until a step moves nothing by a tenth of an error.
    Hoffmann 2022 minimised a mean, and his optimiser stopped early.
 9  A fit that left its start and touches no bound.
    One repository gave curve_fit 1/std^2 for std: 9 of 15 fits are their start.
10  Most starts at one optimum.
    Besiroglu 2024's 4,500 starts: 9% reach the best objective.
11  Exponents that do not hang on Huber's delta.
    Besiroglu 2024's data: beta goes from .365 to .406 with it.
12  A closed likelihood profile for each parameter, or it is not identified.
    Muennighoff 2023: R_D* from 15 to 200 fits within 0.14%.
13  1.5 decades of N and of D, 2 of C, or nothing is said 10 times past the runs.
    Kaplan 2020's exponents, of small models, did not hold further up.
14  Outliers by an explicit rule, and the fit without them.
    Besiroglu 2024: five points move an exponent from .514 to .565.
15  Resampling by run or budget, never by the checkpoints of one run.
    Checkpoints share their run's noise: intervals come out too narrow.
16  Intervals no narrower than so many runs of this scatter allow.
    Besiroglu 2024: Hoffmann's would have taken 600,000 runs.
17  Every digit written, in losses and in laws.
    Hoffmann 2022: two digits move 59 tokens per parameter to 93.
18  Diverged, unfinished and repeated-data runs flagged.
    Muennighoff 2023: repeated data are worth less than new ones.
19  No duplicate rows.
    Copies of a run weigh twice and narrow every interval.
20  One loss: unit, evaluation set, EMA, weighting; none below a known floor.
    A public table holds losses and their exponentials in one column.
21  A law that beats the last value on runs it was not shown.
    Alabdulmohsin 2022's curves: the last value wins in two of four domains.
22  Errors of a task past guessing, monotone, and not accuracies (--choices).
    Gadre 2024 keeps 17 of 46 tasks; McKenzie 2023 found curves that turn.
23  Every swept setting best inside its range, arms tried alike, several corrected.
    Dodge 2019: which of two models is the better changes with the number of tries."""
