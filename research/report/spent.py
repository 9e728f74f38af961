"""Where the time of a study went: goodput in a sentence, and a bar a part."""

import altair as alt
import pandas as pd

from research.numbers import percent
from research.report import export
from research.report.figures import layered
from research.report.page import Figure
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


def sentence(seconds: pd.DataFrame) -> str:
    """Say the goodput of a study, and what the most of the rest was for."""
    total = seconds.seconds.sum()
    shares = seconds.groupby("phase", sort=False).seconds.sum() / total
    rest = shares.drop("useful").sort_values(ascending=False)
    most = [
        f"{phase} {percent(share)} ({MEANINGS[str(phase)]})" for phase, share in rest[:3].items()
    ]
    return (
        f"Goodput {percent(shares['useful'])}: of {total / 60:.1f} minutes in which the runs "
        f"were under way, restarts included, {shares['useful'] * total / 60:.1f} trained what was "
        f"kept. Most of the rest: {', '.join(most)}."
    )


def chart(seconds: pd.DataFrame) -> alt.LayerChart:
    """Draw the share of each phase as a bar a part, and one of the whole study above them."""
    whole = seconds.groupby("phase", sort=False, as_index=False).seconds.sum().assign(part=WHOLE)
    parts = list(dict.fromkeys(seconds.part))
    rows = pd.concat([whole, seconds] if len(parts) > 1 else [seconds], ignore_index=True)
    rows = rows[rows.seconds > 0]
    share = rows.seconds / rows.groupby("part").seconds.transform("sum")
    rows = rows.assign(
        share=100 * share,
        order=rows.phase.map(PHASES.index),
        meaning=rows.phase.map(MEANINGS),
    )
    # A part's name stands above its bar: beside it, it would take half of a phone's width.
    above = alt.Axis(
        labelAlign="left",
        labelOffset=-11,
        labelPadding=0,
        labelLimit=320,
        ticks=False,
        domain=False,
    )
    y = alt.Y("part:N", sort=[WHOLE, *parts], title=None, axis=above)
    x = alt.X("share:Q", title="Share of the time (%)", scale=alt.Scale(domain=[0, 100]))
    color = alt.Color("phase:O", sort=list(PHASES), legend=alt.Legend(title=None))
    tooltip = [
        alt.Tooltip("part:N", title="Part"),
        alt.Tooltip("phase:N", title="Phase"),
        alt.Tooltip("meaning:N", title="Which is"),
        alt.Tooltip("share:Q", title="Share (%)", format=".2f"),
        alt.Tooltip("seconds:Q", title="Seconds", format=",.1f"),
    ]
    bars = alt.Chart(rows).mark_bar(height=14, yOffset=8)
    return layered(
        bars.encode(x, y, color=color, order="order:Q", tooltip=tooltip),
        height=ROW * rows.part.nunique(),
    )


def figure(seconds: pd.DataFrame) -> Figure:
    """Return the figure of the time of a study."""
    drawn = chart(seconds)
    return Figure(
        "time-spent",
        "Where the time went",
        sentence(seconds),
        export.to_spec(drawn),
        100 + ROW * (seconds.part.nunique() + 1),
    )
