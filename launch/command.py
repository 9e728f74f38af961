"""`python -m research sweep`: the trials of a study, here or on other machines."""

import argparse
import dataclasses
import os
import secrets
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from launch import backends, follow, job, journal, local, processes, tpu, variables
from launch.job import JobSpec
from launch.run import Element, argv
from research import counts, hardware, mesh, rivals, study, trunks
from research.config import preset_flags
from research.errors import UserError, nearest
from research.run import profiling, storage

THEN = f"afterwards: python -m research sweep {'|'.join(follow.COMMANDS)} WORKDIR/<name>"
Parser = Callable[..., argparse.ArgumentParser]


def run(words: Sequence[str], make_parser: Parser) -> int:
    """Run `sweep`, or one of its subcommands when the first word names it; return the exit code."""
    if words and words[0] in follow.COMMANDS:
        return follow.run(words[0], words[1:], make_parser)
    if words and not words[0].startswith("-"):
        raise UserError(
            f"sweep {words[0]!r}{nearest(words[0], follow.COMMANDS)}: expected options, such as "
            f"--config FILE, or one of {', '.join(follow.COMMANDS)}"
        )
    parser = make_parser("sweep")
    parser.add_argument("--config", required=True, help="experiments/NAME.py, or NAME.py:part")
    parser.add_argument("--hardware", metavar="FILE", help="a preset: JSON of config.hardware")
    parser.add_argument("--workdir", default="runs", help="the study goes to WORKDIR/<name>")
    parser.add_argument("--dry_run", action="store_true", help="print the trials, run nothing")
    parser.add_argument("--topology", default="", help="chips of a slice: v5e:16x16, h100:16")
    parser.add_argument("--slices", type=int, default=1, help="slices of that topology")
    parser.add_argument("--prices", metavar="FILE", help="price table of --dry_run --topology")
    parser.add_argument("--render", action="store_true", help="print what would be sent, no more")
    parser.add_argument("--profile_steps", help=profiling.HELP)
    names = (backends.LOCAL, *backends.BACKENDS)
    parser.add_argument("--backend", default=backends.LOCAL, help=f"one of {', '.join(names)}")
    name = _backend(words)
    parser.epilog = f"{parser.epilog}   options of another backend: --backend NAME --help   {THEN}"
    backends.add_options(parser, name)
    if name != backends.LOCAL:
        _add_job_options(parser)
    args, flags = parser.parse_known_args(words)
    _check_flags(parser, flags)
    flags = [*preset_flags(args.hardware), *flags]
    if not args.workdir:
        raise UserError("--workdir is empty; name the folder of studies, such as runs")
    if args.dry_run and args.topology:
        from research.dryrun import sweep

        return sweep.run(args, flags)
    if name == backends.LOCAL and args.topology:
        raise UserError("--topology goes with --dry_run, or with a --backend that has such chips")
    if name != backends.LOCAL and not args.dry_run:
        return _submit(args, flags)
    return _run_here(args, flags)


def _backend(words: Sequence[str]) -> str:
    """The backend asked for, read ahead of the rest: it decides which options there are."""
    ahead = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    ahead.add_argument("--backend", default=backends.LOCAL)
    try:
        name = ahead.parse_known_args(words)[0].backend
    except argparse.ArgumentError as error:
        raise UserError(str(error)) from error
    backends.options(name)
    return name


def _add_job_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("the job").add_argument
    add("--hosts", type=int, default=0, help="machines; only where --topology does not say it")
    add("--image", default="", help="container image that holds this code")
    add("--timeout", default="0", help="time one start may take: 90m, 12h, 2d")
    add("--restarts", type=int, default=3, help="starts after a failure; preemption is none")
    add(
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="a variable of the job, NAME as it is set here; its value is shown to nobody; again "
        "for another",
    )


def _check_flags(parser: argparse.ArgumentParser, flags: Sequence[str]) -> None:
    """Raise UserError for an argument that is neither an option here nor a key of the config."""
    known = [option for action in parser._actions for option in action.option_strings]
    for flag in flags:
        if not flag.startswith("--config."):
            name = flag.partition("=")[0]
            hint = backends.owner(name.removeprefix("--")) or nearest(name, known)
            raise UserError(
                f"unknown argument {flag!r}{hint}; config keys are set as --config.key=value"
            )


