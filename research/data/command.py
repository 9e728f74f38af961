"""`python -m research data`: prepare data sets and print what they hold."""

import argparse
import time

from research import data

HEADER = ("name", "split", "examples", "tokens/images", "floor", "fingerprint")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"sources to prepare: {', '.join(data.names())}, or a TFDS name such as lm1b"
        " (default: those that need no download)",
    )
    parser.add_argument("--folder", default="data", help="the data folder (default: data)")


def run(args: argparse.Namespace) -> int:
    """Prepare each source, hash every array of it, and print a table.

    Raises:
        UserError: as `research.data.load` does.
    """
    offline = [n for n in data.names() if not hasattr(data.sources.load(n), "DOWNLOADS")]
    rows = [HEADER]
    for name in args.names or offline:
        config = data.default(name)
        config.folder = args.folder
        started = time.perf_counter()
        described = data.describe(config)
        seconds = time.perf_counter() - started
        print(f"{name}: {described['folder']} ({seconds:.1f} s)")
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
