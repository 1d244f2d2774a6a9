"""Certificates and kubeconfigs, all signed by one authority that is made with the ground."""

import base64
import datetime
import ipaddress
import json
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.ground.layout import API, API_SERVICE_IP, DOMAIN, KUBECONFIG, NODE, NODE_IP, PKI

CA = PKI / "ca.crt"
SERVICE_ACCOUNTS = PKI / "service-accounts.key"
WEBHOOKS = "kserve-webhook-server-service.kserve.svc"

CLIENTS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", None),
    "scheduler": ("system:kube-scheduler", None),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
    "apiserver-kubelet": ("apiserver-kubelet", "system:masters"),
    "front-proxy": ("front-proxy", None),
}
SERVERS = {
    "apiserver": [
        *("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"),
        *(f"kubernetes.default.svc.{DOMAIN}", NODE_IP, API_SERVICE_IP, "127.0.0.1"),
    ],
    "kubelet-server": [NODE, NODE_IP],
    "kserve": [WEBHOOKS, f"{WEBHOOKS}.{DOMAIN}"],
}


def certify() -> None:
    """Make what is missing: authority, certificates, key of the service accounts, kubeconfigs."""
    if KUBECONFIG.exists():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("ground")
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    authority = (
        _begin(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    _write("ca", key, authority)
    for file, (user, group) in CLIENTS.items():
        _issue(file, _name(user, group), [], authority, key)
    for file, names in SERVERS.items():
        _issue(file, _name(names[0]), names, authority, key)
    SERVICE_ACCOUNTS.write_bytes(_pem(rsa.generate_private_key(65537, 2048)))
    for file in ("controller-manager", "scheduler", "kubelet"):
        _kubeconfig(PKI / f"{file}.kubeconfig", file)
    _kubeconfig(KUBECONFIG, "admin")


def _name(user: str, group: str | None = None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
    if group:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(parts)


def _begin(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=30))
    )


def _issue(
    file: str,
    subject: x509.Name,
    names: list[str],
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    usages = [ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = _begin(subject, authority.subject, key.public_key()).add_extension(
        x509.ExtendedKeyUsage(usages), critical=False
    )
    if names:
        alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    _write(file, key, builder.sign(authority_key, hashes.SHA256()))


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(file: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    (PKI / f"{file}.key").write_bytes(_pem(key))
    (PKI / f"{file}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _kubeconfig(path: Path, user: str) -> None:
    def data(file: str) -> str:
        return base64.b64encode((PKI / file).read_bytes()).decode()

    login = {"client-certificate-data": data(f"{user}.crt"), "client-key-data": data(f"{user}.key")}
    cluster = {"server": API, "certificate-authority-data": data("ca.crt")}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "ground", "cluster": cluster}],
        "users": [{"name": user, "user": login}],
        "contexts": [{"name": "ground", "context": {"cluster": "ground", "user": user}}],
        "current-context": "ground",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=1))
