"""The network: sandbox, topologies, links, calibration. Knows nothing of federated learning."""
