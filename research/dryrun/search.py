"""Which mesh, remat and micro-batch are fastest on a slice: hundreds counted, two compiled.

Every way to lay the devices out, times every remat policy, times powers of two of micro-batches,
is weighed by the memory and time ledgers; the best few that should fit are compiled, and the
fastest that the compiler accepts wins.
"""

import copy
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from research import config as configs
from research import mesh, study
from research.dryrun import gpu, topology
from research.dryrun import price as prices
from research.dryrun.answer import mesh_words
from research.dryrun.estimate import Estimate, count, estimate
from research.dryrun.share import read_state
from research.errors import UserError
from research.hardware import Slice
from research.numbers import gib

REMAT = ("none", "dots", "attention", "full")
SEARCHED = ("data", "fsdp", "sequence", "expert", "tensor")  # stages idle: for slow networks only
MOST = {"sequence": 16, "expert": 64, "tensor": 16}  # devices along an axis that talks in a layer
MARGIN = 1.15  # the memory ledger's own error


def search(
    config: ConfigDict,
    wanted: Slice,
    table: prices.Prices,
    compiled: int = 2,
    fast: bool = False,
) -> tuple[list[Estimate], list[Estimate]]:
    """Return what is counted of all that should fit, best first, and the estimates compiled.

    Args:
        config: complete; its own mesh, remat and accumulation are where the search begins.
        compiled: how many to compile; more when the compiler refuses them.
        fast: compile with fewer optimisations.

    Raises:
        UserError: when nothing should fit, or of a network whose parts are not known.
    """
    gpu.check(config, wanted)
    found = weigh(config, wanted, table)
    fitting = [each for each in found if (each.counted or 0.0) * MARGIN <= each.capacity]
    if not fitting:
        least = min(found, key=lambda each: each.counted or 0.0)
        raise UserError(
            f"--search: nothing fits {wanted}; the leanest, {words(least)}, should need "
            f"{gib(least.counted)} a device of {gib(least.capacity)}: take more chips"
        )
    fitting.sort(key=lambda each: each.step.rank)
    tried: list[Estimate] = []
    for each in fitting[: 3 * compiled]:
        tried.append(estimate(each.config, wanted, table, fast))
        if sum(bool(one.fits) for one in tried) == compiled:
            break
    return fitting, tried


def winner(tried: Sequence[Estimate]) -> Estimate:
    """The fastest that fits.

    Raises:
        UserError: when none does.
    """
    fits = [each for each in tried if each.fits]
    if not fits:
        raise UserError("--search: the compiler refused all that was tried; take more chips")
    return min(fits, key=lambda each: each.step.rank)


def weigh(config: ConfigDict, wanted: Slice, table: prices.Prices) -> list[Estimate]:
    """What is counted of every valid mesh, remat policy and number of micro-batches.

    Raises:
        UserError: for a network whose parts are not known.
    """
    state, found = read_state(config), topology.devices(wanted)
    counted = []
    for sizes in meshes(wanted, any("experts" in leaf.names for leaf in state.leaves())):
        laid = topology.arrange(wanted, found, sizes)
        for remat, accumulation in itertools.product(REMAT, (1, 2, 4, 8, 16)):
            chosen = copy.deepcopy(config)
            chosen.hardware.mesh.update(sizes)
            chosen.hardware.update(remat=remat, accumulation=accumulation)
            try:
                study.check_hardware(chosen, wanted.num_devices)
                each = count(chosen, wanted, table, sizes, laid, state)
            except UserError:  # it does not divide the batch, or a parameter
                continue
            if each.memory is None:
                raise UserError(
                    "--search weighs layouts by what it knows of transformers, and config.family="
                    f"{config.family!r} is none; give one, such as --mesh fsdp=4: it is compiled"
                )
            counted.append(each)
    return counted


def meshes(wanted: Slice, experts: bool) -> Iterator[dict[str, int]]:
    """Every factorisation of a slice's devices over the axes that are searched."""
    axes = [axis for axis in SEARCHED if experts or axis != "expert"]
    for factors in _factorisations(wanted.num_devices // wanted.slices, len(axes)):
        sizes = dict.fromkeys(mesh.AXES, 1) | dict(zip(axes, factors, strict=True))
        if all(sizes[axis] <= most for axis, most in MOST.items()):
            yield sizes | {"slice": wanted.slices}


def _factorisations(number: int, count: int) -> Iterator[tuple[int, ...]]:
    """Ordered products of `count` factors that give `number`."""
    if count == 1:
        yield (number,)
        return
    for first in range(1, number + 1):
        if number % first == 0:
            for rest in _factorisations(number // first, count - 1):
                yield (first, *rest)


def words(found: Estimate) -> str:
    """The choice in one line."""
    hardware = found.config.hardware
    return f"{mesh_words(found.sizes)} {hardware.remat} x{hardware.accumulation}"


def preset(config: ConfigDict) -> dict[str, Any]:
    """The hardware section as JSON values: what --hardware reads."""
    return configs.to_plain(config)["hardware"]


def rung(found: Estimate) -> dict[str, Any]:
    """Its place on the ladder as JSON values."""
    return {
        "mesh": found.sizes,
        "remat": found.config.hardware.remat,
        "accumulation": found.config.hardware.accumulation,
        "seconds_floor": found.step.seconds_floor,
        "mfu_bound": found.step.mfu_bound,
        "ledger_peak_bytes": round(found.counted or 0),
    }


def ladder(fitting: Sequence[Estimate], tried: Sequence[Estimate], most: int = 12) -> list[str]:
    """The best candidates as a table, with the compiler's peak where it was asked."""
    said = {id(each.config): gib(each.peak) if each.fits else "refused" for each in tried}
    heads = f"{'floor':>9s} {'MFU':>6s} {'peak':>10s} {'compiled':>10s}"
    rows = [f"{'mesh remat x micro-batches':44s} {heads}"]
    return rows + [
        f"{words(each):44s} {each.step.seconds_floor:7.4f} s {each.step.mfu_bound:6.1%} "
        f"{gib(each.counted):>10s} {said.get(id(each.config), ''):>10s}"
        for each in fitting[:most]
    ]
