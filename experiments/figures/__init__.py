"""Figures, one file each: tables in, PNG and PDF out. They read a run's tables and nothing else."""

from experiments.figures.run import draw_run

__all__ = ["draw_run"]
