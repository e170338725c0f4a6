"""`python -m server`: the coordinator of one run, on a plain host:port."""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import os
import resource
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # What matters reaches us as errors, in one line each.

import grpc

from proto import codecs, federation_pb2_grpc
from proto.adapter import AdapterLayout, LayoutError, load_adapter
from proto.codecs import CodecError
from proto.connection import connection_options
from proto.events import EventLog
from proto.exchange import METHODS, TRAINER
from proto.lora import LoraLayout
from server.aggregation.options import AggregationError, AggregationOptions, OptimizerOptions
from server.alone import LocalFederation
from server.central import CentralFederation
from server.cohorts import Cohorts
from server.devices import Registry
from server.rounds import Federation, Plan
from server.selection import SelectionError, parse, read_availability
from server.selection.policies import POLICIES
from server.service import FederationService


class PortError(RuntimeError):
    """The address cannot be listened on."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(prog="python -m server", description=__doc__)
    cli.add_argument("--listen", required=True, metavar="HOST:PORT")
    cli.add_argument("--devices", required=True, help="names of the devices, comma-separated")
    cli.add_argument("--initial", required=True, type=Path, help="initial adapter (.safetensors)")
    cli.add_argument("--checkpoints", required=True, type=Path, help="folder for each round's adapter")
    cli.add_argument("--task", default="{}", help="JSON handed to the devices: what to train")
    cli.add_argument("--run-id", default="run")
    cli.add_argument("--rounds", type=int, default=1)
    cli.add_argument("--cohort", type=float, default=1.0, help="fraction of devices in a round")
    cli.add_argument("--selection", default="random", metavar="POLICY", help=f"which devices: {POLICIES}")
    cli.add_argument(
        "--availability",
        type=Path,
        metavar="FILE",
        help="CSV of when each device is there: device,from_s,until_s",
    )
    cli.add_argument("--availability-period", type=float, metavar="S", help="the trace repeats after so long")
    cli.add_argument(
        "--availability-scale", type=float, default=1.0, metavar="X", help="real seconds in one of the trace"
    )
    cli.add_argument(
        "--scheme",
        default="federated",
        choices=("federated", "central", "local"),
        help=f"who trains: devices together, the client '{TRAINER}' beside the server, or each device alone",
    )
    cli.add_argument("--collected", type=Path, metavar="DIR", help="where central training's data go")
    cli.add_argument("--data-limit", type=int, default=2**34, metavar="BYTES", help="of one device's data")
    cli.add_argument("--no-delivery", action="store_true", help="central: the adapter stays at the server")
    cli.add_argument("--uplink-codec", default="fp32")
    cli.add_argument("--error-feedback", choices=("auto", "on", "off"), default="auto", help="at the devices")
    cli.add_argument("--downlink-codec", default="fp32")
    cli.add_argument(
        "--full-codec",
        metavar="CODEC",
        help="send differences down; this codec, an exact one, brings the whole adapter where it is needed",
    )
    cli.add_argument("--method", default="fedit", help=f"of aggregation: {', '.join(METHODS)}")
    cli.add_argument("--mean", default="weighted", help="weighted, median or trimmed(FRACTION)")
    cli.add_argument("--optimizer", default="none", choices=("none", "fedavgm", "fedadam"))
    cli.add_argument("--learning-rate", type=float, help="the optimizer's; default 1, fedadam's 0.01")
    cli.add_argument("--momentum", type=float, default=0.9, help="fedavgm's, and fedadam's first")
    cli.add_argument("--second-momentum", type=float, default=0.99, help="fedadam's")
    cli.add_argument("--adaptivity", type=float, default=1e-3, help="fedadam's tau")
    cli.add_argument("--merge-rank", type=int, metavar="R", help="of what flora and fedex merge")
    cli.add_argument("--no-discordance", action="store_true", help="do not work it out in each round")
    cli.add_argument("--ranks", help="each device's LoRA rank, comma-separated; else the initial adapter's")
    cli.add_argument("--seed", type=int, default=0)
    cli.add_argument("--deadline", type=float, default=3600, help="seconds until a round closes")
    cli.add_argument("--join-timeout", type=float, default=300, help="seconds to wait for all devices")
    cli.add_argument("--reconnect-grace", type=float, default=5, help="seconds for a cut device to return")
    cli.add_argument("--close-after", type=float, default=1.0, help="fraction of a cohort that ends a round")
    cli.add_argument("--close-grace", type=float, default=0, help="seconds the others get after that")
    cli.add_argument(
        "--staleness-exponent", type=float, help="late updates count, by (1 + staleness)^-this; else refused"
    )
    cli.add_argument("--keepalive", type=float, default=60, help="seconds of silence until a ping")
    cli.add_argument("--events", type=Path, help="append events to this JSON Lines file")
    return cli


def _allow_many_files() -> None:
    """A round keeps a file for each of its updates, and as many again while it works on them."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def serve(arguments: argparse.Namespace) -> bool:
    """Run all rounds; returns whether each had an update."""
    uplink = codecs.parse(arguments.uplink_codec)
    codecs.parse(arguments.downlink_codec)
    aggregation = _aggregation(arguments)
    layout, adapter = load_adapter(arguments.initial)
    ranks = _ranks(arguments, layout, aggregation)
    events = EventLog(arguments.events, "server")
    names = arguments.devices.split(",")
    registry = Registry(arguments.run_id, [*names, TRAINER] if arguments.scheme == "central" else names)
    federation = _scheme(arguments)(
        plan=Plan(
            rounds=arguments.rounds,
            uplink_codec=arguments.uplink_codec,
            downlink_codec=arguments.downlink_codec,
            seed=arguments.seed,
            deadline_s=arguments.deadline,
            join_timeout_s=arguments.join_timeout,
            reconnect_grace_s=arguments.reconnect_grace,
            close_share=arguments.close_after,
            close_grace_s=arguments.close_grace,
            staleness_exponent=arguments.staleness_exponent,
            error_feedback=arguments.error_feedback == "on"
            or (
                arguments.error_feedback == "auto"
                and uplink.wants_error_feedback
                and aggregation.takes_error_feedback
            ),
            full_codec=arguments.full_codec,
            aggregation=aggregation,
            ranks=ranks,
        ),
        registry=registry,
        cohorts=_cohorts(arguments, registry, events),
        layout=layout,
        adapter=adapter,
        checkpoints=arguments.checkpoints,
        events=events,
    )
    # Two servers on one port must clash, not share it.
    options = [("grpc.so_reuseport", 0), *connection_options(arguments.keepalive)]
    server = grpc.aio.server(options=options)
    federation_pb2_grpc.add_FederationServicer_to_server(
        FederationService(federation, arguments.task), server
    )
    try:
        server.add_insecure_port(arguments.listen)
    except RuntimeError as error:
        raise PortError(f"cannot listen on {arguments.listen}: is the port in use?") from error
    await server.start()
    federation.events.write(
        "server_ready", listen=arguments.listen, values=layout.size, selection=arguments.selection
    )
    try:
        return await federation.run()
    finally:
        federation.events.write("server_end")
        await server.stop(grace=5)


