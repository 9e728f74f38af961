"""Bytes read in compiled programs are those the program must send."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from research.dryrun import hlo

SIZES = {"data": 2, "fsdp": 4}
BYTES = 64 * 128 * 4  # of the array below
PLACE = PartitionSpec("data", "fsdp")


def compiled(function, place=PLACE, out=PLACE):
    grid = Mesh(
        np.array(jax.devices()).reshape(2, 4), tuple(SIZES), axis_types=(AxisType.Auto,) * 2
    )
    mapped = jax.shard_map(function, mesh=grid, in_specs=place, out_specs=out, check_vma=False)
    x = jax.ShapeDtypeStruct((64, 128), jnp.float32, sharding=NamedSharding(grid, place))
    return jax.jit(mapped).lower(x).compile().as_text() or ""


def repeated(times):
    def body(x, _):
        return jax.lax.psum(x, "fsdp") * 0.5, None

    return lambda x: jax.lax.scan(body, x, None, length=times)[0]


@pytest.mark.parametrize(
    "function, out, axes, kind, sent",
    [
        # A device has 1/8 of the array, and sends it to the others of its group.
        (
            lambda x: jax.lax.all_gather(x, "fsdp", axis=1, tiled=True),
            PartitionSpec("data", None),
            ("fsdp",),
            "all-gather",
            BYTES / 2 * 3 / 4,
        ),
        (lambda x: jax.lax.psum(x, "data"), PLACE, ("data",), "all-reduce", 2 * BYTES / 8 / 2),
        (
            lambda x: jax.lax.psum(x, ("data", "fsdp")),
            PLACE,
            ("data", "fsdp"),
            "all-reduce",
            2 * BYTES / 8 * 7 / 8,
        ),
        (
            lambda x: jax.lax.psum_scatter(x, "fsdp", scatter_dimension=0, tiled=True),
            PartitionSpec(("data", "fsdp"), None),
            ("fsdp",),
            "reduce-scatter",
            BYTES / 8 * 3 / 4,
        ),
        (
            lambda x: jax.lax.all_to_all(x, "fsdp", 0, 1, tiled=True),
            PartitionSpec(("data", "fsdp"), None),
            ("fsdp",),
            "all-to-all",
            BYTES / 8 * 3 / 4,
        ),
        (
            lambda x: jax.lax.ppermute(x, "fsdp", [(i, (i + 1) % 4) for i in range(4)]),
            PLACE,
            ("fsdp",),
            "collective-permute",
            BYTES / 8,
        ),
        (  # half of the devices send
            lambda x: jax.lax.ppermute(x, "fsdp", [(0, 1), (2, 3)]),
            PLACE,
            ("fsdp",),
            "collective-permute",
            BYTES / 8 / 2,
        ),
        (repeated(7), PLACE, ("fsdp",), "all-reduce", 7 * 2 * BYTES / 8 * 3 / 4),
    ],
)
def test_what_a_real_program_sends(function, out, axes, kind, sent):
    assert hlo.traffic(compiled(function, out=out), SIZES) == {(axes, kind): sent}


# As libtpu and XLA's GPU compiler print them: started collectives, fusions, loops and groups.
PROGRAM = """HloModule step, is_scheduled=true

%condition (p: (s32[], f32[8])) -> pred[] {{
  %limit = s32[]{{:T(128)}} constant(32)
  %p = (s32[]{{:T(128)}}, f32[8]{{0}}) parameter(0)
  %count = s32[]{{:T(128)}} get-tuple-element(%p), index=0
  ROOT %less = pred[]{{:T(512)}} compare(%count, %limit), direction=LT
}}

%all-reduce-scatter.1 (q: f32[1024]) -> f32[256] {{
  %q = f32[1024]{{0}} parameter(0)
  %all-reduce.9 = f32[1024]{{0}} all-reduce(%q), {groups}, to_apply=%add
  ROOT %mine = f32[256]{{0}} dynamic-slice(%all-reduce.9, %start), dynamic_slice_sizes={{256}}
}}

%body (p.1: (s32[], f32[8])) -> (s32[], f32[8]) {{
  %started = (bf16[64]{{0}}, bf16[256]{{0:T(8)}}) all-gather-start(%x), {groups}, dimensions={{0}}
  %done = bf16[256]{{0}} all-gather-done(%started)
  %scatter = f32[256]{{0}} fusion(%y), kind=kCustom, calls=%all-reduce-scatter.1
  ROOT %next = (s32[]{{:T(128)}}, f32[8]{{0}}) tuple(%count, %scatter)
}}

