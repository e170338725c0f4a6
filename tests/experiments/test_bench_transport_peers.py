"""Flower on a small network, by both of its paths; only where `make peers` has installed it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.bench.transport_peers import PeerError, check_installed
from tests.conftest import NOISE, fedcell


def test_flower_by_both_paths_beside_fedcell(tmp_path: Path) -> None:
    try:
        check_installed()
    except PeerError as missing:
        pytest.skip(str(missing))
    link = ["--link", "20mbit/2ms", "--peers", "--peer-link", "20mbit/2ms", "--rounds", "1"]
    done = fedcell("bench", "transport", *link, "adapter.rank=1", "--output", tmp_path, "--json")
    document = json.loads(done.stdout)
    noise = [line for line in document["failures"] if NOISE.search(line)]
    assert document["failures"] == noise, done.stderr
    systems = [(one["system"], one["tensors"]) for one in document["rows"]]
    expected = [(name, tensors) for name in ("Flower gRPC", "Flower SuperLink") for tensors in (1, 256)]
    assert systems == [("fedcell", 256), *expected]
    for one in document["rows"]:
        assert one["payload_bytes"] == 4 * 199_296
        assert one["ratio"] > 1
        assert one["payload_bytes"] * 1514 / 1448 < min(one["wire_up_bytes"], one["wire_down_bytes"])
        assert sum(one["causes"].values()) == pytest.approx(one["latency_s"] - one["bound_s"], abs=1e-6)
