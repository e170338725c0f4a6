"""Flower as `fedcell bench transport --peers` runs it: by its own packages, in an environment of its own.

`make peers` creates that environment (.peers/) from constraints.txt. Nothing here is imported by fedcell;
transport_peers.py starts these files in it, inside the hosts of the same network.
"""
