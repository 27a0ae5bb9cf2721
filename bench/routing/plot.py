"""The changing world as a picture: what each strategy has lost by then.

Above it: `__main__`. Below it: `drift`, plotly. Outside it: the numbers.
"""

from itertools import accumulate
from pathlib import Path

import plotly.graph_objects

from bench.routing.drift import CHANGES, INTERVAL, Regrets, averaged

EVERY = 20
"""Steps between two points of a line."""


def regrets(found: Regrets, path: Path) -> Path:
    """Draw the regret that has come together, the oracle's being 0, into an HTML file that needs no network."""
    figure = plotly.graph_objects.Figure()
    for name, runs in found.items():
        lost = list(accumulate(averaged(runs)))[::EVERY]
        minutes = [step * EVERY * INTERVAL / 60.0 for step in range(len(lost))]
        width = 4 if name == "ours" else 1.5
        figure.add_scatter(x=minutes, y=lost, name=name, mode="lines", line={"width": width})
    for step, change in CHANGES.items():
        figure.add_vline(x=step * INTERVAL / 60.0, line_dash="dot", annotation_text=change)
    figure.update_layout(
        title="Regret against an oracle while the world changes (mean of all runs)",
        xaxis_title="minutes",
        yaxis_title="score lost so far",
        template="plotly_white",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.write_html(path)
    return path
