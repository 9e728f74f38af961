"""The loss and its gradient never depend on the layout: eight devices in any mesh equal one."""

import functools
from typing import Any

import jax
import numpy as np
import pytest

from launch import processes
from research import mesh
from tests.layouts import (
    autoencoder,
    blocks,
    dense,
    diffusion,
    dropless,
    flow,
    ladder,
    long,
    loss_and_gradient,
    mixture,
    recurrent,
    tables,
)


def assert_same(many: list[np.ndarray], one: list[np.ndarray]) -> None:
    """To 1e-5 of the loss, and 1e-4 of the norm of each parameter's gradient."""
    np.testing.assert_allclose(many[0], one[0], rtol=1e-5)
    for a, b in zip(many[1:], one[1:], strict=True):
        assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(b) + 1e-9


@pytest.fixture(scope="module")
def single(data_folder):
    """What one device computes, once for each family that is asked for."""

    @functools.cache
    def computed(make):
        return loss_and_gradient(make, jax.devices()[:1], str(data_folder))

    return computed


TOGETHER = [
    dict(mesh=dict(slice=2, fsdp=4)),
    dict(mesh=dict(data=2, fsdp=2, tensor=2)),
    dict(mesh=dict(fsdp=2, sequence=2, tensor=2)),
    dict(mesh=dict(slice=2, stage=2, fsdp=2)),
    dict(mesh=dict(stage=2, tensor=4), microbatches=4),
    dict(mesh=dict(fsdp=4, expert=2)),
    dict(mesh=dict(stage=4, sequence=2)),
    dict(mesh=dict(data=2, sequence=2, expert=2), attention="chunked"),
    dict(mesh=dict(fsdp=2, tensor=4), remat="full", attention="chunked"),
    dict(mesh=dict(fsdp=8), remat="dots", shard_optimizer=True),
]


def named(layout: dict) -> str:
    words = [f"{axis}{size}" for axis, size in layout["mesh"].items()]
    return "-".join([*words, *(str(v) for k, v in layout.items() if k in ("remat", "attention"))])


@pytest.mark.parametrize("layout", TOGETHER, ids=named)
@pytest.mark.parametrize("make", [dense, pytest.param(diffusion, marks=pytest.mark.slow)])
def test_axes_together(single, data_folder, make, layout):
    many = loss_and_gradient(make, jax.devices(), str(data_folder), **layout)
    assert_same(many, single(make))


@pytest.mark.slow
@pytest.mark.parametrize("layout", [TOGETHER[1], TOGETHER[3], TOGETHER[6]], ids=named)
def test_tables_and_the_token_before_on_a_mesh(single, data_folder, layout):
    many = loss_and_gradient(tables, jax.devices(), str(data_folder), **layout)
    assert_same(many, single(tables))


@pytest.mark.slow
@pytest.mark.parametrize("layout", [TOGETHER[i] for i in (1, 3, 7)], ids=named)
def test_blocks_one_after_another_on_a_mesh(single, data_folder, layout):
    many = loss_and_gradient(blocks, jax.devices(), str(data_folder), **layout)
    assert_same(many, single(blocks))


@pytest.mark.slow  # one layer alone: tests/models/test_moe.py
@pytest.mark.parametrize(
    "sizes", [dict(stage=2, expert=2, tensor=2), dict(fsdp=2, sequence=2, expert=2)], ids=str
)
def test_experts_that_drop_nobody_on_a_mesh(single, data_folder, sizes):
    layout: dict[str, Any] = dict(mesh=sizes)
    many = loss_and_gradient(dropless, jax.devices(), str(data_folder), **layout)
    assert_same(many, single(dropless))


RECURRENT = [TOGETHER[2], *(pytest.param(TOGETHER[i], marks=pytest.mark.slow) for i in (1, 6, 8))]


@pytest.mark.slow
@pytest.mark.parametrize("layout", RECURRENT, ids=named)
def test_a_recurrence_on_a_mesh(single, data_folder, layout):
    many = loss_and_gradient(recurrent, jax.devices(), str(data_folder), **layout)
    assert_same(many, single(recurrent))


CONVOLUTIONS = [
    TOGETHER[1],
    *(pytest.param(TOGETHER[i], marks=pytest.mark.slow) for i in (2, 5, 9)),
]


@pytest.mark.parametrize("layout", CONVOLUTIONS, ids=named)
def test_an_autoencoder_on_a_mesh(single, data_folder, layout):
    many = loss_and_gradient(autoencoder, jax.devices(), str(data_folder), **layout)
    assert_same(many, single(autoencoder))


@pytest.mark.parametrize("layout", CONVOLUTIONS, ids=named)
def test_a_flow_on_a_mesh(single, data_folder, layout):
    many = loss_and_gradient(flow, jax.devices(), str(data_folder), **layout)
    assert_same(many, single(flow))


@pytest.mark.parametrize(
    "layout", [TOGETHER[1], pytest.param(TOGETHER[6], marks=pytest.mark.slow)], ids=named
)
def test_a_ladder_on_a_mesh(single, data_folder, layout):
    many = loss_and_gradient(ladder, jax.devices(), str(data_folder), **layout)
    assert_same(many, single(ladder))


@pytest.mark.parametrize("axis", mesh.AXES)
@pytest.mark.parametrize(
    "make", [dense, *(pytest.param(make, marks=pytest.mark.slow) for make in (mixture, diffusion))]
)
def test_an_axis_alone(single, data_folder, make, axis):
    split = 2 if make is mixture else 4
    many = loss_and_gradient(make, jax.devices()[:split], str(data_folder), mesh={axis: split})
    assert_same(many, single(make))


@pytest.mark.slow
def test_the_kernel_of_tpus_on_a_mesh(data_folder):
    """Interpreted, each device on its own examples and heads."""
    folder = str(data_folder)
    one = loss_and_gradient(long, jax.devices()[:1], folder)
    split = dict(fsdp=2, tensor=2)
    assert_same(
        loss_and_gradient(long, jax.devices()[:4], folder, mesh=split, attention="splash"), one
    )


@pytest.mark.slow
@pytest.mark.parametrize("count, makes", [(2, [dense, mixture, diffusion]), (4, [dense])])
def test_several_processes(single, data_folder, tmp_path, monkeypatch, count, makes):
    """Eight devices, four or two to a process."""
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    command = ["tests.layouts", str(data_folder), str(tmp_path), *(m.__name__ for m in makes)]
    team = processes.start(command, [[]] * count, devices=8 // count)
    assert processes.watch(team)[1] == 0
    for make in makes:
        with np.load(tmp_path / f"{make.__name__}.npz") as found:
            assert_same([found[f"arr_{index}"] for index in range(len(found))], single(make))


def test_rows_share_as_many_devices_as_divide_them():
    """All of eight or a part; where a mesh splits anything else, all."""
    wanted = mesh.default_mesh()
    assert [len(mesh.for_rows(wanted, rows)) for rows in (16, 12, 7, 1)] == [8, 6, 7, 1]
    wanted.tensor = 2
    assert len(mesh.for_rows(wanted, 1)) == 8
