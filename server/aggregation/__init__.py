"""Aggregation methods, one file each: updates of a cohort in, one step of the global adapter out."""
