"""How a process that trains is set up: compiled programs are kept, and so is freed memory."""

import ctypes
import sys
import warnings
from pathlib import Path

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def prepare(folder: Path) -> None:
    """Set this process up to train runs below `folder`; call it before the first compile."""
    keep_programs(folder)
    keep_memory()


def keep_programs(folder: Path) -> None:
    """Keep compiled programs in `folder`/.cache/xla; on a full disk it is of no use, no more."""
    import jax

    warnings.filterwarnings("ignore", "Error (read|writ)ing persistent compilation cache")
    jax.config.update("jax_compilation_cache_dir", str((folder / ".cache" / "xla").absolute()))
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
