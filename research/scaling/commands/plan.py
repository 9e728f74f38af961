"""`python -m research plan`: what a budget buys best under a fitted law."""

import argparse

from research.hardware import PEAK_FLOPS, parse_slice
from research.scaling.commands.answer import add_answer_options, aligned, answer, estimates
from research.scaling.commands.options import (
    add_law_options,
    amount,
    law_options,
    setting,
    settings,
    within,
)
from research.scaling.plan.budget import Choice, Plan, TradeOff, plan

EXAMPLE = """examples:
  python -m research plan laws.json --flops 5.88e23
  python -m research plan laws.json --flops 1e22 --chips v5e:16x16 --mfu 0.4 --out plan.json
  python -m research plan laws.json --flops 1e22 --inference-tokens 1e12 --unique-tokens 2e11

A law of your own is read from its file, which has to be named again: --law FILE.py.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `plan`."""
    add_law_options(parser, "plan")
    for option, name, required, text in (
        ("--flops", "C", True, "training FLOPs to spend"),
        ("--unique-tokens", "U", False, "data there is without repeats"),
        ("--inference-tokens", "T", False, "tokens to be served afterwards"),
    ):
        parser.add_argument(option, type=amount(option), required=required, metavar=name, help=text)
    add = parser.add_argument
    add("--chips", metavar="CHIP:SHAPE", help=f"e.g. v5e:16x16; chips: {', '.join(PEAK_FLOPS)}")
    mfu = within(
        "--mfu", float, lambda value: 0 < value <= 1, "a share between 0 and 1, such as 0.4"
    )
    add("--mfu", type=mfu, default=0.4, help="share of the chips' peak that is reached")
    add_answer_options(parser)


def run(args: argparse.Namespace) -> int:
    """Plan, print, and write plan.json.

    Raises:
        UserError: a file that is no law, a refused law, or a plan the law cannot carry.
    """
    content, options = law_options(args)
    found = plan(
        content,
        args.flops,
        unique=args.unique_tokens,
        inference=args.inference_tokens,
        chips=parse_slice(args.chips) if args.chips else None,
        mfu=args.mfu,
        given={name: setting(name)(word) for name, word in settings(args).items()},
        **options,
    )
    answer(args, found.to_json(), lines(found))
    return 0


def lines(found: Plan) -> list[str]:
    """The plan as an aligned table, the trade-off curve, the hours and the warnings."""
    said = [f"{found.flops:.4g} FLOPs by {found.law}", *_choice(found.best, found)]
    if found.serving:
        said += ["cheapest to train and serve at that loss", *_choice(found.serving, found)]
        both = found.serving.flops + found.serving.serving_flops
        share = 1 - both / (found.best.flops + found.best.serving_flops)
        said.append(f"  total FLOPs {both:.4g}: {share:.1%} less than the best above")
    if found.hours:
        hours = found.hours
        clock = f"{hours.hours:.4g} hours on {hours.num_chips} {hours.chip}"
        said.append(f"  {hours.chip_hours:.4g} chip-hours at {hours.mfu:.0%} of peak: {clock}")
    if found.curve:
        head = ("size", "params", found.data_unit, "loss", "more", "compute")
        said += aligned(head, [_trade_off(row, found.relative) for row in found.curve])
        said.append(
            "  more: loss at the same FLOPs; compute: what this size needs for the best loss"
        )
    said += [f"  warning {line}" for line in found.warnings]
    return said + [f"  warning of the fit {line}" for line in found.fit_warnings]


def _choice(choice: Choice, found: Plan) -> list[str]:
    rows = [
        ("params", choice.params, choice.params_interval),
        (found.data_unit, choice.data, choice.data_interval),
        ("loss", choice.loss, choice.loss_interval),
    ]
    if choice.run_interval is not None:
        rows.append(("a run's loss", choice.loss, choice.run_interval))
    said = estimates(found.level, rows)
    if choice.loss_interval:
        others = "; of the others: bootstrap" if choice.params_interval else ""
        said.append(f"  intervals of the loss: {found.prediction_method}{others}")
    return [*said, f"  {choice.data / choice.params:.4g} {found.data_unit} per parameter"]


def _trade_off(row: TradeOff, relative: bool) -> tuple[str, ...]:
    return (
        f"x {row.multiple:.3g}",
        f"{row.params:.4g}",
        f"{row.data:.4g}",
        f"{row.loss:.4f}",
        f"{row.excess:.2%}" if relative else f"{row.excess:.4f}",
        "never" if row.compute is None else f"x {row.compute:.3f}",
    )
