"""Turn a figure into what a page, a talk or a paper takes: a spec, a PNG, an SVG."""

from functools import cache
from pathlib import Path

import altair as alt
import matplotlib
import vl_convert

from research.report import theme
from research.run import storage
from research.run.record import write_text

WIDTH = 640


def to_spec(chart: alt.TopLevelMixin) -> dict:
    """Return the Vega-Lite spec of `chart`, its rows inside it, without theme."""
    with alt.data_transformers.enable("default", max_rows=None), alt.theme.enable("none"):
        # The tests hold every figure to Vega-Lite's schema; here that would take half of the time.
        return chart.to_dict(validate=False)


def page_spec(spec: dict) -> dict:
    """Return `spec` made to take the width of its box on the page."""
    return {**spec, "width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}


def print_spec(spec: dict, title: str | None = None, subtitle: str | None = None) -> dict:
    """Return `spec` with a fixed width, the theme of print and a title, for a picture."""
    spec = {**spec, "config": theme.config("print"), "padding": 14}
    if title:
        spec["title"] = {"text": title, **({"subtitle": subtitle} if subtitle else {})}
    if "hconcat" not in spec:
        spec["width"] = WIDTH
    return spec


def write_pictures(spec: dict, folder: Path, name: str) -> list[Path]:
    """Write `name`.png (two pixels a point) and `name`.svg of a print spec; return their paths."""
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    register_fonts()
    drawing = vl_convert.vegalite_to_svg(spec)
    write_text(svg, drawing)
    storage.write(png, vl_convert.svg_to_png(drawing, scale=2))
    return [png, svg]


@cache  # bundling takes seconds, whatever page it is for
def javascript() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, safe inside a <script> element."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace(
        "</script", "<\\/script"
    )


@cache
def register_fonts() -> None:
    """Let pictures use Matplotlib's own fonts, the same on every machine."""
    vl_convert.register_font_directory(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf"))
