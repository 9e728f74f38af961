"""What a compiled program says: the bytes its collectives move along each mesh axis.

Reads optimised HLO text. A collective's replica groups are matched with the mesh to name the axes
it runs along; the body of a loop counts as often as the loop turns.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2}
BYTES |= {"s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}

Traffic = Counter[tuple[tuple[str, ...], str]]  # (mesh axes, kind) -> bytes one device sends

Found = dict[str, tuple[int, int, tuple[tuple[str, ...], str]]]  # channel -> turns, bytes, key

_CHANNEL = re.compile(r"channel_id=(\d+)")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = (.*?) ([a-z][\w-]*)\((.*)$")
_SHAPE = re.compile(r"\b([a-z][a-z0-9]*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|body)=%?([\w.-]+)")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_NAMED = re.compile(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=(\S+))? \{([^}]*)\}")
_SUBAXIS = re.compile(r"'(\w+)'(?::\((\d+)\)(\d+))?")
_PAIRS = re.compile(r"source_target_pairs=\{(.*?)\}\}")
_LIMIT = re.compile(r"constant\((\d+)\)")


class Unreadable(Exception):
    """The text has something that this reader does not know: the answer is "unknown"."""


def traffic(text: str, sizes: dict[str, int]) -> Traffic:
    """Return the bytes that one device sends in a run of the program, by mesh axes and kind.

    With n devices in a group, of an array of B bytes (the gathered or the unreduced one) a device
    sends B (n - 1) / n to gather or to scatter it, twice that to reduce it everywhere, B (n - 1) /
    n to exchange it all to all, and B to permute it (a mean: some devices may send nothing).

    Args:
        text: optimised HLO.
        sizes: the mesh's axes and sizes; its devices are numbered in this order.

    Raises:
        Unreadable: a loop without a known number of turns, or groups that no mesh axes make.
    """
    computations, entry = _split(text)
    known: dict[str, Found] = {}

    def of(name: str) -> Found:
        if name not in known:
            known[name] = _found(name, computations, of, sizes)
        return known[name]

    moved: Traffic = Counter()
    for turns, sent, key in of(entry).values():
        moved[key] += turns * sent
    return moved


def _split(text: str) -> tuple[dict[str, list[str]], str]:
    """Lines of instructions by computation, and the name of the entry."""
    computations: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        if found := _COMPUTATION.match(line):
            lines = computations.setdefault(found[2], [])
            entry = found[2] if found[1] else entry
        elif " = " in line:
            lines.append(line)
    if not entry:
        raise Unreadable("no entry computation")
    return computations, entry


def _found(
    name: str,
    computations: dict[str, list[str]],
    of: Callable[[str], Found],
    sizes: dict[str, int],
) -> Found:
    """Collectives of one computation and of what it calls, by channel.

    A TPU runs one collective in steps, spread over fusions that overlap it with other work; all of
    them carry its channel, and the outermost says how often it runs.
    """
    found: Found = {}

    def add(channel: str, turns: int, sent: int, key: tuple[tuple[str, ...], str]) -> None:
        if channel not in found or turns < found[channel][0]:
            found[channel] = (turns, sent, key)

    scatters = "all-reduce-scatter" in name  # a TPU fusion: all-reduce, then each keeps its part
    for number, line in enumerate(computations.get(name, ())):
        matched = _INSTRUCTION.match(line)
        if not matched:
            continue
        result, operation, rest = matched.groups()
        kind = operation.removesuffix("-start")
        if kind in KINDS:
            axes, count = _group(rest, sizes)
            kind = "reduce-scatter" if scatters and kind == "all-reduce" else kind
            started = operation.endswith("-start")
            sent = round(_sent(kind, result, count, started, scatters) * _senders(rest, sizes))
            channel = _CHANNEL.search(rest)
            add(channel[1] if channel else f"{name}:{number}", 1, sent, (axes, kind))
        elif operation == "while":
            inside = of(_name(rest, "body"))
            turns = _turns(rest, computations) if inside else 0
            for channel, (times, sent, key) in inside.items():
                add(channel, turns * times, sent, key)
        elif operation == "conditional":
            branches = re.findall(r"%([\w.-]+)", rest.partition("branch_computations")[2])
            branches += re.findall(r"(?:true|false)_computation=%?([\w.-]+)", rest)
            if any(of(branch) for branch in branches):
                raise Unreadable("collectives that only some branches run")
        elif operation not in ("async-done", "async-update"):
            for called in _CALLED.findall(rest):
                for channel, each in of(called).items():
                    add(channel, *each)
    return found


def _sent(kind: str, result: str, count: int, started: bool, scatters: bool) -> float:
    """Bytes one device of `count` sends in one collective whose results have these shapes."""
    shapes = [(kind_, dims) for kind_, dims in _SHAPE.findall(result) if dims]
    if started and kind != "all-reduce":  # operands first
        shapes = shapes[len(shapes) // 2 :]
    size = float(sum(_bytes(*shape) for shape in shapes))
    share = (count - 1) / count
    if kind == "all-reduce":
        return 2 * share * size
    if kind == "reduce-scatter":  # its result is a part of what is reduced
        return share * size * (1 if scatters else count)
    return size if kind == "collective-permute" else share * size


def _senders(rest: str, sizes: dict[str, int]) -> float:
    """The share of the devices that send: in a permutation, those with somebody to send to."""
    found = _PAIRS.search(rest)
    return found[1].count("{") / math.prod(sizes.values()) if found else 1.0


def _bytes(kind: str, dims: str) -> int:
    if kind not in BYTES:
        raise Unreadable(f"arrays of type {kind}")
    return BYTES[kind] * math.prod(int(side) for side in dims.split(","))


def _name(rest: str, role: str) -> str:
    found = re.search(rf"{role}=%?([\w.-]+)", rest)
    if not found:
        raise Unreadable(f"a loop without a {role}")
    return found[1]


def _turns(rest: str, computations: dict[str, list[str]]) -> int:
    """Turns of a loop: said outright, or the one constant its condition compares a counter with."""
    if found := _TURNS.search(rest):
        return int(found[1])
    lines = computations.get(_name(rest, "condition"), [])
    limits = [found[1] for line in lines if (found := _LIMIT.search(line))]
    if len(limits) != 1 or not any("direction=LT" in line for line in lines):
        raise Unreadable("a loop that does not say how often it turns")
    return int(limits[0])


def _group(rest: str, sizes: dict[str, int]) -> tuple[tuple[str, ...], int]:
    """The mesh axes along which the groups of a collective lie, and the devices of one group."""
    if found := _PAIRS.search(rest):
        pairs = np.array([int(word) for word in re.findall(r"\d+", found[1])]).reshape(-1, 2)
        return _axes(pairs, sizes), 2
    if found := re.search(r"replica_groups=\{(\{.*?\})\}", rest):
        first = [int(word) for word in re.findall(r"\d+", found[1].partition("}")[0])]
    elif found := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", rest):
        shape, dims, order = (_numbers(word) for word in found.groups())
        places = np.arange(math.prod(dims)).reshape(dims)
        places = places.transpose(order) if order else places
        first = places.reshape(shape)[0].tolist()
    elif found := _NAMED.search(rest):
        first = _named_group(*found.groups())
    elif re.search(r"replica_groups=\{\}", rest):
        first = list(range(math.prod(sizes.values())))
    else:
        raise Unreadable("replica groups in an unknown form")
    return _axes(np.array([first]), sizes), len(first)


def _named_group(mesh: str, order: str | None, names: str) -> list[int]:
    """The first group along `'b'`, or along part of an axis, `'b':(2)4`, of a mesh `'a'=2,'b'=8`.

    `order` says which device is where, `([4,2]T(1,0))`; without it they are counted through.
    """
    sizes = {axis: int(size) for axis, size in re.findall(r"'(\w+)'=(\d+)", mesh)}
    places = np.arange(math.prod(sizes.values()))
    if order:
        found = re.fullmatch(r"\(?\[([\d,]+)\](?:T\(([\d,]+)\))?\)?", order)
        if not found:
            raise Unreadable(f"replica groups over devices {order}")
        places = places.reshape(_numbers(found[1]))
        places = places.transpose(_numbers(found[2])) if found[2] else places
    shape, along = [], []
    wanted = {axis: (before, part) for axis, before, part in _SUBAXIS.findall(names)}
    for axis, size in sizes.items():
        before, part = wanted.get(axis, ("", ""))
        cut = [int(before), int(part), size // int(before) // int(part)] if part else [1, size, 1]
        along += [len(shape) + 1] if axis in wanted else []
        shape += cut
    rest = [index for index in range(len(shape)) if index not in along]
    return (
        places.reshape(shape).transpose(rest + along).reshape(-1)[: _product(shape, along)].tolist()
    )


def _product(shape: list[int], along: list[int]) -> int:
    return math.prod(shape[index] for index in along)


def _axes(groups: np.ndarray, sizes: dict[str, int]) -> tuple[str, ...]:
    """Mesh axes along which the members of each row of `groups` differ."""
    if groups.size and groups.max() >= math.prod(sizes.values()):
        raise Unreadable("replica groups of more devices than the mesh has")
    coordinates = np.array(np.unravel_index(groups, list(sizes.values())))
    varies = (coordinates != coordinates[:, :, :1]).any(axis=(1, 2))
    return tuple(axis for axis, moves in zip(sizes, varies, strict=True) if moves)


def _numbers(text: str | None) -> list[int]:
    return [int(word) for word in text.split(",")] if text else []


def total(moved: Traffic, axes: Iterable[str] | None = None) -> int:
    """Bytes of all kinds, along exactly `axes` when they are given."""
    wanted = None if axes is None else tuple(axes)
    return sum(sent for (along, _), sent in moved.items() if wanted in (None, along))
