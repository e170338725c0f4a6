"""From an experiment to the network it asks for."""

from __future__ import annotations

from dataclasses import replace

from emulation.dilation import RTO_MIN_S, dilate
from emulation.tcp import Tcp
from emulation.topology import Network
from experiments.config import Experiment


def build_network(experiment: Experiment) -> Network:
    """The network, not yet entered, in real time. Raises LinkError for what cannot be."""
    network, dilation = experiment.network, experiment.dilation
    return Network(
        network.graph.change_links(lambda link: dilate(link, dilation)),
        backend=experiment.emulation.backend,
        seed=experiment.seed,
        tcp_of={host: _dilate_tcp(tcp, dilation) for host, tcp in network.tcp_of_hosts().items()},
    )


def _dilate_tcp(tcp: Tcp, dilation: float) -> Tcp:
    if dilation == 1:
        return tcp
    return replace(tcp, rto_min_s=dilation * (tcp.rto_min_s or RTO_MIN_S))
