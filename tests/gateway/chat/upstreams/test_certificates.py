"""Files of certificates that cannot be used are refused in a sentence that names the setting and the file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.chat.upstreams.certificates import tls_context, trusted_by
from gateway.chat.upstreams.way_out import way_out
from gateway.errors import ConfigurationError
from gateway.upstream_settings import Network, UpstreamSettings
from tests.support.authority import Authority, openssl


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    folder = made.folder
    certificate, key = made.sign("client")
    made.sign("other")
    (folder / "both.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
    openssl("ec", "-in", str(key), "-aes256", "-passout", "pass:x", "-out", str(folder / "encrypted.key"))
    openssl("x509", "-in", str(certificate), "-outform", "DER", "-out", str(folder / "client.der"))
    (folder / "empty.pem").touch()
    (folder / "words.pem").write_text("no certificate\n")
    (folder / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (folder / "hashed").mkdir()
    (folder / "hashed" / "01234567.0").write_bytes(made.pem.read_bytes())
    (folder / "unhashed").mkdir()
    (folder / "unhashed" / "ca.pem").write_bytes(made.pem.read_bytes())
    return made


def upstream(folder: Path, **files: str) -> UpstreamSettings:
    paths: dict[str, Any] = {name: str(folder / file) for name, file in files.items()}
    return UpstreamSettings(name="one", base_url="https://one/v1", **paths)


@pytest.mark.parametrize(
    "files",
    [
        {"ca": "ca.pem"},
        {"ca": "client.pem"},
        {"client_certificate": "client.pem", "client_key": "client.key"},
        {"client_certificate": "both.pem"},
        {"ca": "ca.pem", "client_certificate": "both.pem"},
    ],
)
def test_certificates_in_pem_are_taken(authority: Authority, files: dict[str, str]) -> None:
    context = tls_context(upstream(authority.folder, **files), Network())
    assert context is not None
    if "ca" in files:
        assert len(context.get_ca_certs()) == (1 if files["ca"] == "ca.pem" else 0)
        assert context.cert_store_stats()["x509"] == 1


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"ca": "missing.pem"}, "`ca` of upstream 'one', {}/missing.pem, cannot be read: No such file"),
        ({"ca": "hashed"}, "{}/hashed, "),
        ({"ca": "client.der"}, "{}/client.der, is no PEM file of certificates"),
        ({"ca": "empty.pem"}, "{}/empty.pem, is no PEM file"),
        ({"ca": "words.pem"}, "{}/words.pem, is no PEM file"),
        ({"ca": "broken.pem"}, "{}/broken.pem, is no PEM file"),
        ({"ca": "client.key"}, "{}/client.key, is no PEM file"),
        ({"client_key": "client.key"}, "`client_key` without a `client_certificate`"),
        ({"client_certificate": "missing.pem"}, "`client_certificate` of upstream 'one', {}/missing.pem, cannot"),
        ({"client_certificate": "client.pem", "client_key": "missing.key"}, "`client_key` of upstream 'one', {}/miss"),
        ({"client_certificate": "client.pem"}, "are no pair"),
        ({"client_certificate": "client.pem", "client_key": "other.key"}, "are no pair"),
        ({"client_certificate": "words.pem", "client_key": "client.key"}, "are no pair"),
        ({"client_certificate": "client.pem", "client_key": "encrypted.key"}, "is encrypted"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(authority: Authority, files: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        tls_context(upstream(authority.folder, **files), Network())
    assert says.format(authority.folder) in refusal.value.detail
    assert "upstream 'one'" in refusal.value.detail


NetworkOf = Callable[[Path], Network]
NETWORKS: list[tuple[NetworkOf, str]] = [
    (lambda folder: Network(ssl_cert_file=f"{folder}/missing.pem"), "SSL_CERT_FILE, {}/missing.pem, cannot be read"),
    (lambda folder: Network(ssl_cert_file=f"{folder}/client.der"), "SSL_CERT_FILE, {}/client.der, is no PEM"),
    (lambda folder: Network(ssl_cert_dir=f"{folder}/missing"), "SSL_CERT_DIR={}/missing: there is no such folder"),
    (lambda folder: Network(ssl_cert_dir=f"{folder}/ca.pem"), "SSL_CERT_DIR={}/ca.pem: there is no such folder"),
    (lambda folder: Network(ssl_cert_dir=f"{folder}/unhashed"), "`openssl rehash`"),
]


@pytest.mark.parametrize(("network", "says"), NETWORKS, ids=[says for _, says in NETWORKS])
def test_the_environments_authorities_are_named_when_they_cannot_be_used(
    authority: Authority, network: NetworkOf, says: str
) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        tls_context(upstream(authority.folder), network(authority.folder))
    assert says.format(authority.folder) in refusal.value.detail


def test_the_environments_authorities_are_taken(authority: Authority) -> None:
    folder = authority.folder
    assert trusted_by(Network()) is None
    for network in (
        Network(ssl_cert_file=str(authority.pem)),
        Network(ssl_cert_dir=f"{folder}/missing:{folder}/hashed"),
        Network(ssl_cert_file=str(authority.pem), ssl_cert_dir=f"{folder}/unhashed"),
    ):
        assert trusted_by(network) is not None


def test_an_upstreams_own_authorities_stand_in_place_of_the_environments(authority: Authority) -> None:
    network = Network(ssl_cert_file=str(authority.folder / "missing.pem"))
    assert tls_context(upstream(authority.folder, ca="ca.pem"), network) is not None


@pytest.mark.parametrize("setting", ["ca", "client_certificate", "client_key"])
def test_certificates_without_tls_are_refused(setting: str) -> None:
    settings = UpstreamSettings(name="one", base_url="http://one/v1", **{setting: "/x.pem"})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=f"`{setting}`.*want https://"):
        way_out(settings, Network())
