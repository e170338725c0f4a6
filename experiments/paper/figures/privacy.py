"""What privacy costs and brings: experiments/figures/privacy.py's figure, of the suite's trials."""

from __future__ import annotations

from matplotlib.figure import Figure

from experiments.figures import privacy
from experiments.paper.figures import marks


def draw(tables: marks.Tables) -> Figure:
    """From `privacy`."""
    table = tables["privacy"]
    figure = privacy.draw(table.assign(scheme=table["scheme"].map(marks.title)))
    marks.note(figure, tables["trials"], "privacy", "learning")
    return figure
