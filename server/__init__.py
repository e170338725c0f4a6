"""The coordinator: who takes part, rounds, aggregation, checkpoints. Imports proto, and never torch.

`python -m server --help` runs it by itself; it needs an initial adapter and the devices' names.
"""
