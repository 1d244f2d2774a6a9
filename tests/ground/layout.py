"""Where the ground lies and which addresses it has."""

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
REPOSITORY = FOLDER.parents[1]

BUILT = REPOSITORY / ".local" / "ground"
BIN = BUILT / "bin"
IMAGES = BUILT / "images"

# Not below the repository: paths of sockets may have 107 characters, and `make clean` must not walk
# into what is mounted.
STATE = Path(os.environ.get("GROUND_DIR", "/var/lib/trusted-retraining-ground"))
KUBECONFIG = STATE / "kubeconfig"
LOGS = STATE / "logs"
PKI = STATE / "pki"
CONTAINERD_SOCKET = STATE / "run" / "containerd.sock"

# All processes of the ground live in a network namespace of their own: their firewall rules, sets
# of addresses and bridges never meet those of the machine or of another cluster, and go with it.
NETWORK = "ground"
NETWORK_FILE = Path("/run/netns") / NETWORK
HOST_LINK, NODE_LINK = "ground-host", "ground-node"
CGROUP = "ground"

NODE = "ground"
HOST_IP = "10.246.0.1"
"""Address of this machine that pods reach, where a test may serve S3 or MLflow."""
NODE_IP = "10.246.0.2"
API = f"https://{NODE_IP}:6443"
POD_RANGE = "10.245.0.0/16"
SERVICE_RANGE = "10.247.0.0/16"
API_SERVICE_IP = "10.247.0.1"
DNS_IP = "10.247.0.10"
DOMAIN = "cluster.local"
