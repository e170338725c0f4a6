"""What privacy costs and brings: experiments/figures/privacy.py's figure, of the suite's trials."""

from __future__ import annotations

from matplotlib.figure import Figure

from experiments.figures import privacy
from experiments.paper.figures import marks


def draw(tables: marks.Tables) -> Figure:
    """From `privacy`."""
    table = tables["privacy"]
    looks = {marks.title(scheme): look for scheme, look in marks.LOOKS.items()}
    figure = privacy.draw(table.assign(scheme=table["scheme"].map(marks.title)), looks)
    marks.note(figure, tables["trials"], "privacy", "learning")
    return figure
