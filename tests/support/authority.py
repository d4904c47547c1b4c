"""An Authority signs certificates for a test, with the `openssl` command."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


class Authority:
    """Signs what it is asked to, in its folder; `pem` is its own certificate."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        if shutil.which("openssl") is None:
            pytest.skip("there is no openssl to make certificates with")
        self.folder = folder
        self.pem, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        names = ["-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE"]
        openssl("req", "-x509", *NEW_KEY, *names, "-days", "2", "-keyout", str(self._key), "-out", str(self.pem))

    def sign(self, name: str, hosts: str = "DNS:localhost,IP:127.0.0.1", days: int = 2) -> tuple[Path, Path]:
        """Returns a certificate and its key, in files of that name; with days below 0 it has expired."""
        certificate, key, request = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
        names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={hosts}"]
        openssl("req", *NEW_KEY, *names, "-keyout", str(key), "-out", str(request))
        signed_by = ["-CA", str(self.pem), "-CAkey", str(self._key), "-copy_extensions", "copy", "-days", str(days)]
        openssl("x509", "-req", "-in", str(request), *signed_by, "-out", str(certificate))
        return certificate, key

    def server(self, name: str = "server", hosts: str = "DNS:localhost,IP:127.0.0.1", days: int = 2) -> ssl.SSLContext:
        """Returns a server's end of TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.sign(name, hosts, days))
        return context

    def server_that_asks(self, name: str = "asking") -> ssl.SSLContext:
        """Returns a server's end of TLS that wants a client's certificate of this authority."""
        context = self.server(name)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.pem)
        return context


def openssl(*args: str) -> None:
    subprocess.run(["openssl", *args], check=True, capture_output=True)
