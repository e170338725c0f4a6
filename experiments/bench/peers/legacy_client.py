"""Flower's `start_client` with marks. Runs in the peers' own environment: ADDRESS."""

from __future__ import annotations

import sys

import numpy as np
from flwr.client import NumPyClient, start_client
from flwr.common import Scalar
from numpy.typing import NDArray

from experiments.bench.peers.marks import DeviceMarks
from experiments.bench.peers.vectors import changed


class NothingToTrain(NumPyClient):
    """Returns what it was sent, each value changed."""

    def fit(
        self, parameters: list[NDArray[np.float32]], config: dict[str, Scalar]
    ) -> tuple[list[NDArray[np.float32]], int, dict[str, Scalar]]:
        marks = DeviceMarks(int(config["round"]), sum(array.nbytes for array in parameters))
        marks.downloaded()
        update = changed(parameters)
        marks.trained()
        return update, 1, {}


if __name__ == "__main__":
    start_client(server_address=sys.argv[1], client=NothingToTrain().to_client(), insecure=True)
