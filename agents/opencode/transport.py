"""How a connection to an agent server is secured: whose certificates count, and what is said when one does not."""

from __future__ import annotations

import ipaddress
import os
import ssl
from typing import Any
from urllib.parse import urlsplit

from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from studio.kernel.errors import Invalid
from studio.kernel.text import clean, cut


class VerifyingAdapter(HTTPAdapter):
    """Connections that trust what `context` trusts, and nothing that the environment or a default list names."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        super().__init__(pool_connections=1, pool_maxsize=4)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """See HTTPAdapter."""
        if self._context is not None:
            kwargs["ssl_context"] = self._context
        super().init_poolmanager(*args, **kwargs)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """See HTTPAdapter. A proxy passes TLS through, so the server's certificate is checked all the same."""
        if self._context is not None:
            kwargs["ssl_context"] = self._context
        return super().proxy_manager_for(*args, **kwargs)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """See HTTPAdapter: here the context decides, whatever the environment asks for."""
        conn.cert_reqs = "CERT_REQUIRED"

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        """See HTTPAdapter."""
        return super().build_connection_pool_key_attributes(request, True, None)


def tls_context(ca_pem: str = "") -> ssl.SSLContext:
    """What is trusted: the authorities in `ca_pem` and no other, or else those of this system. Raises Invalid for no PEM."""
    try:
        context = ssl.create_default_context(cadata=ca_pem or None)
    except (ssl.SSLError, ValueError) as error:
        raise Invalid("This is no certificate in PEM form (-----BEGIN CERTIFICATE-----).", code="invalid") from error
    if not ca_pem:
        context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)  # a small system has no list of its own
        named = os.environ.get("REQUESTS_CA_BUNDLE")
        if named:
            context.load_verify_locations(named)
    return context


def tls_problem(url: str, error: BaseException) -> str:
    """A sentence for a connection that could not be secured."""
    found = _cause(error)
    if isinstance(found, ssl.SSLCertVerificationError):
        reason = cut(clean(found.verify_message or found.reason or ""), 200).rstrip(".")
        return (
            f"The certificate of {url} is not trusted: {reason}. Give the server the certificate authority that signed it, "
            "or a certificate for this very name."
        )
    if isinstance(found, ssl.SSLError) and "WRONG_VERSION_NUMBER" in str(found):
        return f"{url} does not speak https. Enter its address with http://."
    return f"{url} could not be connected to securely ({cut(clean(str(found or error)), 200)})."


def _cause(error: BaseException) -> BaseException | None:
    """The TLS error below what the layers above made of it."""
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None or isinstance(seen, ssl.SSLError):
            return seen
        inner = getattr(seen, "reason", None) or (seen.args[0] if seen.args else None)
        seen = inner if isinstance(inner, BaseException) else seen.__cause__ or seen.__context__
    return None


def is_loopback(url: str) -> bool:
    """Whether `url` is of this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
