"""Measurements of fedcell itself, one subject a file: each measures, writes its tables, and judges them.

Nothing here configures anything that a run uses; a bench uses what a run uses, on links of its own.
"""
