"""Isoflop: what happens if I make it bigger, measured."""

from research import runtime

runtime.quiet_compilers()  # what it sets is read when JAX is imported, which others do at once
