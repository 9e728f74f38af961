"""What each parameter is for, from its logical axes and its shape: never from its name."""

from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from research import families

ROLES = ("input", "hidden", "output", "scalar")
SIDE_BY_SIDE = ("layers", "experts")  # axes along which there is one matrix after another
STREAM = ("embed", "expert_embed")  # the width of a network
WIDTHS = (
    *STREAM,
    "input",
    "lookup",
    "latent",
)  # a matrix with names has one of them, a bias has not


class Parameter(NamedTuple):
    """A parameter's role, and the axes that its matrices read and write; none of a scalar.

    Attributes:
        heads: the axis along which heads lie, and how many features each has there.
        axes: the logical names of its axes.
    """

    role: str
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    heads: tuple[int, int] | None = None
    axes: tuple[str | None, ...] = ()

    @property
    def residual(self) -> bool:
        """Whether it writes into what the layers of a stack add to."""
        written = self.axes[1:] if self.role == "scalar" else [self.axes[a] for a in self.writes]
        return "layers" in self.axes and len(written) == 1 and written[0] in STREAM


def describe(axes: tuple[str | None, ...]) -> Parameter:
    """Return what a parameter with these logical axes is.

    The roles are those of Yang et al. (2022, table 8), by which sides of a matrix grow with width:

        scalar  what is added to activations or multiplies them element by element: norms, biases,
                a table of positions (a bias of each position)
        input   from what does not grow into the width: tables of tokens and classes, `input`
        output  from the width to what does not grow: the head's `logits`, an `output`
        hidden  every other matrix

    A matrix reads its first named axis and writes the others. Along `layers`, `experts` and, in
    between, axes without a name (the three maps of `qkv`) lies one matrix after another. Where no
    axis has a name, the last one is written and all before it are read, as those of a convolution.
    """
    own = [i for i, name in enumerate(axes) if name not in SIDE_BY_SIDE]
    names = [axes[i] for i in own if axes[i]]
    if len(own) < 2 or {"norm", "position"} & {*names} or (names and not {*WIDTHS} & {*names}):
        return Parameter("scalar")
    if {"vocab", "class", "input", "lookup"} & {*names}:
        role = "input"
    else:
        role = "output" if {"logits", "output"} & {*names} else "hidden"
    named = [i for i in own if axes[i]]
    if len(named) > 1:
        return Parameter(role, (named[0],), tuple(named[1:]))
    return Parameter(role, tuple(own[:-1]), (own[-1],))


def path_name(path: tuple) -> str:
    """The name of a leaf of a tree by its path, such as `stack/blocks/mlp/up/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def map_names(function: Any, tree: Any) -> Any:
    """The tree of `function(name of the leaf, leaf)`."""
    return jax.tree_util.tree_map_with_path(lambda path, x: function(path_name(path), x), tree)


def parameters(config: ConfigDict, params: Any) -> dict[str, Parameter]:
    """What each of the parameters of `config` is, by its name; `params` may be their shapes."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    pairs = [*zip(leaves, families.axes(config, params), strict=True)]
    lengths = {
        leaf.shape[axes.index("head_dim")] for (_, leaf), axes in pairs if "head_dim" in axes
    }

    def heads(axes: tuple[str | None, ...]) -> tuple[int, int] | None:
        if "heads" not in axes or len(lengths) > 1:
            return None
        return axes.index("heads"), 1 if "head_dim" in axes else max(lengths, default=1)

    return {
        path_name(path): describe(axes)._replace(heads=heads(axes), axes=axes)
        for (path, _), axes in pairs
    }
