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


def options(name: str) -> dict[str, dataclasses.Field]:
    """The options of the backend `name`, none of `LOCAL`.

    Raises:
        UserError: when there is no such backend, naming the nearest one.
    """
    names = (LOCAL, *BACKENDS)
    if name not in names:
        raise UserError(f"--backend {name!r}{nearest(name, names)}; one of {', '.join(names)}")
    fields = dataclasses.fields(BACKENDS[name]) if name in BACKENDS else ()
    return {field.name: field for field in fields}


def name_of(backend: Backend) -> str:
    return next(name for name, kind in BACKENDS.items() if isinstance(backend, kind))


def make(name: str, given: Mapping[str, Any]) -> Backend:
    """Return the backend `name` with the options `given`.

    Raises:
        UserError: when a required one is missing, one does not exist, or is not of its form.
    """
    known = options(name)
    for key in given:
        if key not in known:
            raise UserError(f"--backend {name} has no option {key!r}{nearest(key, known)}")
    for key, field in known.items():
        value = given.get(key, field.default)
        if field.metadata["required"] and not value:
            raise UserError(f"--{key} is missing: {field.metadata['help']}")
        if isinstance(field.default, bool):
            if not isinstance(value, bool):
                raise UserError(f"--{key} {value!r}: expected true or false")
        elif isinstance(field.default, int):
            job.check_number(key, value, field.metadata["low"])
        elif value != "":
            field.metadata["form"].check(key, value)
    return BACKENDS[name](**given)


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Declare the options of the backend `name`."""
    if name == LOCAL:
        parser.add_argument("--workers", type=int, default=2, help="runs trained at a time")
        parser.add_argument(
            "--batch", type=int, default=1, help="runs of one shape that a worker trains as one"
        )
        parser.add_argument(
            "--stop_hopeless",
            action="store_true",
            help="stop a run that is far behind one which differs only in what is tuned",
        )
        processes.add_arguments(parser)
        return
    group = parser.add_argument_group(f"options of --backend {name}")
    for key, field in options(name).items():
        flag = isinstance(field.default, bool)
        how: dict[str, Any] = {"action": "store_true"} if flag else {"type": type(field.default)}
        group.add_argument(f"--{key}", default=field.default, help=field.metadata["help"], **how)


def owner(option: str) -> str:
    """A hint that names the backend that has `option`, or an empty string."""
    if option == "env":
        return " (the workers of this machine inherit your environment; it goes with --backend)"
    here = option in ("workers", "batch", "stop_hopeless")
    names = [LOCAL] if here else [n for n in BACKENDS if option in options(n)]
    return f" (an option of --backend {names[0]})" if names else ""
