"""Marks, colours and Vega-Lite configurations of every figure, light and dark.

Figures name a style (`fit`, `band`, `floor` ...) and never a colour, so that one definition is
drawn for the page in either theme and for print. Categories use Okabe and Ito's palette, sizes use
viridis without the end that vanishes into the background; both survive colour blindness.
"""

SKY, BLUE, VERMILLION = "#56B4E9", "#0072B2", "#D55E00"
GREEN, ORANGE, PURPLE = "#009E73", "#E69F00", "#CC79A7"
BRIGHT_VERMILLION = "#FF7B3A"  # the same hue, light enough for a dark background
FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
# Pictures are drawn with fonts at hand: this one has every superscript a power of ten needs.
PRINT_LABEL_FONT = "DejaVu Sans"

# The mark of each style; most have their colours and widths below.
MARKS: dict[str, dict] = {
    "run": {"type": "point"},
    "any-run": {"type": "point", "fillOpacity": 0, "opacity": 1, "size": 30},  # to hover over
    "line": {"type": "line"},
    "curve": {"type": "line"},
    "fit": {"type": "line"},
    "band": {"type": "area"},
    "frontier": {"type": "point", "filled": False},
    "floor": {"type": "rule"},
    "floor-label": {"type": "text", "align": "right", "dy": -8},
    "held-out": {"type": "point", "shape": "diamond"},
    "held-out-run": {"type": "point", "shape": "diamond", "filled": False},
    "held-out-interval": {"type": "rule"},
    "rung": {"type": "point", "shape": "triangle-up", "filled": False},
    "minimum": {"type": "point", "shape": "diamond"},
    "minimum-interval": {"type": "rule"},
    "dropped": {"type": "point", "shape": "cross", "angle": 45, "filled": True},
    "dropped-curve": {"type": "line"},
    "published": {"type": "point"},
    "published-interval": {"type": "rule"},
    "promise": {"type": "line"},
    "zero": {"type": "rule"},
    "dot": {"type": "point", "size": 20},
    "bar": {"type": "bar", "height": 14},
    "low-bar": {"type": "bar", "height": 14, "yOffset": 8},  # below its name
    "bar-label": {"type": "text", "align": "left", "dx": 4, "color": "gray"},
}


def config(theme: str) -> dict:
    """Return the Vega-Lite configuration of `theme`: "light", "dark" or "print"."""
    dark = theme == "dark"
    ink, muted = ("#e8eaed", "#9aa4af") if dark else ("#1c2733", "#5c6a78")
    grid, paper = ("#2c343d", "#14191f") if dark else ("#e9edf1", "#ffffff")
    extent = [0.3, 1.0] if dark else [0.0, 0.88]
    accent = BRIGHT_VERMILLION if dark else VERMILLION
    floor, other = (SKY, BLUE) if dark else (BLUE, SKY)
    words = {"labelColor": muted, "titleColor": ink, "titleFontWeight": 500, "labelFontSize": 11}
    words |= {"labelFont": PRINT_LABEL_FONT} if theme == "print" else {}
    return {
        "background": paper if theme == "print" else "transparent",
        "font": FONT,
        "view": {"stroke": None, "cursor": "default"},
        "axis": {
            **words,
            "titleFontSize": 12,
            "titlePadding": 8,
            "gridColor": grid,
            "domainColor": muted,
            "domainOpacity": 0.5,
            "tickColor": muted,
            "tickOpacity": 0.5,
            "tickSize": 4,
            "labelOverlap": "greedy",
            "labelFlush": False,
        },
        "title": {
            "color": ink,
            "fontSize": 14,
            "fontWeight": 600,
            "anchor": "start",
            "offset": 10,
            "subtitleColor": muted,
            "subtitleFontSize": 12,
            "subtitlePadding": 4,
        },
        "legend": {
            **words,
            "titleFontSize": 11,
            "orient": "top",
            "direction": "horizontal",
            "titleOrient": "left",
            "columnPadding": 8,
            "offset": 6,
        },
        "range": {
            "ordinal": {"scheme": "viridis", "extent": extent},
            "ramp": {"scheme": "viridis", "extent": extent},
            "category": [floor, accent, GREEN, PURPLE, ORANGE, other, muted, ink],
        },
        "bar": {"color": floor},
        "point": {"filled": True, "size": 56, "opacity": 0.95},
        "style": {
            "run": {"stroke": paper, "strokeWidth": 0.6},
            "curve": {"strokeWidth": 1},
            "fit": {"color": ink, "strokeWidth": 2},
            "band": {"color": ink, "fillOpacity": 0.13},
            "frontier": {"color": ink, "strokeWidth": 1.4, "size": 130},
            "floor": {"color": floor, "strokeWidth": 1.6, "strokeDash": [7, 4]},
            "floor-label": {"color": floor, "fontSize": 11, "fontWeight": 600},
            "held-out": {"color": accent, "stroke": ink, "strokeWidth": 1, "size": 170},
            "held-out-run": {"color": accent, "strokeWidth": 1.6, "size": 120},
            "rung": {"color": accent, "strokeWidth": 1.6, "size": 120},
            "held-out-interval": {"color": accent, "strokeWidth": 2.2},
            "minimum": {"color": accent, "stroke": ink, "strokeWidth": 1, "size": 130},
            "minimum-interval": {"color": accent, "strokeWidth": 2},
            "dropped": {"color": muted, "size": 110},
            "dropped-curve": {"color": muted, "strokeWidth": 1.4, "strokeDash": [4, 4]},
            "published": {"color": muted, "size": 60},
            "published-interval": {"color": muted, "strokeWidth": 1.6},
            "promise": {"color": muted, "strokeWidth": 1.4, "strokeDash": [4, 4]},
            "zero": {"color": muted, "strokeWidth": 1},
        },
    }
