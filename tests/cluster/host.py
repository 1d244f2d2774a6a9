"""Which address of this machine the pods of the cluster in KUBECONFIG reach."""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import yaml


def host() -> str:
    """Return the address that this machine speaks to the API server from.

    Answers to it find their way back, those of pods too where they are routed as nodes are.
    `TEST_CLUSTER_HOST` names another.
    """
    named = os.environ.get("TEST_CLUSTER_HOST")
    if named:
        return named
    try:
        config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
        server = urlsplit(config["clusters"][0]["cluster"]["server"])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # nothing is sent: it only asks for the route
            probe.connect((server.hostname, server.port or 443))
            return str(probe.getsockname()[0])
    except (KeyError, IndexError, TypeError, OSError, yaml.YAMLError):
        # no cluster: nothing that needs the address runs
        return "127.0.0.1"
