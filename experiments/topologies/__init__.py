"""Users' own topologies, by example: plain Mininet files, which nothing imports.

`network.topology=path/to/file.py:name` takes them as `mn --custom` does; what may stand in one, and what is
refused, is in emulation/topologies/custom.py.
"""