def _run_here(args: argparse.Namespace, flags: Sequence[str]) -> int:
    workers, batch = getattr(args, "workers", 2), getattr(args, "batch", 1)
    hopeless = getattr(args, "stop_hopeless", False)
    processes.check_arguments(args)
    for option, usual in (("processes", 1), ("profile_steps", None), ("render", False)):
        if batch > 1 and getattr(args, option) != usual:
            raise UserError(f"--batch {batch} is of one process that trains; drop --{option}")
    if args.dry_run:  # measured as a worker runs: on one core
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {processes.THREADS}".strip()
    with counts.kept(storage.path(args.workdir)):
        loaded = _load(args.config, flags)
    folder = storage.path(args.workdir) / loaded.name
    if args.dry_run:
        from research.dryrun import laptop

        left = _left(loaded, folder)
        print(laptop.table(left, workers) if left.groups else f"{loaded.name}: nothing to run")
        return 0
    if args.render and hopeless:
        raise UserError("--stop_hopeless is of runs beside each other; drop --render")
    if args.render:  # what the workers share among themselves
        words = ["python", *_argv(args, flags, args.processes)]
        print("\n".join(shlex.join([*words, group[0].id]) for group in loaded.groups))
        return 0
    profiling.ask(args.profile_steps, max(trial.config.train.steps for trial in loaded.trials))
    if hopeless and not rivals.of(loaded.trials, folder):
        raise UserError(
            f"--stop_hopeless: no two trials of {loaded.name} differ only in numbers of their "
            f"optimizer and write {rivals.FEWEST} rows in a fifth of their steps (config.log_steps)"
        )
    numbers = (workers, args.processes, args.devices, batch, hopeless)
    code = local.sweep(loaded, args.config, flags, folder, *numbers)
    if code == 0:
        from research.scaling.overview import overview

        try:
            print(overview(folder))
        except UserError as error:  # the sweep is over, whatever its runs can tell
            print(f"note: no laws: {error}", file=sys.stderr)
    return code


def _load(spec: str, flags: Sequence[str], **options: Any) -> study.Study:
    """`study.load`, and what the user should know of it on standard error."""
    loaded = study.load(spec, flags, **options)
    for note in loaded.notes:
        print(note, file=sys.stderr)
    return loaded


def _left(loaded: study.Study, folder: Path) -> study.Study:
    """What a sweep would run in `folder`; all of it, with a word, where it would be refused."""
    try:
        study.check_folder(loaded, folder)
    except UserError as error:
        print(f"note: {error}", file=sys.stderr)
        return loaded
    study.say_former(loaded, folder)
    left = study.unfinished(loaded, folder)
    if done := len(loaded.trials) - len(left.trials):
        print(f"{loaded.name}: {done} of {len(loaded.trials)} trials are finished in {folder}")
    return left


