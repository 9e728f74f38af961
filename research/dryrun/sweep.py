"""A dry run of a whole sweep on a slice: one compile a shape, a line a trial, and the totals."""

import argparse
from collections.abc import Sequence
from dataclasses import replace

from research import cost, programs, study
from research.dryrun import command, topology
from research.dryrun import price as prices
from research.dryrun.estimate import Estimate, Run, estimate
from research.hardware import Slice
from research.numbers import gib
from research.study import Study, Trial

FITS = {True: "yes", False: "NO", None: "?"}  # nobody says of a network that is not compiled here


def run(args: argparse.Namespace, flags: Sequence[str]) -> int:
    """`sweep --dry_run --topology`: print the table.

    Raises:
        UserError: anything in the file, the flags or the tables that could not be run.
    """
    wanted = command.parse(args.topology, args.slices)
    prices_of = prices.load(args.prices or prices.LIST_PRICES)
    prices.price(prices_of, wanted.chip, 1.0)
    topology.devices(wanted)
    given = [*command.mesh_flags(None, wanted), *flags]
    loaded = study.load(args.config, given, num_devices=wanted.num_devices, prepared=False)
    print(table(loaded, wanted, prices_of))
    return 0


def table(loaded: Study, wanted: Slice, prices_of: prices.Prices) -> str:
    """Return the trials as an aligned table and their totals, each trial alone on the slice.

    Raises:
        UserError: as `estimate` does, for any trial.
    """
    trials = [trial for group in loaded.groups for trial in group]
    compiled: dict[str, Estimate] = {}
    for trial in trials:
        shape = programs.shape(trial.config)
        if shape not in compiled:
            compiled[shape] = estimate(trial.config, wanted, prices_of)
    found = [(trial, compiled[programs.shape(trial.config)]) for trial in trials]
    width = max(24, *(len(trial.id) for trial in trials))
    lines = [
        f"{'trial':{width}s} {'params':>14s} {'tokens':>17s} {'steps':>9s} {'peak':>10s} "
        f"{'fits':>4s} {'floor':>10s} {'MFU':>6s} {'chip-hours':>10s} {prices_of.currency:>10s}"
    ]
    lines += [_line(trial, each, width, prices_of) for trial, each in found]
    return "\n".join([*lines, *_totals(found, wanted, prices_of, len(compiled))])


def run_of(trial: Trial, found: Estimate, prices_of: prices.Prices) -> Run:
    """The run of one trial; a branch pays for what follows its trunk."""
    share = trial.steps_to_run / found.run.steps
    hours = found.run.chip_hours * share
    return replace(
        found.run,
        tokens=round(found.run.tokens * share),
        steps=trial.steps_to_run,
        seconds=found.run.seconds * share,
        chip_hours=hours,
        price=prices.price(prices_of, found.wanted.chip, hours),
    )


def _line(trial: Trial, found: Estimate, width: int, prices_of: prices.Prices) -> str:
    run, peak = run_of(trial, found, prices_of), found.peak
    said = gib(peak and peak * found.wanted.kind.devices_per_chip, 2)
    params = cost.ledger(trial.config).total_params
    return (
        f"{trial.id:{width}s} {params:>14,} {run.tokens:>17,} {run.steps:>9,} {said:>10s} "
        f"{FITS[found.fits]:>4s} {found.step.seconds_floor:8.4f} s "
        f"{found.step.mfu_bound:6.1%} {run.chip_hours:>10,.1f} {run.price:>10,.0f}"
    )


def _totals(
    found: Sequence[tuple[Trial, Estimate]], wanted: Slice, prices_of: prices.Prices, shapes: int
) -> list[str]:
    runs = [run_of(trial, each, prices_of) for trial, each in found]
    programs_of = {id(each): each.compiled for _, each in found}.values()
    seconds = sum(compiled.seconds for compiled in programs_of if compiled)
    refused = sum(each.fits is False for _, each in found)
    unsaid = sum(each.fits is None for _, each in found)
    return [
        f"{len(found)} trials, each alone on {wanted} ({wanted.num_chips} chips), at the floor: "
        f"{sum(run.seconds for run in runs) / 3600:,.1f} hours, "
        f"{sum(run.chip_hours for run in runs):,.1f} chip-hours, "
        f"{sum(run.price for run in runs):,.0f} {prices_of.currency} "
        f"({prices_of.path.name}, {prices_of.date})",
        f"{shapes} shapes compiled in {seconds:.1f} s; "
        + (f"{refused} trials do not fit" if refused else "every trial fits")
        + (f" but {unsaid}, of which it is unknown" if unsaid else ""),
    ]
