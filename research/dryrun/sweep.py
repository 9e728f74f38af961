"""A dry run of a whole sweep on a slice: one compile a shape, a line a trial, and the totals."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from research import cost, programs, study
from research.dryrun import command, topology
from research.dryrun import price as prices
from research.dryrun.estimate import Estimate, estimate
from research.hardware import Slice
from research.numbers import gib
from research.study import Study

FITS = {True: "yes", False: "NO", None: "?"}  # nobody says of a network that is not compiled here


def run(args: argparse.Namespace, flags: Sequence[str]) -> int:
    """`sweep --dry_run --topology`: print the table.

    Raises:
        UserError: anything in the file, the flags or the tables that could not be run.
    """
    wanted = command.parse(args.topology, args.slices)
    table_of = prices.load(args.prices or prices.LIST_PRICES)
    prices.price(table_of, wanted.chip, 1.0)
    topology.devices(wanted)
    given = [*command.mesh_flags(None, wanted), *flags]
    loaded = study.load(args.config, given, num_devices=wanted.num_devices, prepared=False)
    print(table(loaded, wanted, table_of))
    return 0


def table(loaded: Study, wanted: Slice, table_of: prices.Prices) -> str:
    """Return the trials as an aligned table and their totals, each trial alone on the slice.

    A branch pays for what follows its trunk.

    Raises:
        UserError: as `estimate` does, for any trial.
    """
    trials = [trial for group in loaded.groups for trial in group]
    compiled: dict[str, Estimate] = {}
    lines, runs, found = [], [], []
    width, chip = max(24, *(len(trial.id) for trial in trials)), wanted.kind.devices_per_chip
    for trial in trials:
        shape = programs.shape(trial.config)
        if shape not in compiled:
            compiled[shape] = estimate(trial.config, wanted, table_of)
        found.append(each := compiled[shape])
        runs.append(run := each.run(trial.steps_to_run))
        lines.append(
            f"{trial.id:{width}s} {cost.ledger(trial.config).total_params:>14,} "
            f"{run.tokens:>17,} {run.steps:>9,} {gib(each.peak and each.peak * chip, 2):>10s} "
            f"{FITS[each.fits]:>4s} {each.step.seconds_floor:8.4f} s "
            f"{each.step.mfu_bound:6.1%} {run.chip_hours:>10,.1f} {run.price:>10,.0f}"
        )
    seconds = sum(each.compiled.seconds for each in compiled.values() if each.compiled)
    refused = sum(each.fits is False for each in found)
    unsaid = sum(each.fits is None for each in found)
    head = (
        f"{'trial':{width}s} {'params':>14s} {'tokens':>17s} {'steps':>9s} {'peak':>10s} "
        f"{'fits':>4s} {'floor':>10s} {'MFU':>6s} {'chip-hours':>10s} {table_of.currency:>10s}"
    )
    totals = [
        f"{len(trials)} trials, each alone on {wanted} ({wanted.num_chips} chips), at the floor: "
        f"{sum(run.seconds for run in runs) / 3600:,.1f} hours, "
        f"{sum(run.chip_hours for run in runs):,.1f} chip-hours, "
        f"{sum(run.price for run in runs):,.0f} {table_of.currency} "
        f"({Path(table_of.path).name}, {table_of.date})",
        f"{len(compiled)} shapes compiled in {seconds:.1f} s; "
        + (f"{refused} trials do not fit" if refused else "every trial fits")
        + (f" but {unsaid}, of which it is unknown" if unsaid else ""),
    ]
    return "\n".join([head, *lines, *totals])
