"""A Flower app for SuperLink and SuperNode: arrays down and up, nothing to train, marks in the event log."""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from experiments.bench.peers.marks import DeviceMarks, ServerMarks
from experiments.bench.peers.vectors import changed, tensors

server_app = ServerApp()
client_app = ClientApp()


class MarkedFedAvg(FedAvg):
    """Federated averaging that notes when a round's messages are ready to go and when its average is."""

    def __init__(self, payload_bytes: int) -> None:
        super().__init__(fraction_evaluate=0.0, min_train_nodes=1, min_available_nodes=1)
        self._marks = ServerMarks(payload_bytes)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        messages = super().configure_train(server_round, arrays, config, grid)
        self._marks.sending(server_round)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = list(replies)
        self._marks.received(server_round)
        average = super().aggregate_train(server_round, replies)
        self._marks.aggregated(server_round, finished=average[0] is not None)
        return average


@server_app.main()
def serve(grid: Grid, context: Context) -> None:
    """All rounds."""
    asked = context.run_config
    arrays = tensors(int(asked["values"]), int(asked["tensors"]))
    strategy = MarkedFedAvg(sum(array.nbytes for array in arrays))
    strategy.start(grid=grid, initial_arrays=ArrayRecord(arrays), num_rounds=int(asked["rounds"]))


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """What was sent, each value changed: equal objects would not be sent again."""
    arrays = message.content["arrays"].to_numpy_ndarrays()
    marks = DeviceMarks(message.content["config"]["server-round"], sum(array.nbytes for array in arrays))
    marks.downloaded()
    update = RecordDict(
        {
            "arrays": ArrayRecord(changed(arrays)),
            "metrics": MetricRecord({"num-examples": 1}),
        }
    )
    marks.trained()
    return Message(content=update, reply_to=message)
