"""How a process that trains is set up: the others of its run, compiled programs, freed memory."""

import contextlib
import ctypes
import functools
import glob
import importlib
import importlib.util
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.run import storage

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


# Seconds after which a process that is silent, or does not come or go with the others, is lost.
HEARTBEAT, COMING, GOING = 30, 300, 60
LOOPBACK = "127.0.0.1"


def join(count: int | None = None) -> None:
    """Become one of the `count` processes of a run; call it before anything asks JAX for a device.

    Where JAX_PROCESS_ID is set (`launch.processes`), JAX_NUM_PROCESSES and JAX_COORDINATOR_ADDRESS
    say the rest; processes that meet on this machine listen to nobody outside it. Otherwise JAX
    reads what the backend leaves in the environment: SLURM_* of srun's tasks; TPU_WORKER_ID,
    TPU_WORKER_HOSTNAMES and MEGASCALE_* on GKE; the metadata server on a TPU VM. When one of the
    processes is lost, JAX ends the others after `HEARTBEAT` seconds.

    Args:
        count: how many the backend started; None: JAX_NUM_PROCESSES, or this one alone.

    Raises:
        UserError: when the environment shows another number of processes.
    """
    count = count or int(os.environ.get("JAX_NUM_PROCESSES", "1"))
    if count == 1:
        return
    import jax

    # Its own handler would swallow the SIGTERM that the loop waits for.
    jax.config.update("jax_enable_preemption_service", False)
    named: dict[str, Any] = {}
    if "JAX_PROCESS_ID" in os.environ:
        address = os.environ["JAX_COORDINATOR_ADDRESS"]
        named = {"coordinator_address": address, "num_processes": count}
        named |= {"process_id": int(os.environ["JAX_PROCESS_ID"])}
        if address.startswith(f"{LOOPBACK}:"):
            named["coordinator_bind_address"] = address  # by default, every interface
            _reduce_on_loopback()
    elif gpus := os.environ.get("SLURM_GPUS_ON_NODE"):
        # Under SLURM JAX gives each task one GPU; ours has all of its machine's.
        named = {"local_device_ids": list(range(int(gpus)))}
    jax.distributed.initialize(
        **named,
        initialization_timeout=COMING,
        heartbeat_timeout_seconds=HEARTBEAT,
        shutdown_timeout_seconds=GOING,
    )
    if jax.process_count() != count:
        raise UserError(
            f"this run is {count} processes, but its environment shows {jax.process_count()}"
        )


def _reduce_on_loopback() -> None:
    """Have gloo, which adds up what CPUs send each other, listen on the loopback interface.

    JAX names no host to it, and by default it takes the address that this machine's name has.
    """
    from jax._src.lib import _jax  # pyright: ignore[reportPrivateImportUsage]

    everywhere = _jax.make_gloo_tcp_collectives
    _jax.make_gloo_tcp_collectives = functools.partial(everywhere, hostname=LOOPBACK)


def leave(code: int) -> None:
    """End this process at once with exit code `code`, if others wait for what it cannot do."""
    jax = sys.modules.get("jax")
    if jax and jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def follow() -> socket.socket | None:
    """Stop, with the state saved, when the process that started this one is gone.

    Returns the socket to that process when it gave one (`launch.processes`).
    """
    number = os.environ.pop("ISOFLOP_LINE", None)
    if number is None:
        return None
    line = socket.socket(fileno=int(number))

    def wait() -> None:
        line.recv(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
    return line


def quiet_compilers() -> None:
    """Keep XLA's and libtpu's notes off the terminal; call it before JAX is imported.

    Where libtpu is installed for dry runs and no TPU is there, it would ask a metadata server
    about one, complain, and let only one process load it; the plugin for CUDA would complain that
    CUDA is not there.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not glob.glob("/dev/accel*") + glob.glob("/dev/vfio/[0-9]*"):
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
        os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
        os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    if importlib.util.find_spec("jax_cuda12_plugin") and not glob.glob("/dev/nvidia*"):
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        with silent():
            importlib.import_module("jax")


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Drop what libraries write to stderr past Python, as CUDA's stubs do where it is not there."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def prepare(folder: Path) -> None:
    """Set this process up to train runs below `folder`; call it before the first compile."""
    keep_programs(folder)
    keep_memory()


def keep_programs(folder: Path) -> None:
    """Keep compiled programs in `folder`/.cache/xla; on a full disk it is of no use, no more."""
    import jax

    cache = folder / ".cache" / "xla"
    cache = cache if storage.remote(cache) else cache.absolute()
    warnings.filterwarnings("ignore", "Error (read|writ)ing persistent compilation cache")
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def keep_memory() -> None:
    """Let malloc reuse what a step frees instead of handing it back to the system.

    XLA's CPU client allocates a step's temporaries anew each time; with glibc's defaults they are
    mapped, faulted in page by page and unmapped again, a quarter of the time of a small step.
    Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_ARENA_MAX, 1)


def set_up_logging() -> None:
    """Show our warnings, a line each; what Orbax and TFDS log as errors they raise as well."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sys.unraisablehook = _unraisable


def _unraisable(found: Any) -> None:
    # TensorStore answers after a failed restore or save was given up; nobody waits for it then.
    if str(found.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(found)
