"""Every test sees 8 CPU devices, one compilation cache, the same hypothesis examples each time."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["WANDB_MODE"] = "disabled"  # runs of tests are nobody's business

import hypothesis
import jax
import pytest

ROOT = Path(__file__).resolve().parent.parent

# Before anything asks JAX for a device: the number cannot change afterwards.
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)

# Kept between runs and shared by the pytest workers: compiling is most of what tests wait for.
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# Tests wait for LLVM more than for arithmetic, so that their programs are left plain. XLA reads its
# flags once, when there are devices: other processes, and the compiler for TPUs, which ends the
# process at a flag that it does not know, are given the first of them alone.
_given = os.environ.get("XLA_FLAGS", "")
_plain = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{_given} {_plain}"
jax.devices()
os.environ["XLA_FLAGS"] = f"{_given} --xla_backend_optimization_level=1"

hypothesis.settings.register_profile(
    "ci", derandomize=True, deadline=None, database=None, max_examples=25
)
hypothesis.settings.load_profile("ci")


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where this run's data sets are prepared, once for all pytest workers."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    return folder / "data"


@pytest.fixture(scope="module", autouse=True)
def _programs_are_let_go() -> Iterator[None]:
    """A process that keeps the programs of all modules compiles and frees others at a third."""
    yield
    jax.clear_caches()
