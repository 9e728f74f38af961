"""The front door: `python -m research VERB`."""

import argparse
import contextlib
import sys
from importlib import import_module
from pathlib import Path

from research import runtime, terminal
from research.errors import Interrupted, UserError, nearest
from research.run import stop

AGAIN = "; run the same command again to go on"
VERBS = {
    "sweep": (
        "run every trial of a study, then fit its laws",
        "python -m research sweep --config experiments/quickstart.py --dry_run",
    ),
    "train": (
        "run one trial",
        "python -m research train --config experiments/quickstart.py --workdir runs/one "
        "--config.train.steps=50",
    ),
    "watch": (
        "watch a study run, here or elsewhere; Ctrl-C leaves it alone",
        "python -m research watch runs/quickstart",
    ),
    "dryrun": (
        "compile, check and price a run for a slice that is not here",
        "python -m research dryrun --config experiments/lm_7b.py --topology v5e:16x16",
    ),
    "fit": (
        "fit a scaling law to runs or to a table",
        "python -m research fit runs/quickstart --law chinchilla --out laws.json",
    ),
    "backtest": (
        "compare laws by runs they were not shown",
        "python -m research backtest runs/quickstart --holdout flops:0.3decade",
    ),
    "compare": (
        "say how many times the compute of one arm another needs",
        "python -m research compare runs/recipe_text --arms base,muon --out compare.json",
    ),
    "transfer": (
        "say how far the best learning rate moves with width, depth or horizon",
        "python -m research transfer runs/transfer --over size --out transfer.json",
    ),
    "power": (
        "say with which power of a column a score or a best rate grows, arm by arm",
        "python -m research power runs/coordinate_check --over size --loss activations_output",
    ),
    "batch": (
        "find the batch beyond which more examples a step hardly save steps",
        "python -m research batch runs/critical_batch --out batch.json",
    ),
    "isoflop": (
        "find the best size at each compute budget",
        "python -m research isoflop points.csv --params N --data D --loss L --flops C",
    ),
    "extrapolate": (
        "continue learning curves past their last point",
        "python -m research extrapolate curves.csv --curve Model --x Step --y Loss "
        "--fit 'Step < 1000' --out predictions.csv",
    ),
    "next": (
        "choose the runs worth paying for, one after another",
        "python -m research next --pool pool.csv --params N --data D --loss L --cost FLOPs "
        "--target target.csv --out predictions.csv",
    ),
    "plan": (
        "say what a budget buys best under a fitted law",
        "python -m research plan laws.json --flops 5.88e23 --chips v5e:16x16",
    ),
    "predict": (
        "say what a fitted law expects of a run, or of a table of runs",
        "python -m research predict laws.json --params 163e6 --data 3.26e9",
    ),
    "forecast": (
        "say what larger runs will score before they begin, and keep it",
        "python -m research forecast experiments/quickstart_far.py --by runs/quickstart",
    ),
    "reproduce": (
        "hold published results against ours",
        "python -m research reproduce hoffmann2022",
    ),
    "golf": (
        "hold a recipe against the record at fixed FLOPs and print its rows",
        "python -m research golf experiments/golf/ladder.py --budget 2e11",
    ),
    "report": ("write a study's report", "python -m research report runs/quickstart"),
    "book": (
        "write one page of every study: question, law, figure, cost, literature",
        "python -m research book --out book.html",
    ),
    "sample": (
        "sample a finished run",
        "python -m research sample --run runs/one --num 16 --out samples.txt",
    ),
    "evaluate": (
        "score a finished run by evaluators of one's choice",
        "python -m research evaluate --run runs/one --evaluators calibration,by_position",
    ),
    "export": (
        "write a run as a folder that Hugging Face's transformers open",
        "python -m research export --run runs/pythia --format hf --out exported",
    ),
    "chat": (
        "go on with what is typed, by a finished run on text",
        "python -m research chat --run runs/one --temperature 0.8 --tokens 48",
    ),
    "speculation": (
        "say how much faster a sweep's smaller runs, which guess ahead, make its larger ones",
        "python -m research speculation runs/emergence --out speculation.csv",
    ),
    "data": ("prepare and describe data", "python -m research data python_stdlib glyphs"),
}