def _submit(args: argparse.Namespace, flags: Sequence[str]) -> int:
    """Submit the groups that are not finished and not on their way, or print what would be."""
    options = {key: getattr(args, key) for key in backends.options(args.backend)}
    backend = backends.make(args.backend, options).pinned()
    if "://" not in args.workdir and not backend.shares_disk:
        raise UserError(
            f"--workdir {args.workdir}: machines of --backend {args.backend} do not see this disk; "
            "name a bucket that they may write, such as gs://BUCKET/runs"
        )
    env, written = variables.parse(args.env)
    spec, devices = _spec(args, flags, env)
    backend.check(spec)
    loaded = _load(args.config, flags, num_devices=devices, prepared=False)
    _check_slices(loaded, args.slices, devices)
    profiling.ask(args.profile_steps, max(trial.config.train.steps for trial in loaded.trials))
    groups = {group[0].id: [trial.id for trial in group] for group in loaded.groups}
    if args.render and "://" in args.workdir:  # nothing is asked of a bucket to show a text
        print(backend.render(dataclasses.replace(spec, array=tuple(groups))), end="")
        return 0
    folder = storage.path(args.workdir) / loaded.name
    study.check_folder(loaded, folder)
    study.say_former(loaded, folder)
    for group in loaded.groups:  # a trunk that no trial waits for need not be there
        if not trunks.left(group, {t.id for t in group if trunks.finished(folder, t)}):
            groups[group[0].id] = [trial.id for trial in group if not trial.branches]
    jobs = journal.read(folder) or journal.Journal(loaded.name, {})
    jobs = dataclasses.replace(jobs, groups=groups)
    left = jobs.unfinished(folder)
    alive = set() if args.render else jobs.alive(left)
    waiting = tuple(element for element in left if element not in alive)
    if not waiting:
        state = "on its way; see sweep status" if alive else "finished"
        print(f"{loaded.name}: {len(groups)} elements, nothing to submit: all is {state}")
        return 0
    spec = dataclasses.replace(spec, array=waiting)
    if args.render:
        print(backend.render(spec), end="")
        return 0
    study.write_description(loaded, folder)
    variables.keep(folder, spec.name, written)
    journal.submit(folder, jobs, backend, spec, env)
    print(
        f"{loaded.name}: {len(waiting)} of {len(groups)} elements submitted to {args.backend} as "
        f"{spec.name}\nsee   python -m research sweep status {folder}"
    )
    return 0


def _spec(
    args: argparse.Namespace, flags: Sequence[str], env: Iterable[str]
) -> tuple[JobSpec, int]:
    """The job that the options ask for, whose elements are not known yet, and their devices.

    Raises:
        UserError: when there are no such machines, or --hosts contradicts them.
    """
    if args.slices < 1:
        raise UserError(f"--slices {args.slices} must be at least 1")
    chip, topology, hosts = "cpu", "", args.hosts or 1
    devices = hosts
    if args.topology:
        wanted = hardware.check_slice(hardware.parse_slice(args.topology, "--topology"))
        chip, topology = wanted.chip, "x".join(map(str, wanted.topology))
        hosts, devices = _hosts(wanted, topology, args.hosts), wanted.num_devices
    spec = JobSpec(
        name=job.label(
            Path(args.config.partition(":")[0]).stem,
            "0000" if args.render else secrets.token_hex(2),
        ),
        argv=_argv(args, flags, args.slices * hosts),
        env=tuple(env),
        accelerator=chip,
        topology=topology,
        slices=args.slices,
        hosts=hosts,
        image=args.image,
        timeout=job.minutes(args.timeout),
        restarts=args.restarts,
        array=("all",),
    )
    return spec, devices * args.slices


def _hosts(wanted: hardware.Slice, topology: str, asked: int) -> int:
    """The machines of a slice, those `asked` for where that is not 0."""
    if wanted.chip == "cpu":
        raise UserError(f"--topology {wanted}: leave it out for CPUs; --hosts says how many")
    if wanted.chip in tpu.KINDS:
        hosts = tpu.hosts(wanted.chip, topology)
        if asked not in (0, hosts):
            raise UserError(f"--hosts {asked}: {wanted} is {hosts} machines")
        return hosts
    hosts = asked or -(-wanted.num_chips // wanted.kind.chips_per_host)
    if wanted.num_chips % hosts:
        raise UserError(f"--hosts {hosts} do not share {wanted.num_chips} {wanted.chip} evenly")
    return hosts


def _argv(args: argparse.Namespace, flags: Sequence[str], processes: int) -> tuple[str, ...]:
    """Arguments of the interpreter for an element of so many processes, its name left out."""
    profile = [f"--profile_steps={args.profile_steps}"] if args.profile_steps else []
    return argv(Element(args.config, args.workdir, processes, (*flags, *profile)))


def _check_slices(loaded: study.Study, slices: int, devices: int) -> None:
    """Raise UserError unless the mesh of every trial has the axis between slices."""
    for trial in (trial for group in loaded.groups for trial in group):
        found = mesh.sizes(trial.config.hardware.mesh, devices)["slice"]
        if found != slices:
            raise UserError(
                f"--slices {slices}, but config.hardware.mesh.slice={found}; "
                f"add --config.hardware.mesh.slice={slices}"
            )
