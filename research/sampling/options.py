"""The options of drawing, for the verbs that draw."""

from research.sampling.continuing import CACHES, Settings
from research.sampling.drawing import Drawing


def add_arguments(parser, tokens: int) -> None:
    """Declare them; `tokens` is the default number of new ones."""
    add = parser.add_argument
    add("--tokens", type=int, default=tokens, help=f"at most so many more (default: {tokens})")
    add("--context", type=int, default=0, help="positions in all (default: of the run's examples)")
    add_cuts(parser)
    add("--repetition", type=float, default=1.0, help="divides logits of tokens that were there")
    add("--stop", action="append", default=[], metavar="TEXT", help="ends before it; repeatable")
    add("--cache", default="", choices=tuple(CACHES), help="int8 keeps keys and values narrow")


def add_cuts(parser) -> None:
    """Declare the options of drawing that do not depend on what was drawn before."""
    add = parser.add_argument
    add("--temperature", type=float, default=1.0, help="0 takes the likeliest (default: 1)")
    add("--top_k", type=int, default=0, help="of the likeliest k alone")
    add("--top_p", type=float, default=1.0, help="of the fewest that have this probability")
    add("--min_p", type=float, default=0.0, help="of those this likely, over the likeliest")


def settings(args, **others) -> Settings:
    """What the options say."""
    drawing = Drawing(args.temperature, args.top_k, args.top_p, args.min_p, args.repetition)
    return Settings(
        args.tokens, args.context, drawing, args.seed, tuple(args.stop), cache=args.cache, **others
    )
