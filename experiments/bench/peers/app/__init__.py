"""A Flower app, as `flwr run` packs and sends it: pyproject.toml and one module."""
