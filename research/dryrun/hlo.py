"""What a compiled program says: the bytes its collectives move along each mesh axis.

Reads optimised HLO text. A collective's replica groups are matched with the mesh to name the axes
it runs along; the body of a loop counts as often as the loop turns.
"""

import functools
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

    @functools.cache
    def of(name: str) -> Found:
        return _found(name, computations.get(name, ()), of, computations, sizes)

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
    lines: Iterable[str],
    of: Callable[[str], Found],
    computations: dict[str, list[str]],
    sizes: dict[str, int],
) -> Found:
    """Collectives of the `lines` of one computation and of what it calls, by channel.

    A TPU runs one collective in steps, spread over fusions that overlap it with other work; all of
    them carry its channel, and the outermost says how often it runs.
    """
    found: Found = {}

    def add(inside: Found, turns: int = 1) -> None:
        for channel, (times, sent, key) in inside.items():
            if channel not in found or turns * times < found[channel][0]:
                found[channel] = (turns * times, sent, key)

    scatters = "all-reduce-scatter" in name  # a TPU fusion: all-reduce, then each keeps its part
    for number, line in enumerate(lines):
        if not (matched := _INSTRUCTION.match(line)):
            continue
        result, operation, rest = matched.groups()
        kind = operation.removesuffix("-start")
        if kind in KINDS:
            axes, count = _group(rest, sizes)
            kind = "reduce-scatter" if scatters and kind == "all-reduce" else kind
            sent = _sent(kind, result, count, kind != operation, scatters)
            if pairs := _PAIRS.search(rest):  # only those with somebody to send to do
                sent *= pairs[1].count("{") / math.prod(sizes.values())
            channel = _CHANNEL.search(rest)
            add({channel[1] if channel else f"{name}:{number}": (1, round(sent), (axes, kind))})
        elif operation == "while":
            inside = of(_name(rest, "body"))
            add(inside, _turns(rest, computations) if inside else 0)
        elif operation == "conditional":
            branches = re.findall(r"%([\w.-]+)", rest.partition("branch_computations")[2])
            branches += re.findall(r"(?:true|false)_computation=%?([\w.-]+)", rest)
            if any(map(of, branches)):
                raise Unreadable("collectives that only some branches run")
        elif operation not in ("async-done", "async-update"):
            for called in _CALLED.findall(rest):
                add(of(called))
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
        return _axes(np.array(_numbers(found[1])).reshape(-1, 2), sizes), 2
    if found := re.search(r"replica_groups=\{(\{.*?\})\}", rest):
        first = np.array(_numbers(found[1].partition("}")[0]))
    elif found := re.search(r"replica_groups=\[([\d,]+)\]<=(\S+)", rest):
        first = _places(found[2]).reshape(_numbers(found[1]))[0]
    elif found := _NAMED.search(rest):
        first = _named_group(*found.groups())
    elif "replica_groups={}" in rest:
        first = np.arange(math.prod(sizes.values()))
    else:
        raise Unreadable("replica groups in an unknown form")
    return _axes(first[None], sizes), first.size


def _named_group(mesh: str, order: str | None, names: str) -> np.ndarray:
    """The first group along `'b'`, or along part of an axis, `'b':(2)4`, of a mesh `'a'=2,'b'=8`.

    `order` says which device is where, `([4,2]T(1,0))`; without it they are counted through.
    """
    sizes = {axis: int(size) for axis, size in re.findall(r"'(\w+)'=(\d+)", mesh)}
    places = _places(order) if order else np.arange(math.prod(sizes.values()))
    wanted = {axis: (before, part) for axis, before, part in _SUBAXIS.findall(names)}
    shape, along = [], []
    for axis, size in sizes.items():
        before, part = (int(each or 0) for each in wanted.get(axis, ("", "")))
        along += [len(shape) + 1] if axis in wanted else []
        shape += [before, part, size // before // part] if part else [1, size, 1]
    last = np.moveaxis(places.reshape(shape), along, range(-len(along), 0))
    return last.reshape(-1, math.prod(shape[index] for index in along))[0]


def _places(order: str) -> np.ndarray:
    """Devices in the order `[4,2]T(1,0)`: counted through as a [4, 2], then transposed."""
    if not (found := re.match(r"\(?\[([\d,]+)\](?:T\(([\d,]+)\))?", order)):
        raise Unreadable(f"replica groups over devices {order}")
    places = np.arange(math.prod(_numbers(found[1]))).reshape(_numbers(found[1]))
    return places.transpose(_numbers(found[2])) if found[2] else places


def _axes(groups: np.ndarray, sizes: dict[str, int]) -> tuple[str, ...]:
    """Mesh axes along which the members of each row of `groups` differ."""
    if groups.size and groups.max() >= math.prod(sizes.values()):
        raise Unreadable("replica groups of more devices than the mesh has")
    coordinates = np.array(np.unravel_index(groups, list(sizes.values())))
    varies = (coordinates != coordinates[:, :, :1]).any(axis=(1, 2))
    return tuple(axis for axis, moves in zip(sizes, varies, strict=True) if moves)


def _numbers(text: str) -> list[int]:
    return [int(word) for word in re.findall(r"\d+", text)]
