"""`python -m research plan`: what a budget buys best under a fitted law."""

import argparse
from typing import TYPE_CHECKING

from research.errors import UserError
from research.hardware import PEAK_FLOPS, parse_slice
from research.run.record import write_json
from research.scaling.commands.answer import add_answer_options, answer
from research.scaling.commands.laws_json import (
    add_law_options,
    amount,
    assignments,
    law_content,
    own_law,
)

if TYPE_CHECKING:
    from research.scaling.plan.budget import Choice, Plan

EXAMPLE = """examples:
  python -m research plan laws.json --flops 5.88e23
  python -m research plan laws.json --flops 1e22 --chips v5e:16x16 --mfu 0.4 --out plan.json
  python -m research plan laws.json --flops 1e22 --inference-tokens 1e12 --unique-tokens 2e11

A law of your own is read from its file, which has to be named again: --law FILE.py.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `plan`."""
    add = parser.add_argument
    add_law_options(parser, "plan")
    add("--flops", required=True, metavar="C", help="training FLOPs to spend")
    add("--unique-tokens", metavar="U", help="data there is without repeats")
    add("--inference-tokens", metavar="T", help="tokens to be served afterwards")
    add("--chips", metavar="CHIP:SHAPE", help=f"e.g. v5e:16x16; chips: {', '.join(PEAK_FLOPS)}")
    add("--mfu", type=float, default=0.4, help="share of the chips' peak that is reached")
    add_answer_options(parser)


def run(args: argparse.Namespace) -> int:
    """Plan, print, and write plan.json.

    Raises:
        UserError: a file that is no law, a refused law, or a plan the law cannot carry.
    """
    from research.scaling.plan.budget import plan

    unique, inference = (
        None if text is None else amount(option, text)
        for option, text in (
            ("--unique-tokens", args.unique_tokens),
            ("--inference-tokens", args.inference_tokens),
        )
    )
    if not 0 < args.mfu <= 1:
        raise UserError(f"--mfu {args.mfu:g}: expected a share between 0 and 1, such as 0.4")
    found = plan(
        law_content(args),
        amount("--flops", args.flops),
        unique=unique,
        inference=inference,
        chips=parse_slice(args.chips) if args.chips else None,
        mfu=args.mfu,
        given=assignments(args.set),
        own=own_law(args),
        anyway=args.anyway,
    )
    content = found.to_json()
    if args.out:
        write_json(args.out, content, checksum=False)
    answer(args, content, lines(found))
    return 0


def lines(found: "Plan") -> list[str]:
    """The plan as an aligned table, the trade-off curve, the hours and the warnings."""
    said = [f"{found.flops:.4g} FLOPs by {found.law}"]
    said += _choice_lines(found.best, found)
    if found.serving:
        said.append("cheapest to train and serve at that loss")
        said += _choice_lines(found.serving, found)
        both = found.serving.flops + found.serving.serving_flops
        apart = found.best.flops + found.best.serving_flops
        share = 1 - both / apart
        said.append(f"  {'total FLOPs':<13}{both:>11.4g}   {share:.1%} less than the best above")
    if found.hours:
        hours = found.hours
        clock = f"{hours.hours:.4g} hours on {hours.num_chips} {hours.chip}"
        said.append(f"  {hours.chip_hours:.4g} chip-hours at {hours.mfu:.0%} of peak: {clock}")
    if found.curve:
        head = f"  {'size':>8}{'params':>12}{found.data_unit:>12}{'loss':>10}{'more':>9}  compute"
        said.append(head)
    for row in found.curve:
        compute = "never" if row.compute is None else f"x {row.compute:.3f}"
        size = f"x {row.multiple:.3g}"
        excess = f"{row.excess:>9.2%}" if found.relative else f"{row.excess:>9.4f}"
        numbers = f"{row.params:>12.4g}{row.data:>12.4g}{row.loss:>10.4f}{excess}"
        said.append(f"  {size:>8}{numbers}  {compute}")
    if found.curve:
        said.append(
            "  more: loss at the same FLOPs; compute: what this size needs for the best loss"
        )
    said += [f"  warning {line}" for line in found.warnings]
    return said + [f"  warning of the fit {line}" for line in found.fit_warnings]


def _choice_lines(choice: "Choice", found: "Plan") -> list[str]:
    rows = [
        ("params", choice.params, choice.params_interval),
        (found.data_unit, choice.data, choice.data_interval),
        ("loss", choice.loss, choice.loss_interval),
        ("a run's loss", choice.loss, choice.run_interval),
    ]
    said = []
    for name, value, interval in rows:
        if name == "a run's loss" and interval is None:
            continue
        ends = ""
        if interval:
            ends = f"   {found.level:.0%} interval {interval[0]:.5g} {interval[1]:.5g}"
        said.append(f"  {name:<12}{value:>12.5g}{ends}")
    if choice.loss_interval:
        others = "; of the others: bootstrap" if choice.params_interval else ""
        said.append(f"  intervals of the loss: {found.prediction_method}{others}")
    said.append(f"  {'per parameter':<12} {choice.data / choice.params:>10.4g} {found.data_unit}")
    return said
