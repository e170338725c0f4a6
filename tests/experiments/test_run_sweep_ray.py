"""Trials on a Ray cluster: two nodes, here both on this machine, each with a sandbox of its own."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest

import proto
from tests.conftest import CONFIGS, NOISE, REPOSITORY, fedcell_json, traces

TINY = ["rounds=1", "network.devices=[{}]", "network.profile=wifi"]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a cluster of two nodes with two processors each."""
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray is optional")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))  # The workers' code is this one, whatever is installed.
    node = {"num_cpus": 2, "object_store_memory": 80 * 2**20}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(**node)
        yield cluster.address
    finally:
        cluster.shutdown()


def test_trials_run_on_both_nodes_and_their_tables_come_back(cluster: str, tmp_path: Path) -> None:
    before = traces()
    arguments = [CONFIGS / "smoke.yaml", *TINY, "adapter.rank=1,2", "--output", tmp_path]
    arguments += ["--executor", "ray", "--ray-address", cluster]
    document = fedcell_json("sweep", *arguments, status=None)
    results = pd.read_csv(document["results_csv"])
    # Two runs on the cores of one may be late; they say so, and nothing else may be wrong.
    assert all(reason != reason or NOISE.search(reason) for reason in results["reason"])
    assert results["payload_up_bytes"].tolist() == [rank * 199_296 + 2 * rank * 3_114 for rank in (1, 2)]
    assert results["node"].nunique() == 2
    for run_dir in results["run_dir"]:
        assert (tmp_path / run_dir / "clients.csv").exists()
        assert not (tmp_path / run_dir / "adapters").exists()
    assert traces() == before
    assert fedcell_json("sweep", *arguments, status=None)["ran"] == 0


def test_ray_brings_no_other_package_named_proto() -> None:
    assert Path(proto.__path__[0]) == REPOSITORY / "proto"
    assert not any(d.name.lower() == "proto-plus" for d in metadata.distributions())
