"""How Airflow's side talks HTTP: with the machine's certificates, and past its proxies."""

import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contract import BadConfig

if TYPE_CHECKING:
    import httpx


def http_client(*, certificates: str = "", **options: Any) -> "httpx.Client":
    """Return a client for servers inside the cluster, or behind its ingress.

    Proxies and logins of the environment are not for them, but its certificates are:
    ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``.

    Parameters
    ----------
    certificates : str
        File or folder of the authorities to trust in place of those.
    **options
        Passed to :class:`httpx.Client`.

    Raises
    ------
    BadConfig
        The certificates cannot be read.
    """
    # imported late: only who talks has to wait for it
    import httpx

    # it logs a line per request
    logging.getLogger("httpx").setLevel(logging.WARNING)
    trusted = _context(certificates) if certificates else True
    # a transport of its own takes certificates from the environment, and no proxy
    return httpx.Client(transport=httpx.HTTPTransport(verify=trusted), trust_env=False, **options)


def _context(path: str) -> ssl.SSLContext:
    try:
        if Path(path).is_dir():
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise BadConfig(
            f"{path}: certificates cannot be read: {error}; give a PEM file or a folder of them"
        ) from error
