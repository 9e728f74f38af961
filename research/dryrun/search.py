"""Which mesh, remat and micro-batch are fastest on a slice: hundreds counted, two compiled.

Every way to lay the devices out, times every remat policy, times powers of two of micro-batches,
is weighed by the memory and time ledgers; the best few that should fit are compiled, and the
fastest that the compiler accepts wins.
"""

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from research import config as configs
from research import mesh, study
from research.dryrun import gpu, memory, topology, traffic
from research.dryrun import price as prices
from research.dryrun.answer import mesh_words
from research.dryrun.estimate import Estimate, estimate
from research.dryrun.roofline import Roofline, roofline
from research.dryrun.share import Leaf, read_state, share, state_bytes
from research.errors import UserError
from research.hardware import Slice
from research.numbers import gib

REMAT = ("none", "dots", "attention", "full")
SEARCHED = ("data", "fsdp", "sequence", "expert", "tensor")  # stages idle: for slow networks only
MOST = {"sequence": 16, "expert": 64, "tensor": 16}  # devices along an axis that talks in a layer
MARGIN = 1.15  # the memory ledger's own error


@dataclass(frozen=True)
class Candidate:
    """One way to run a config, weighed but not compiled."""

    config: ConfigDict
    sizes: dict[str, int]
    memory: memory.Memory
    step: Roofline

    @property
    def rank(self) -> tuple[float, float]:
        """The floor first; among equals, what a step without overlap would take."""
        return self.step.seconds_floor, self.step.seconds_serial

    def to_json(self) -> dict[str, Any]:
        """Its place on the ladder as JSON values."""
        return {
            "mesh": self.sizes,
            "remat": self.config.hardware.remat,
            "accumulation": self.config.hardware.accumulation,
            "seconds_floor": self.step.seconds_floor,
            "mfu_bound": self.step.mfu_bound,
            "ledger_peak_bytes": round(self.memory.peak),
        }

    @property
    def words(self) -> str:
        """The choice in one line."""
        hardware = self.config.hardware
        return f"{mesh_words(self.sizes)} {hardware.remat} x{hardware.accumulation}"


def search(
    config: ConfigDict,
    wanted: Slice,
    table: prices.Prices,
    compiled: int = 2,
    fast: bool = False,
) -> tuple[list[Candidate], list[Estimate]]:
    """Return the candidates that should fit, best first, and the estimates of those compiled.

    Args:
        config: complete; its own mesh, remat and accumulation are where the search begins.
        compiled: how many to compile; more when the compiler refuses them.
        fast: compile with fewer optimisations.

    Raises:
        UserError: when nothing should fit, or nothing of what was tried does.
    """
    gpu.check(config, wanted)
    found = weigh(config, wanted)
    room = wanted.kind.usable_bytes / wanted.kind.devices_per_chip
    fitting = sorted((c for c in found if c.memory.peak * MARGIN <= room), key=lambda c: c.rank)
    if not fitting:
        least = min(found, key=lambda c: c.memory.peak)
        raise UserError(
            f"--search: nothing fits {wanted}; the leanest, {least.words}, should need "
            f"{gib(least.memory.peak)} a device of {gib(room)}: take more chips"
        )
    tried: list[Estimate] = []
    for candidate in fitting[: 3 * compiled]:
        tried.append(estimate(candidate.config, wanted, table, fast))
        if sum(bool(each.fits) for each in tried) == compiled:
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
    return min(fits, key=lambda each: (each.step.seconds_floor, each.step.seconds_serial))


def preset(config: ConfigDict) -> dict[str, Any]:
    """The hardware section as JSON values: what --hardware reads."""
    return configs.to_plain(config)["hardware"]


def weigh(config: ConfigDict, wanted: Slice) -> list[Candidate]:
    """Every valid candidate with its memory and its roofline.

    Raises:
        UserError: for a network whose parts are not known.
    """
    state = read_state(config)
    found = topology.devices(wanted)
    candidates = []
    for sizes in meshes(wanted, "experts" in state.names()):
        if not _divides(state.params, sizes):
            continue
        laid = topology.arrange(wanted, found, sizes)
        links = topology.spans(wanted, laid, sizes)
        for remat, accumulation in itertools.product(REMAT, (1, 2, 4, 8, 16)):
            chosen = copy.deepcopy(config)
            chosen.hardware.mesh.update(sizes)
            chosen.hardware.update(remat=remat, accumulation=accumulation)
            try:
                study.check_hardware(chosen, wanted.num_devices)
            except UserError:
                continue
            ours, arguments = share(chosen, sizes, state), state_bytes(chosen, state, sizes)
            if ours is None:
                raise UserError(
                    "--search weighs layouts by what it knows of transformers, and config.family="
                    f"{config.family!r} is none; give one, such as --mesh fsdp=4: it is compiled"
                )
            step = roofline(chosen, ours, sizes, wanted, traffic.ledger(ours), links, arguments)
            candidates.append(Candidate(chosen, sizes, memory.peak(chosen, ours, arguments), step))
    return candidates


def meshes(wanted: Slice, experts: bool) -> Iterator[dict[str, int]]:
    """Every factorisation of a slice's devices over the axes that are searched."""
    axes = [axis for axis in SEARCHED if experts or axis != "expert"]
    inside = wanted.num_devices // wanted.slices
    for factors in _factorisations(inside, len(axes)):
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


def _divides(parameters: Sequence[Leaf], sizes: dict[str, int]) -> bool:
    """Whether every parameter can be split as the mesh wants it."""
    return all(
        length % math.prod(sizes[axis] for axis in mesh.RULES[name]) == 0
        for leaf in parameters
        for length, name in zip(leaf.shape, leaf.names, strict=True)
        if name
    )


def ladder(fitting: Sequence[Candidate], tried: Sequence[Estimate], most: int = 12) -> list[str]:
    """The best candidates as a table, with the compiler's peak where it was asked."""
    peaks = {id(each.config): each for each in tried}
    heads = f"{'floor':>9s} {'MFU':>6s} {'peak':>10s} {'compiled':>10s}"
    rows = [f"{'mesh remat x micro-batches':44s} {heads}"]
    for candidate in fitting[:most]:
        known = peaks.get(id(candidate.config))
        said = "" if known is None else _said(known)
        rows.append(
            f"{candidate.words:44s} {candidate.step.seconds_floor:7.4f} s "
            f"{candidate.step.mfu_bound:6.1%} {gib(candidate.memory.peak):>10s} {said:>10s}"
        )
    return rows


def _said(known: Estimate) -> str:
    return gib(known.compiled and known.compiled.peak) if known.fits else "refused"
