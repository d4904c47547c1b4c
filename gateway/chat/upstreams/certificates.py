"""Reads the certificates of the way to an upstream, at start: whom to trust, and which of our own to show.

In place of the system's authorities stand those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, and in place of all of them the
`ca` of an upstream.
"""

import os
import re
import ssl
from pathlib import Path

from gateway.errors import ConfigurationError
from gateway.upstream_settings import Network, UpstreamSettings

HASHED_NAME = re.compile(r"[0-9a-f]{8}\.\d+")
"""A certificate's name in a folder that OpenSSL can read."""


class _KeyIsEncrypted(Exception):
    """The private key wants a password."""


def tls_context(settings: UpstreamSettings, network: Network) -> ssl.SSLContext | None:
    """Returns what connections to this upstream are secured with; None for the system's authorities and no more.

    Raises ConfigurationError, whose sentence names the setting and the file.
    """
    context = _trusting(f"`ca` of upstream {settings.name!r}", settings.ca) if settings.ca else trusted_by(network)
    if settings.client_key and not settings.client_certificate:
        raise ConfigurationError(f"upstream {settings.name!r} has a `client_key` without a `client_certificate`")
    if settings.client_certificate:
        context = context or system_context()
        _show(context, settings)
    return context


def trusted_by(network: Network) -> ssl.SSLContext | None:
    """Returns the authorities that the environment names; None when it names none. Raises ConfigurationError."""
    context = _trusting("SSL_CERT_FILE", network.ssl_cert_file) if network.ssl_cert_file else None
    if not network.ssl_cert_dir:
        return context
    folders = [name for name in network.ssl_cert_dir.split(os.pathsep) if name and os.path.isdir(name)]
    if not folders:
        raise ConfigurationError(f"SSL_CERT_DIR={network.ssl_cert_dir}: there is no such folder")
    if context is None and not any(_has_hashed(folder) for folder in folders):
        raise ConfigurationError(
            f"SSL_CERT_DIR={network.ssl_cert_dir} holds no certificate under its hash: run `openssl rehash` on it, "
            "or set SSL_CERT_FILE"
        )
    if context is None:
        return ssl.create_default_context(capath=network.ssl_cert_dir)
    context.load_verify_locations(capath=network.ssl_cert_dir)
    return context


def system_context() -> ssl.SSLContext:
    """Returns the system's authorities, without a look at the environment."""
    import httpx2

    return httpx2.create_ssl_context(trust_env=False)


def _has_hashed(folder: str) -> bool:
    try:
        return any(HASHED_NAME.fullmatch(name) for name in os.listdir(folder))
    except OSError as err:
        raise ConfigurationError(f"SSL_CERT_DIR: {folder} cannot be read: {err.strerror}") from err


def _trusting(setting: str, path: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError as err:
        raise ConfigurationError(f"{setting}, {path}, is no PEM file of certificates: {err.reason}") from err
    except OSError as err:
        raise ConfigurationError(f"{setting}, {path}, cannot be read: {err.strerror}") from err


def _show(context: ssl.SSLContext, settings: UpstreamSettings) -> None:
    certificate, key = settings.client_certificate, settings.client_key or settings.client_certificate
    of = f"of upstream {settings.name!r}"
    for setting, path in (("client_certificate", certificate), ("client_key", key)):
        try:
            Path(path).open("rb").close()
        except OSError as err:
            raise ConfigurationError(f"`{setting}` {of}, {path}, cannot be read: {err.strerror}") from err

    def refuse_password() -> str:
        raise _KeyIsEncrypted

    try:
        context.load_cert_chain(certificate, key, refuse_password)
    except _KeyIsEncrypted as err:
        raise ConfigurationError(
            f"`client_key` {of}, {key}, is encrypted, and nobody is here to type its password: "
            "`openssl pkey` writes it without one"
        ) from err
    except ssl.SSLError as err:
        raise ConfigurationError(
            f"`client_certificate` {of}, {certificate}, and its key, {key}, are no pair in PEM: {err.reason}"
        ) from err
