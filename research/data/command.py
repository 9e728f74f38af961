"""`python -m research data`: prepare data sets and print what they hold, or train a tokenizer."""

import argparse
import time

from ml_collections import ConfigDict

from research import config as configs
from research import data
from research.data import contamination, tokenizers
from research.errors import UserError
from research.run import storage

EXAMPLE = """examples:
  python -m research data python_stdlib glyphs
  python -m research data cpp_headers --set filters="('short', 'long_lines')" --contamination
  python -m research data tokenizer python_stdlib --kind bpe --vocab 4096 --out tokenizer.json"""
TOKENIZER = "tokenizer"
HEADER = ("name", "split", "examples", "tokens/images", "floor", "fingerprint")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"sources to prepare: {', '.join(data.names())}, or a TFDS name such as lm1b"
        " (default: those of every machine that are quickly made); or 'tokenizer SOURCE'",
    )
    parser.add_argument("--folder", default="data", help="the data folder (default: data)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key of the source, such as path=corpus; may be given again",
    )
    parser.add_argument(
        "--contamination",
        action="store_true",
        help="say how much of the validation text occurs in the training text",
    )
    own = parser.add_argument_group("of a tokenizer")
    own.add_argument("--kind", help=f"{', '.join(tokenizers.KINDS)}, or a module's path")
    own.add_argument("--vocab", type=int, help="how many tokens it has, such as 4096")
    own.add_argument("--out", help="where to write its tokenizer.json as well")


def run(args: argparse.Namespace) -> int:
    """Prepare each source, hash every array of it, and print a table; or train a tokenizer.

    Raises:
        UserError: as `research.data.load` does.
    """
    if args.names[:1] == [TOKENIZER]:
        return _tokenizer(args)
    for option in ("kind", "vocab", "out"):
        if getattr(args, option) is not None:
            raise UserError(f"--{option} is of a tokenizer: data tokenizer SOURCE --{option} ...")
    ready = [n for n in data.names() if not hasattr(data.sources.load(n), "ON_REQUEST")]
    rows = [HEADER]
    for name in args.names or ready:
        config = _config(name, args)
        if args.contamination:
            contamination.check_text(config)
        started = time.perf_counter()
        described = data.describe(config)
        seconds = time.perf_counter() - started
        print(f"{name}: {described['folder']} ({seconds:.1f} s)")
        if described["dropped"]:
            counts = ", ".join(f"{why} {count:,}" for why, count in described["dropped"].items())
            print(f"{name}: documents left out: {counts}")
        if args.contamination:
            print(f"{name}: {contamination.of(config)}")
        rows += table(described)
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    print()
    for row in rows:
        left, right = row[:2], row[2:4]
        cells = [cell.ljust(width) for cell, width in zip(left, widths[:2], strict=True)]
        cells += [cell.rjust(width) for cell, width in zip(right, widths[2:4], strict=True)]
        cells += [row[4].ljust(widths[4]), row[5]]
        print("  ".join(cells).rstrip())
    return 0


def _tokenizer(args: argparse.Namespace) -> int:
    """Train a tokenizer on a source, prepare its tokens, and say what a token spells."""
    config, started = _wanted(args), time.perf_counter()
    found = data.load(config, "validation")
    seconds = time.perf_counter() - started
    about, spelled = found.tokenizer or {}, found.arrays["bytes"]
    path = tokenizers.home(data.data_folder(config), about["key"])
    print(
        f"{config.name}: {about['vocab']:,} tokens of {config.tokenizer}, "
        f"{spelled.mean():.4f} bytes a token on validation, the longest {spelled.max()} "
        f"({seconds:.1f} s)"
    )
    content = path.read_bytes()
    if args.out:
        storage.write(args.out, content)
    print(f"{args.out or path}: {len(content):,} bytes, sha256 {about['sha256'][:16]}")
    return 0


def _wanted(args: argparse.Namespace) -> ConfigDict:
    """The data's config that `args` ask for."""
    if len(args.names) != 2 or args.kind is None or args.vocab is None:
        raise UserError("data tokenizer needs one source, --kind and --vocab; see --help")
    if args.kind == tokenizers.BYTE:
        raise UserError(f"--kind byte is not trained; expected {', '.join(tokenizers.KINDS)}")
    config = _config(args.names[1], args)
    if "tokenizer" not in config:
        raise UserError(f"{config.name} is no text: it has no key data.tokenizer")
    config.update(tokenizer=args.kind, vocab=args.vocab)
    return config


def _config(name: str, args: argparse.Namespace) -> ConfigDict:
    """The config of the source `name` with the keys that were set."""
    tree = ConfigDict({"data": data.default(name)})
    for given in args.set:
        key, equals, value = given.partition("=")
        if not equals:
            raise UserError(f"--set {given}: expected KEY=VALUE, such as path=corpus")
        configs.assign(tree, f"data.{key}", value)
    tree.data.folder = args.folder
    return tree.data


def table(described: dict) -> list[tuple[str, ...]]:
    """Return the rows of one data set, a row for each split; see HEADER."""
    floor, rows = described["floor"], []
    for split in (split for split in data.SPLITS if split in described["splits"]):
        counts = described["splits"][split]
        rows.append(
            (
                "" if rows else described["name"],
                split,
                f"{counts['examples']:,}",
                f"{counts['unique']:,}",
                f"{floor['value']:.4f} {floor['unit']}" if floor and not rows else "",
                "" if rows else described["fingerprint"][:16],
            )
        )
    return rows