def _scheme(arguments: argparse.Namespace) -> Callable[..., Federation]:
    """What makes the federation of the scheme that was asked for. Raises AggregationError."""
    if arguments.scheme == "federated":
        return Federation
    plain = arguments.method == "fedit" and arguments.full_codec is None
    if not plain or arguments.staleness_exponent is not None:
        raise AggregationError(f"--scheme {arguments.scheme}: there are no updates to aggregate: fedit only")
    if arguments.scheme == "local":
        return LocalFederation
    if arguments.collected is None:
        raise AggregationError("--scheme central: --collected says where the devices' data go")
    return partial(
        CentralFederation,
        collected=arguments.collected,
        data_limit=arguments.data_limit,
        deliver=not arguments.no_delivery,
    )


def _aggregation(arguments: argparse.Namespace) -> AggregationOptions:
    """What was asked for. Raises AggregationError."""
    optimizer = OptimizerOptions(
        arguments.optimizer,
        arguments.learning_rate,
        arguments.momentum,
        arguments.second_momentum,
        arguments.adaptivity,
    )
    options = AggregationOptions(
        arguments.method,
        arguments.mean,
        optimizer,
        discordance=not arguments.no_discordance,
        merge_rank=arguments.merge_rank,
    )
    options.check_rounds(
        late=arguments.staleness_exponent is not None,
        delta=arguments.full_codec is not None,
        error_feedback=arguments.error_feedback == "on",
    )
    return options


def _ranks(
    arguments: argparse.Namespace, layout: AdapterLayout, options: AggregationOptions
) -> tuple[int, ...]:
    """Each device's rank, or none at all. Raises AggregationError and LayoutError."""
    largest = LoraLayout(layout).rank
    try:
        ranks = [int(rank) for rank in arguments.ranks.split(",")] if arguments.ranks else []
    except ValueError as error:
        raise AggregationError(f"--ranks {arguments.ranks}: whole numbers, comma-separated") from error
    options.check_devices(ranks or ([] if largest is None else [largest]))
    if ranks and (len(ranks) != len(arguments.devices.split(",")) or max(ranks) != largest):
        raise AggregationError(
            f"--ranks {arguments.ranks}: one a device, the largest that of the initial adapter, {largest}"
        )
    return tuple(ranks)


def _cohorts(arguments: argparse.Namespace, registry: Registry, events: EventLog) -> Cohorts:
    """The policy and the trace that were asked for. Raises SelectionError."""
    names = list(registry.devices)
    selector = parse(arguments.selection, devices=len(names), fraction=arguments.cohort, seed=arguments.seed)
    if not 0 < arguments.availability_scale < math.inf:
        raise SelectionError(f"--availability-scale {arguments.availability_scale:g}: must be above 0")
    availability = None
    if arguments.availability is not None:
        availability = read_availability(arguments.availability, names, arguments.availability_period)
    return Cohorts(registry, selector, availability, scale=arguments.availability_scale, events=events)


def main() -> int:
    """0 done, 1 a round without any update or devices missing, 2 wrong input."""
    logging.basicConfig(level=logging.INFO, format="server: %(message)s", stream=sys.stderr)
    arguments = parser().parse_args()
    _allow_many_files()
    try:
        return 0 if asyncio.run(serve(arguments)) else 1
    except TimeoutError as error:
        print(f"server: {error}", file=sys.stderr)
        return 1
    except (AggregationError, LayoutError, CodecError, SelectionError, PortError, OSError) as error:
        print(f"server: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
