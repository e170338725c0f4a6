"""A device: its session with the server, local training, compute. Imports proto; torch only in diffusion/.

`python -m client --server HOST:PORT --id NAME` runs one by itself, on a real device too.
"""
