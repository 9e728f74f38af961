"""`python -m research dryrun`: compile, check and price a run for a slice that is not here."""

import argparse
import json
from collections.abc import Sequence

from research import config as configs
from research import hardware, mesh, study
from research.dryrun import price as prices
from research.dryrun import search, topology
from research.dryrun.answer import lines, to_json
from research.dryrun.estimate import estimate
from research.errors import UserError, nearest
from research.run import record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `dryrun`."""
    add = parser.add_argument
    add("--topology", required=True, metavar="CHIP:SHAPE", help="e.g. v5e:16x16, h100:64, cpu:8")
    add("--slices", type=int, default=1, help="slices joined by the data-centre network")
    add("--mesh", metavar="AXIS=N,...", help="sizes of the mesh axes; those not named are 1")
    add("--prices", default=prices.LIST_PRICES, metavar="FILE", help="price table to use")
    add("--search", action="store_true", help="find the fastest mesh, remat and micro-batch")
    add("--compile", type=int, default=2, metavar="N", help="candidates --search compiles")
    add("--fast", action="store_true", help="compile with fewer optimisations, four times sooner")
    add("--out", metavar="FILE", help="write the hardware section here, for --hardware")
    add("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace, flags: Sequence[str]) -> int:
    """Dry-run one config and print what was found.

    Raises:
        UserError: anything in the file, the flags or the tables that could not be run.
    """
    wanted = parse(args.topology, args.slices)
    table = prices.load(args.prices)
    prices.price(table, wanted.chip, 1.0)
    topology.devices(wanted)  # what is missing is missed before anything is traced
    given = [*configs.preset_flags(args.hardware), *mesh_flags(args.mesh, wanted), *flags]
    config = study.load_config(args.config, given, num_devices=wanted.num_devices, prepared=False)
    if args.compile < 1:
        raise UserError(f"--compile {args.compile} must be at least 1")
    rows: list[str] = []
    if args.search:
        fitting, tried = search.search(config, wanted, table, args.compile, args.fast)
        found, rows = search.winner(tried), [*search.ladder(fitting, tried), ""]
    else:
        fitting, found = [], estimate(config, wanted, table, args.fast)
    if args.out:
        record.write_json(args.out, search.preset(found.config), checksum=False)
    if args.json:
        answer = to_json(found) | {"hardware": search.preset(found.config)}
        if args.search:
            answer["ladder"] = [search.rung(each) for each in fitting]
        print(json.dumps(answer, indent=2))
        return 0
    print("\n".join([*rows, *lines(found)]))
    if args.out:
        print(f"\nwrote {args.out}: use it as --hardware {args.out}")
    return 0


def parse(text: str, slices: int) -> hardware.Slice:
    """Read `--topology` and `--slices`.

    Raises:
        UserError: a slice that is not sold.
    """
    one = hardware.check_slice(hardware.parse_slice(text, "--topology"))
    if slices < 1:
        raise UserError(f"--slices {slices} must be at least 1")
    return hardware.Slice(one.chip, one.topology, slices)


def mesh_flags(text: str | None, wanted: hardware.Slice) -> list[str]:
    """Turn `fsdp=64,tensor=4` into config flags; the axis `slice` follows --slices by itself.

    Raises:
        UserError: an axis that does not exist, or a size that is no number.
    """
    key = "--config.hardware.mesh"
    slices = [f"{key}.slice={wanted.slices}"] if wanted.slices > 1 else []
    if text is None:
        return slices
    sizes = dict.fromkeys(mesh.AXES, "1")
    for word in text.split(","):
        axis, _, size = word.partition("=")
        if axis not in sizes:
            raise UserError(
                f"--mesh {text}: no axis {axis!r}{nearest(axis, sizes)}; {', '.join(sizes)}"
            )
        if not size.removeprefix("-").isdecimal():
            raise UserError(f"--mesh {text}: expected {axis}=NUMBER, such as fsdp=64,tensor=4")
        sizes[axis] = size
    if sizes["slice"] == "1":
        sizes["slice"] = str(wanted.slices)
    return [f"{key}.{axis}={size}" for axis, size in sizes.items()]
