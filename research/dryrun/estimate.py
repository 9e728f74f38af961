"""A dry run: one config on one slice, compiled, checked and priced before anything is spent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from research import cost, mesh
from research.dryrun import gpu, hlo, memory, topology, traffic
from research.dryrun import price as prices
from research.dryrun.compile import Compiled, compile_step
from research.dryrun.roofline import Roofline, roofline
from research.dryrun.share import State, read_state, share
from research.hardware import Slice


class Run(NamedTuple):
    """A run at the floor of its step: no real one is faster or cheaper on these chips."""

    tokens: int
    steps: int
    seconds: float
    chip_hours: float
    price: float


@dataclass(frozen=True)
class Estimate:
    """What is known of one config on one slice; `answer.to_json` is the public form.

    Attributes:
        sizes: the mesh.
        state: bytes of the state on one device.
        memory: the peak counted term by term; None of a network whose parts are not known.
        ledger: bytes one device sends in a step, counted from the scheme; None likewise.
        compiled: what the compiler says; None where it was not asked.
        read: the bytes sent, read in the compiled program; None where it cannot be, for `unread`.
    """

    config: ConfigDict
    wanted: Slice
    table: prices.Prices
    sizes: dict[str, int]
    state: float
    memory: dict[str, float] | None
    ledger: hlo.Traffic | None
    step: Roofline
    compiled: Compiled | None
    read: hlo.Traffic | None
    unread: str

    @property
    def capacity(self) -> float:
        """Bytes of HBM that one device may use."""
        return self.wanted.kind.usable_bytes / self.wanted.kind.devices_per_chip

    @property
    def counted(self) -> float | None:
        """Bytes one device should need, as counted."""
        return None if self.memory is None else memory.peak(self.memory)

    @property
    def peak(self) -> float | None:
        """Bytes one device needs: the compiler's, else what is counted; None if neither says."""
        return self.compiled.peak if self.compiled else self.counted

    @property
    def fits(self) -> bool | None:
        """Whether the compiler accepted the step and it has room; None where nobody says."""
        if self.compiled is None and self.memory is None:
            return None
        refused = self.compiled is not None and self.compiled.refusal
        return not refused and self.peak is not None and self.peak <= self.capacity

    def run(self, steps: int | None = None) -> Run:
        """The run of so many steps, all of the config's by default."""
        steps = self.config.train.steps if steps is None else steps
        tokens = self.config.train.batch_size * cost.ledger(self.config).tokens
        seconds = self.step.seconds_floor * steps
        hours = self.wanted.num_chips * seconds / 3600
        money = prices.price(self.table, self.wanted.chip, hours)
        return Run(steps * tokens, steps, seconds, hours, money)


def estimate(
    config: ConfigDict, wanted: Slice, table: prices.Prices, fast: bool = False
) -> Estimate:
    """Compile the step of `config` for `wanted` and say what it needs, takes and costs.

    Args:
        fast: compile with fewer optimisations.

    Raises:
        UserError: a mesh that the slice cannot hold, another chip's kernel, a missing compiler, or
            a missing price.
    """
    gpu.check(config, wanted)
    found = topology.devices(wanted)
    sizes = mesh.sizes(config.hardware.mesh, len(found))
    laid = topology.arrange(wanted, found, sizes)
    if wanted.chip not in gpu.SEEN:
        compiled = compile_step(config, laid, fast)
    elif gpu.compiles():  # soon enough, and fewer optimisations crash XLA
        compiled = compile_step(config, laid)
    else:
        compiled = None
    return count(config, wanted, table, sizes, laid, read_state(config), compiled)


def count(
    config: ConfigDict,
    wanted: Slice,
    table: prices.Prices,
    sizes: dict[str, int],
    laid: Sequence[Any],
    state: State,
    compiled: Compiled | None = None,
) -> Estimate:
    """Say what a step of `config` needs, takes and costs, compiled already or not at all.

    Args:
        sizes: the mesh, `laid` the devices in its order.

    Raises:
        UserError: a mesh that does not divide a parameter.
    """
    rests, fetched = state.split(config, sizes)
    ours = share(config, sizes, state.leaves())
    ledger = traffic.ledger(ours) if ours else None
    read, unread = _read(compiled, sizes)
    moved = read or hlo.Traffic() if ledger is None else ledger
    links = topology.spans(wanted, laid, sizes)
    step = roofline(config, ours, sizes, wanted, moved, links, rests)
    arguments = compiled.arguments if compiled else rests
    terms = memory.terms(config, ours, arguments, fetched) if ours else None
    return Estimate(
        config, wanted, table, sizes, rests, terms, ledger, step, compiled, read, unread
    )


def _read(compiled: Compiled | None, sizes: dict[str, int]) -> tuple[hlo.Traffic | None, str]:
    """The traffic of the compiled program, or why it is unknown."""
    if compiled is None:
        return None, "compiling for GPUs needs an extra: pip install -r requirements-gpus.txt"
    if compiled.refusal:
        return None, "the compiler refused the program"
    if compiled.text is None:
        return None, "the compiler cannot print this program"
    try:
        return hlo.traffic(compiled.text, sizes), ""
    except hlo.Unreadable as error:
        return None, str(error)
