"""Scores of finished runs by any evaluators: those they were trained under, and those not."""

from pathlib import Path

from ml_collections import ConfigDict

from research import data, evaluation, processes, score_table, trained, width_scan
from research.errors import UserError
from research.evaluation import Scores, image_features
from research.run import record, storage
from research.terminal import live


def evaluate_run(
    folder: str | Path,
    names: tuple[str, ...],
    examples: int | None = None,
    ema: float | None = None,
    features: str = "",
) -> Scores:
    """The scores of a run by the evaluators `names`, by its own if there are none.

    Args:
        examples: how many examples each evaluator sees; by default what the run's config says.
        ema: the relative width of the average of its weights that is scored (`trained.load`).
        features: by which images are judged; by default what the run's config says.

    Raises:
        UserError: when the folder holds no run, an evaluator is unknown or cannot judge it, or the
            run has not kept that average.
    """
    config = judged(folder, names, examples, features)
    _, params = trained.load(folder, ema)
    return evaluation.scores(config, params)


def judged(
    folder: str | Path, names: tuple[str, ...], examples: int | None, features: str = ""
) -> ConfigDict:
    """The config of a run, with evaluators, their examples and features as asked for."""
    if examples is not None and examples < 1:
        raise UserError(f"--examples {examples} must be at least 1")
    config = trained.settings(folder)
    evaluation.ask(config, names, features)
    config.evaluation.examples = examples or config.evaluation.examples
    evaluation.check(config, data.outline(config.data))
    return config


def table(scores: Scores) -> str:
    """One line a score: name, value, interval, unit, kind, and what it was found on."""
    rows = [("name", "value", "95% interval", "unit", "kind", "split", "examples")]
    for name, score in scores.items():
        interval = " to ".join(f"{bound:.4g}" for bound in score.get("interval", ()))
        chance = f", chance {score['chance']:.4g}" if "chance" in score else ""
        about = (f"{score['unit']}{chance}", score["kind"], score["split"], str(score["examples"]))
        rows.append((name, f"{score['value']:.6g}", interval, *about))
    kept = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in kept]
    lines = zip(*kept, strict=True)
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def add_arguments(parser) -> None:
    """Arguments of `python -m research evaluate`."""
    parser.add_argument(
        "--run",
        required=True,
        help="a run folder, runs/<study>/<trial>, or that of a sweep: each of its runs is a row",
    )
    parser.add_argument(
        "--evaluators",
        default="",
        help=f"names or dotted paths, with commas between: {', '.join(evaluation.EVALUATORS)}; "
        "those of its config by default",
    )
    parser.add_argument(
        "--examples", type=int, help="of each evaluator; as in its config by default"
    )
    parser.add_argument(
        "--features",
        default="",
        help="what images are judged by: pixels, glyphs, or the run of a classifier or a CLIP; as "
        "in its config by default",
    )
    parser.add_argument(
        "--ema",
        default="",
        metavar="WIDTH",
        help="score the average of its weights of this relative width, such as 0.07; 'best' scores "
        f"all widths first and keeps the table as {width_scan.FILE} in its folder",
    )
    parser.add_argument(
        "--over",
        action="append",
        default=[],
        metavar="KEY=A,B",
        help="of a sweep: score each run at these values of config.sampling.KEY, and at every "
        "combination where it is given several times",
    )
    parser.add_argument("--part", default="", help="of a sweep: one of its parts")
    parser.add_argument("--out", help="file to write, scores.json; of a sweep scores.csv")


def run(args) -> int:
    """Print the table; write the scores as JSON where --out asks for them."""
    names = tuple(name.strip() for name in args.evaluators.split(",") if name.strip())
    if args.features:
        image_features.load(args.features)  # said before anything is scored, whoever reads them
    if (storage.path(args.run) / "study.json").exists():
        return _run_sweep(args, names)
    if args.over or args.part:
        raise UserError(f"--over and --part are of a sweep; {args.run} has no study.json")
    if args.out and Path(args.out).suffix != ".json":
        raise UserError(f"--out {args.out}: scores need a name ending in .json")
    if args.ema == "best":
        config = judged(args.run, names, args.examples, args.features)
        found = width_scan.scan(args.run, config)
        print(width_scan.said(found), end="\n\n")
        width = found.best
    else:
        width = trained.width(args.ema)
    scores = evaluate_run(args.run, names, args.examples, width, args.features)
    print(table(scores))
    if args.out and processes.first():
        record.write_json(args.out, scores)
    return 0


def _run_sweep(args, names: tuple[str, ...]) -> int:
    """Print the table of a sweep, and keep it, a row at a time, where --out asks for it."""
    if args.examples is not None or args.ema:
        raise UserError("--examples and --ema are of one run; --run is the folder of a sweep")
    if args.out and Path(args.out).suffix != ".csv":
        raise UserError(f"--out {args.out}: scores of a sweep need a name ending in .csv")
    over = {}
    for each in args.over:
        key, equals, values = each.partition("=")
        over[key] = [value.strip() for value in values.split(",") if value.strip()]
        if not equals or not over[key]:
            raise UserError(f"--over {each}: expected KEY=A,B such as steps=8,16")
    asked = (names, over, args.part, args.out, args.features)
    for table in score_table.scan(storage.path(args.run), *asked):
        live(f"{len(table)} rows")
    live("")
    print(table.to_string(index=False, float_format=lambda value: f"{value:.5g}"))
    return 0
