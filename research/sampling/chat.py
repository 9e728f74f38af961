"""`python -m research chat`: a run goes on with what is typed, so that one can feel its size."""

import sys

from research.errors import UserError
from research.sampling import continuing, options
from research.terminal import plain

HELLO = "type the beginning of a text; an empty line begins anew, Ctrl-D ends"


def add_arguments(parser) -> None:
    """Arguments of the verb."""
    parser.add_argument("--run", required=True, help="a run folder, runs/<study>/<trial>")
    parser.add_argument("--seed", type=int, default=0)
    options.add_arguments(parser, tokens=64)


def run(args) -> int:
    """Read a line, write on from all that was typed and written, again and again."""
    settings, writer = options.settings(args), continuing.open_run(args.run)
    context = settings.context or writer.config.data.length
    if settings.tokens >= context:
        raise UserError(f"--tokens {settings.tokens} leaves no room for a prompt in {context}")
    if sys.stdin.isatty():
        print(HELLO)
    text, turn = "", 0
    for line in sys.stdin:
        if not line.strip():
            text = ""
            continue
        text = _last(writer, text + line, context - settings.tokens - 1)
        (found,) = continuing.write(
            writer, [text], settings._replace(seed=settings.seed + turn), _say
        )
        print(flush=True)
        text, turn = text + found.text, turn + 1
    return 0


def _say(number: int, text: str) -> None:
    del number
    print(plain(text), end="", flush=True)


def _last(writer: continuing.Writer, text: str, tokens: int) -> str:
    """The end of a text that is no longer than `tokens`."""
    read = writer.tokenizer.encode(text.encode())
    if len(read) <= tokens:
        return text
    return writer.tokenizer.decode(read[-tokens:]).decode(errors="ignore")
