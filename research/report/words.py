"""The environment of the page's templates: how they write numbers, powers and errors."""

import re
from functools import cache

import jinja2
import markupsafe
import numpy as np

from research.numbers import count, few, interval, percent, power_of_ten
from research.report.findings import GROWS, Drop
from research.report.outlook import BEYOND
from research.report.spent import MEANINGS


def dropped(drop: Drop, unit: str, relative: bool) -> str:
    """By how much the loss drops, as a share of it if zero means zero."""
    return f"−{percent(drop.share) if relative else f'{drop.before - drop.after:.2g} {unit}'}"


def error(predicted, measured, unit: str, relative: bool) -> str:
    """The mean error of predictions, as a share of the loss if zero means zero."""
    if relative:
        return percent(float(np.mean(np.abs(predicted / measured - 1))))
    return f"{float(np.mean(np.abs(predicted - measured))):.2g} {unit}"


def powers(text: str) -> markupsafe.Markup:
    """Return `text` escaped, with every `x^y` set as a power."""
    escaped = str(markupsafe.escape(text))
    return markupsafe.Markup(re.sub(r"\^([−-]?[\w.]*\w)", r"<sup>\1</sup>", escaped))


@cache
def environment() -> jinja2.Environment:
    """Return the environment; what a template does not know is an error."""
    found = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
        loader=jinja2.PackageLoader("research", "report"),
    )  # fmt: skip
    filters = (count, few, percent, power_of_ten, powers)
    found.filters |= {each.__name__: each for each in filters} | {"shown": format}
    found.globals |= {each.__name__: each for each in (dropped, error, interval)}
    found.globals |= {"beyond": BEYOND, "grows": GROWS, "phases": MEANINGS}
    return found


def said(name: str, *about) -> str:
    """What the macro `name` of words.html.j2 says, escaped."""
    return getattr(environment().get_template("words.html.j2").module, name)(*about).strip()