ENTRY %main (a: f32[8]) -> f32[8] {{
  %loop = (s32[]{{:T(128)}}, f32[8]{{0}}) while(%first), condition=%condition, body=%body
  ROOT %out = f32[8]{{0}} get-tuple-element(%loop), index=1
}}
"""
GROUPS = [
    "replica_groups={{0,1,2,3},{4,5,6,7}}",
    "replica_groups=[2,4]<=[8]",
    "replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}",
    "replica_groups=mesh['axis_0'=8] {'axis_0':(2)4}",
    "replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}",
]


@pytest.mark.parametrize("groups", GROUPS)
def test_loops_fusions_and_every_form_of_groups(groups):
    along = ("fsdp",)
    assert hlo.traffic(PROGRAM.format(groups=groups), SIZES) == {
        (along, "all-gather"): 32 * 512 * 3 / 4,
        (along, "reduce-scatter"): 32 * 4096 * 3 / 4,
    }


STARTED = """ENTRY %main (a: f32[1024]) -> f32[256] {
  %gather = (bf16[64]{0}, bf16[256]{0}) all-gather-start(%x), replica_groups=[2,4]<=[8]
  %scatter = ((f32[1024]{1,0}), f32[256]{0}) reduce-scatter-start(%a), replica_groups=[2,4]<=[8]
  %exchange = ((f32[512]{0}), f32[512]{0}) all-to-all-start(%a), replica_groups=[2,4]<=[8]
  %sum = f32[128]{0} all-reduce-start(%a), replica_groups=[2,4]<=[8]
  %on = (f32[64]{0}, f32[64]{0}, u32[], u32[]) collective-permute-start(%a), PAIRS
  ROOT %done = f32[256]{0} reduce-scatter-done(%scatter)
}
""".replace("PAIRS", "source_target_pairs={{0,1},{1,2},{2,3},{3,0},{4,5},{5,6},{6,7},{7,4}}")


def test_started_collectives_list_what_they_take_before_what_they_give():
    assert hlo.traffic(STARTED, SIZES) == {
        (("fsdp",), "all-gather"): 512 * 3 / 4,
        (("fsdp",), "reduce-scatter"): 4096 * 3 / 4,
        (("fsdp",), "all-to-all"): 2048 * 3 / 4,
        (("fsdp",), "all-reduce"): 2 * 512 * 3 / 4,
        (("fsdp",), "collective-permute"): 256,
    }


STEPS = """%condition (p: (s32[])) -> pred[] {
  %limit = s32[] constant(8)
  ROOT %less = pred[] compare(%count, %limit), direction=LT
}

%step (p: bf16[64]) -> bf16[256] {
  ROOT %part = bf16[256]{0} all-gather(%p), channel_id=3, replica_groups=[2,4]<=[8], dimensions={0}
}

%inner (p: (s32[])) -> (s32[]) {
  %some = bf16[256]{0} fusion(%p), kind=kOutput, calls=%step
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %first = bf16[256]{0} all-gather(%a), channel_id=3, replica_groups=[2,4]<=[8], dimensions={0}
  %loop = (s32[]) while(%first), condition=%condition, body=%inner
  %last = bf16[256]{0} fusion(%loop), kind=kCustom, calls=%step
  ROOT %other = f32[64]{0} all-reduce(%last), channel_id=4, replica_groups=[2,4]<=[8], to_apply=%add
}
"""


def test_a_collective_that_runs_in_steps_is_counted_once():
    """Its start, its parts inside a loop of other work and its end carry one channel."""
    assert hlo.traffic(STEPS, SIZES) == {
        (("fsdp",), "all-gather"): 512 * 3 / 4,
        (("fsdp",), "all-reduce"): 2 * 256 * 3 / 4,
    }


@pytest.mark.parametrize(
    "groups, axes",
    [
        ("replica_groups=[4,2]<=[2,4]T(1,0)", ("data",)),
        ("replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}", ("data",)),
        ("replica_groups={}", ("data", "fsdp")),
    ],
)
def test_groups_name_their_axes(groups, axes):
    assert {along for along, _ in hlo.traffic(PROGRAM.format(groups=groups), SIZES)} == {axes}


@pytest.mark.parametrize(
    "text, said",
    [
        (PROGRAM.format(groups="replica_groups=[1,16]<=[16]"), "more devices than the mesh"),
        (PROGRAM.format(groups="replica_groups=V2"), "unknown form"),
        (PROGRAM.format(groups=GROUPS[0]).replace("direction=LT", "direction=NE"), "how often"),
        (PROGRAM.format(groups=GROUPS[0]).replace("bf16", "f4e2m1"), "arrays of type f4e2m1"),
        ("HloModule step", "no entry"),
    ],
)
def test_what_cannot_be_read_is_said_not_guessed(text, said):
    with pytest.raises(hlo.Unreadable, match=said):
        hlo.traffic(text, SIZES)
