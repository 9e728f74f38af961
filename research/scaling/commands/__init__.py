"""One module a verb of the law lab: `add_arguments(parser)` and `run(args)`."""
