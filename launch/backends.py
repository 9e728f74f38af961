"""The backends by name, and their options on the command line."""

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any

from launch import job, processes
from launch.gke import Gke
from launch.job import Backend
from launch.slurm import Slurm
from launch.tpu_vm import TpuVm
from research.errors import UserError, nearest

BACKENDS: dict[str, type] = {"slurm": Slurm, "tpu-vm": TpuVm, "gke": Gke}
LOCAL = "local"  # worker processes of this machine (launch/local.py), which are no job


def check_name(name: str) -> str:
    """Return `name` if it is a backend.

    Raises:
        UserError: naming the nearest one that is.
    """
    names = (LOCAL, *BACKENDS)
    if name not in names:
        raise UserError(f"--backend {name!r}{nearest(name, names)}; one of {', '.join(names)}")
    return name


def name_of(backend: Backend) -> str:
    return next(name for name, kind in BACKENDS.items() if isinstance(backend, kind))


def make(name: str, options: Mapping[str, Any]) -> Backend:
    """Return the backend `name` with `options`, those of its fields.

    Raises:
        UserError: when a required one is missing, one does not exist, or is not of its form.
    """
    kind = BACKENDS[check_name(name)]
    known = {field.name: field for field in dataclasses.fields(kind)}
    for key in options:
        if key not in known:
            raise UserError(f"--backend {name} has no option {key!r}{nearest(key, known)}")
    for key, field in known.items():
        value = options.get(key, field.default)
        if field.metadata["required"] and not value:
            raise UserError(f"--{key} is missing: {field.metadata['help']}")
        if isinstance(field.default, bool):
            if not isinstance(value, bool):
                raise UserError(f"--{key} {value!r}: expected true or false")
        elif isinstance(field.default, int):
            job.check_number(key, value, field.metadata["low"])
        elif value != "":
            field.metadata["form"].check(key, value)
    return kind(**options)


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Declare the options of the backend `name`."""
    if name == LOCAL:
        parser.add_argument("--workers", type=int, default=2, help="runs trained at a time")
        processes.add_arguments(parser)
        return
    group = parser.add_argument_group(f"options of --backend {name}")
    for field in dataclasses.fields(BACKENDS[name]):
        text = field.metadata["help"]
        if isinstance(field.default, bool):
            group.add_argument(f"--{field.name}", action="store_true", help=text)
        else:
            kind = type(field.default)
            group.add_argument(f"--{field.name}", type=kind, default=field.default, help=text)


def from_arguments(args: argparse.Namespace, name: str) -> Backend:
    """Return the backend `name` with the options that `add_options` declared."""
    names = [field.name for field in dataclasses.fields(BACKENDS[name])]
    return make(name, {key: getattr(args, key) for key in names})


def owner(option: str) -> str:
    """A hint that names the backend that has `option`, or an empty string."""
    for name, kind in BACKENDS.items():
        if option in {field.name for field in dataclasses.fields(kind)}:
            return f" (an option of --backend {name})"
    if option == "env":
        return " (the workers of this machine inherit your environment; it goes with --backend)"
    return f" (an option of --backend {LOCAL})" if option == "workers" else ""
