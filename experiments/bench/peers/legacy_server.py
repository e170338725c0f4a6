"""Flower's `start_server` with marks. Runs in the peers' own environment: ADDRESS ROUNDS VALUES TENSORS."""

from __future__ import annotations

import sys

import flwr
from flwr.common import FitIns, FitRes, Parameters, Scalar, ndarrays_to_parameters
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvg

from experiments.bench.peers.marks import ServerMarks
from experiments.bench.peers.vectors import tensors


class MarkedFedAvg(FedAvg):
    """Federated averaging that notes when a round's messages are ready to go and when its average is."""

    def __init__(self, initial: Parameters, payload_bytes: int) -> None:
        super().__init__(
            fraction_evaluate=0.0,
            min_fit_clients=1,
            min_available_clients=1,
            initial_parameters=initial,
        )
        self._marks = ServerMarks(payload_bytes)

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        instructions = super().configure_fit(server_round, parameters, client_manager)
        for _, instruction in instructions:
            instruction.config = {"round": server_round}
        self._marks.sending(server_round)
        return instructions

    def aggregate_fit(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, FitRes]],
        failures: list[tuple[ClientProxy, FitRes] | BaseException],
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        self._marks.received(server_round)
        average = super().aggregate_fit(server_round, results, failures)
        self._marks.aggregated(server_round, finished=average[0] is not None)
        return average


def main() -> None:
    """All rounds."""
    address, rounds, values, count = sys.argv[1], *map(int, sys.argv[2:])
    arrays = tensors(values, count)
    strategy = MarkedFedAvg(ndarrays_to_parameters(arrays), sum(array.nbytes for array in arrays))
    flwr.server.start_server(
        server_address=address,
        config=flwr.server.ServerConfig(num_rounds=rounds),
        strategy=strategy,
    )


if __name__ == "__main__":
    main()
