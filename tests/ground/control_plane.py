"""etcd, the API server, the controller manager and the scheduler."""

from tests.ground.certificates import CA, SERVICE_ACCOUNTS
from tests.ground.layout import BIN, NODE_IP, PKI, SERVICE_RANGE, STATE
from tests.ground.processes import kubectl, need, start

CONTROL_PLANE = ("kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd")


def start_control_plane() -> None:
    """Start them, and wait until the API server is ready."""
    start(
        "etcd",
        BIN / "etcd",
        f"--data-dir={STATE / 'etcd'}",
        # the ground is never recovered after a crash, and an fsync a write makes everything slow
        "--unsafe-no-fsync",
        "--logger=zap",
    )
    start(
        "kube-apiserver",
        BIN / "kube-apiserver",
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={NODE_IP}",
        "--secure-port=6443",
        f"--tls-cert-file={PKI / 'apiserver.crt'}",
        f"--tls-private-key-file={PKI / 'apiserver.key'}",
        f"--client-ca-file={CA}",
        f"--cert-dir={PKI}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        # so that it is Pod Security that refuses a privileged pod
        "--allow-privileged=true",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={SERVICE_ACCOUNTS}",
        f"--service-account-signing-key-file={SERVICE_ACCOUNTS}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-certificate-authority={CA}",
        f"--kubelet-client-certificate={PKI / 'apiserver-kubelet.crt'}",
        f"--kubelet-client-key={PKI / 'apiserver-kubelet.key'}",
        # aggregated APIs, such as that of metrics-server
        f"--requestheader-client-ca-file={CA}",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={PKI / 'front-proxy.crt'}",
        f"--proxy-client-key-file={PKI / 'front-proxy.key'}",
    )
    need("the API server is ready", lambda: kubectl("get", "--raw", "/readyz"), 60)
    start(
        "kube-controller-manager",
        BIN / "kube-controller-manager",
        f"--kubeconfig={PKI / 'controller-manager.kubeconfig'}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--service-account-private-key-file={SERVICE_ACCOUNTS}",
        f"--root-ca-file={CA}",
        f"--cluster-signing-cert-file={CA}",
        f"--cluster-signing-key-file={PKI / 'ca.key'}",
        # the roles are per controller
        "--use-service-account-credentials=true",
    )
    start(
        "kube-scheduler",
        BIN / "kube-scheduler",
        f"--kubeconfig={PKI / 'scheduler.kubeconfig'}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    )
