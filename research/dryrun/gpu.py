"""GPUs that are not here, described for XLA's compiler, which then needs no driver and no CUDA.

An optional extra: jax-cuda12-plugin. What a program can see of a GPU is from NVIDIA: the CUDA C++
Programming Guide, "Technical specifications per compute capability", and the white papers of A100
(2020, table 4) and H100 (2022, tables 3 and 4).
"""

import importlib.util
from collections.abc import Sequence
from typing import Any

from jax.experimental import topologies
from ml_collections import ConfigDict

from research import runtime
from research.errors import UserError
from research.hardware import Slice

KIB = 2**10
# Of one streaming multiprocessor: its compute capability, float32 lanes, shared memory and the most
# of that one block may take; of the chip: how many there are, their clock, the L2 cache.
SEEN: dict[str, dict[str, Any]] = {
    "a100": dict(
        name="NVIDIA A100-SXM4-80GB", major=8, minor=0, fpus=64, shared=164 * KIB, block=163 * KIB,
        cores=108, clock=1.41, cache=40 * 2**20, memory=80 * 10**9,
    ),
    "h100": dict(
        name="NVIDIA H100 80GB HBM3", major=9, minor=0, fpus=128, shared=228 * KIB, block=227 * KIB,
        cores=132, clock=1.98, cache=50 * 2**20, memory=80 * 10**9,
    ),
}  # fmt: skip
# A message of XLA's type GpuTargetConfigProto; the limits on grids, threads and registers are the
# same for all capabilities since 3.5.
TARGET = """
platform_name: "CUDA"
device_description_str: "{name}"
dnn_version_info {{ major: 9 }}
gpu_device_info {{
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  core_count: {cores}
  fpus_per_core: {fpus}
  clock_rate_ghz: {clock}
  memory_bandwidth: {bandwidth}
  device_memory_size: {memory}
  l2_cache_size: {cache}
  shared_memory_per_core: {shared}
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: {block}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
}}
"""


def compiles() -> bool:
    """Whether XLA's compiler for NVIDIA is installed."""
    return importlib.util.find_spec("jax_cuda12_plugin") is not None


def check(config: ConfigDict, wanted: Slice) -> None:
    """Refuse a kernel of attention that the chip cannot run.

    Raises:
        UserError: naming the key.
    """
    if wanted.chip not in SEEN and config.hardware.attention == "cudnn":
        raise UserError(
            "config.hardware.attention=cudnn is a kernel for NVIDIA's GPUs;"
            f" for {wanted.chip} give --config.hardware.attention=splash or chunked"
        )
    if wanted.chip in SEEN and config.hardware.attention == "splash":
        raise UserError(
            "config.hardware.attention=splash is a kernel for TPUs;"
            f" for {wanted.chip} give --config.hardware.attention=chunked or cudnn"
        )


def devices(wanted: Slice) -> Sequence[Any]:
    """Return the GPUs of `wanted` for the compiler, or numbers where there is none."""
    if not compiles():
        return range(wanted.num_devices)
    hosts = -(-wanted.num_devices // wanted.kind.chips_per_host)
    shape = f"1x{hosts}x{wanted.num_devices // hosts}"
    target = TARGET.format(bandwidth=round(wanted.kind.memory_bandwidth), **SEEN[wanted.chip])
    with runtime.silent():  # CUDA's stubs say that there is no driver
        return topologies.get_topology_desc(
            platform="cuda", topology_name=str(wanted), topology=shape, target_config=target
        ).devices
