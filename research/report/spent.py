"""Where the time of a study went: a bar a part, and one of the whole study."""

import altair as alt
import pandas as pd

from research.report.grammar import layered, mark, tip
from research.run.goodput import PHASES

WHOLE = "Whole study"
ROW = 40  # pixels of a part: its name, and its bar below
MEANINGS = {
    "useful": "training steps that were kept",
    "startup": "from a process's start to its first step",
    "compile": "first call of the step",
    "data": "waiting for a batch",
    "checkpoint": "waiting for a checkpoint",
    "evaluate": "scoring",
    "lost": "work done again after a kill",
    "away": "nobody worked on the run",
}


def draw_time(seconds: pd.DataFrame) -> alt.LayerChart:
    """Draw the share of each phase as a bar a part, and one of the whole study above them.

    `seconds` has columns part, phase, seconds.
    """
    whole = seconds.groupby("phase", sort=False, as_index=False).seconds.sum().assign(part=WHOLE)
    parts = list(dict.fromkeys(seconds.part))
    rows = pd.concat([whole, seconds] if len(parts) > 1 else [seconds], ignore_index=True)
    rows = rows[rows.seconds > 0]
    rows = rows.assign(
        share=100 * rows.seconds / rows.groupby("part").seconds.transform("sum"),
        order=rows.phase.map(PHASES.index),
        meaning=rows.phase.map(MEANINGS),
    )
    # A part's name stands above its bar: beside it, it would take half of a phone's width.
    place = {"labelAlign": "left", "labelOffset": -11, "labelPadding": 0, "labelLimit": 320}
    axis = alt.Axis(ticks=False, domain=False, **place)
    y = alt.Y("part:N", sort=[WHOLE, *parts], title=None, axis=axis)
    x = alt.X("share:Q", title="Share of the time (%)", scale=alt.Scale(domain=[0, 100]))
    color = alt.Color("phase:O", sort=list(PHASES), legend=alt.Legend(title=None))
    tooltip = [tip("part", "Part"), tip("phase", "Phase"), tip("meaning", "Which is")]
    tooltip += [tip("share", "Share (%)", ".2f"), tip("seconds", "Seconds", ",.1f")]
    bars = mark(rows, "low-bar", x, y, color=color, order="order:Q", tooltip=tooltip)
    return layered(bars, height=ROW * rows.part.nunique())
