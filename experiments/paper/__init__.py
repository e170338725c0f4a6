"""`fedcell paper`: the claim of arXiv 2307.07146 as measurements, one part of the suite a file.

Data flows one way: presets -> plan -> trials (experiments/sweep) -> measured -> tables -> figures -> report.
Every number comes from a run directory. Only the paper's abstract is at hand: none of them is the paper's.
"""