def _parser(verb: str, about: str = "", example: str = "") -> argparse.ArgumentParser:
    if not about:
        about, example = VERBS[verb]
    return _Parser(
        prog=f"python -m research {verb}",
        description=about,
        epilog=f"example:  {example}",
        allow_abbrev=False,
    )


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, as all of ours are."""

    def parse_known_args(self, args=None, namespace=None):
        self.given = list(args or ())
        return super().parse_known_args(args, namespace)

    def error(self, message: str):
        raise UserError(f"{message}{self._hint(message)}")

    def _hint(self, message: str) -> str:
        """The option nearest to the first one that is not known."""
        known = self._option_string_actions
        words = [word.partition("=")[0] for word in self.given if word.startswith("--")]
        unknown = [w for w in words if w not in known and not w.startswith("--config.")]
        hint = nearest(unknown[0], known) if unknown else ""
        if "arguments are required" in message:  # perhaps that one is only misspelt
            return f"; {unknown[0]!r} is none{hint}" if unknown else ""
        return hint if "unrecognized arguments" in message else ""


def _config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, help="experiments/NAME.py, or NAME.py:part")
    parser.add_argument("--hardware", metavar="FILE", help="a preset: JSON of config.hardware")


def train(words: list[str]) -> int:
    from launch import processes
    from research import config as configs
    from research.run import profiling, storage

    parser = _parser("train")
    _config_arguments(parser)
    parser.add_argument("--workdir", required=True, help="the run's own folder")
    parser.add_argument("--profile_steps", help=profiling.HELP)
    processes.add_arguments(parser)
    args, flags = parser.parse_known_args(words)
    flags = [*configs.preset_flags(args.hardware), *flags]
    if not args.workdir:
        raise UserError("--workdir is empty; name the run's own folder")
    processes.check_arguments(args)
    if args.processes > 1 or args.devices:
        command = ["research", "train", "--config", args.config, "--workdir", args.workdir]
        command += [f"--profile_steps={args.profile_steps}"] if args.profile_steps else []
        return processes.run([*command, *flags], args.processes, args.devices)
    from research import study
    from research.run import lease
    from research.train import train as train_run

    runtime.follow()
    runtime.join()
    config = study.load_config(args.config, flags)
    profiling.ask(args.profile_steps, config.train.steps)
    folder = storage.path(args.workdir)
    runtime.prepare(folder.parent)
    lease.wait(folder)
    name = Path(args.config.partition(":")[0]).stem
    train_run(config, folder, labels=study.labels(config, folder.name, name))
    return 0


def dryrun(words: list[str]) -> int:
    from research.dryrun import command

    parser = _parser("dryrun")
    _config_arguments(parser)
    command.add_arguments(parser)
    return command.run(*parser.parse_known_args(words))


def _delegate(verb: str, words: list[str]) -> int:
    """Verbs whose room brings its own arguments; an option's hyphens may be underscores there."""
    rooms = {"report": "research.report.command", "data": "research.data.command"}
    rooms |= {"sample": "research.sample", "watch": "research.run.watch"}
    rooms |= {"golf": "research.golf.command", "evaluate": "research.evaluate"}
    rooms |= {"export": "research.hub.command", "chat": "research.sampling.chat"}
    rooms |= {"book": "research.report.book", "speculation": "research.speculation"}
    command = import_module(rooms.get(verb, f"research.scaling.commands.{verb}"))
    parser = _parser(verb)
    if hasattr(command, "EXAMPLE"):
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = command.EXAMPLE
    command.add_arguments(parser)
    if verb not in rooms:
        words = [_hyphenated(word) for word in words]
    args = parser.parse_args(words)
    if verb in ("watch", "golf"):  # these draw
        return command.run(args)
    with contextlib.redirect_stdout(terminal.Plain(sys.stdout)):  # type: ignore[type-var]
        return command.run(args)


def _hyphenated(word: str) -> str:
    option, equals, value = word.partition("=")
    return option.replace("_", "-") + equals + value if word.startswith("--") else word


def _version() -> str:
    """The code's revision, and what it runs on: there are no releases."""
    from importlib.metadata import version
    from platform import python_version

    from research.run import record

    code = record.code()
    revision = code["git_revision"][:12] or "of an unknown revision"
    changed = " with uncommitted changes" if code["dirty"] else ""
    return f"isoflop {revision}{changed}, jax {version('jax')}, Python {python_version()}"


def main(words: list[str]) -> int:
    """Run one verb; user errors are one line and exit code 2, an interruption is 130 or 75."""
    if not words or words[0] in ("-h", "--help"):
        print("usage: python -m research VERB ...\n")
        for verb, (about, example) in VERBS.items():
            print(f"  {verb:8s} {about}\n           {example}")
        print("\n  --version  say which code this is")
        return 0 if words else 2
    if words[0] == "--version":
        print(_version())
        return 0
    verb, rest = words[0], words[1:]
    runtime.set_up_logging()
    if verb != "dryrun":  # the threads of a compiler would wait for each other's malloc
        runtime.keep_memory()
    try:
        if verb not in VERBS:
            known = (*VERBS, "--version", "--help")
            raise UserError(f"unknown verb {verb!r}{nearest(verb, known)}: {', '.join(VERBS)}")
        if verb in ("sweep", "train", "golf"):
            with stop.at_once(f"stopped{AGAIN}\n"):  # outside the loop, which saves first
                if verb == "train":
                    return train(rest)
                if verb == "golf":
                    return _delegate(verb, rest)
                return import_module("launch.command").run(rest, _parser)
        if verb == "dryrun":
            return dryrun(rest)
        return _delegate(verb, rest)
    except UserError as error:
        print(f"error: {terminal.one_line(str(error))}", file=sys.stderr)
        runtime.leave(error.code)
        return error.code
    except (Interrupted, KeyboardInterrupt) as error:
        with contextlib.suppress(OSError):  # the terminal may be what was closed
            print(f"{str(error) or 'stopped'}{AGAIN}", file=sys.stderr)
        return getattr(error, "code", 130)  # of Ctrl-C in a verb that only reads


if __name__ == "__main__":
    sys.exit(terminal.until_closed(main, sys.argv[1:]))
