"""Every block of code in the README runs as it stands; only addresses and folders are those of the test.

The units that the README starts answer the commands that it shows. What runs in a browser is tested in `tests/e2e`.
"""

import ast
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import httpx2
import numpy as np
import pytest
import soundfile
import soxr

from loadtests.ports import free_port
from tests.conftest import UpstreamThread, eventually
from tests.readme_settings import README
from tests.support.readme import GATEWAY, blocks, readme_block

ROOT = README.parent
JFK = ROOT / "tests/audio/data/jfk.flac"
TEST_OF_BLOCK = {
    "make run     #": "tests/test_readme_blocks.py::test_the_commands_of_a_newcomer_reach_their_programs",
    "OPENAI_API_KEY=sk-...": "tests/test_readme_blocks.py::test_a_key_and_a_server_are_given_to_make_run",
    "approvals/trilane.toml": "tests/e2e/test_page_tools.py::test_the_readmes_example_asks_and_goes_on",
    '"id": "c1"': "tests/test_readme_blocks.py::test_an_answer_is_asked_for_and_continued_from_the_shell",
    "$LAST_ID": "tests/test_readme_blocks.py::test_an_answer_is_asked_for_and_continued_from_the_shell",
    "useChat": "tests/e2e/test_page_proxied.py::test_the_conversation_and_the_running_answer_are_there_after_a_reload",
    "defineConfig": "tests/e2e/test_page_proxied.py::test_the_readmes_lines_for_vite_carry_the_microphones_socket",
    "chat.completions": "tests/test_readme_blocks.py::test_openais_client_prints_an_answer",
    "useLiveChat": "tests/e2e/test_page_live.py::test_two_devices_show_and_act_on_one_chat_over_cuts",
    'kind = "ag-ui"': "tests/gateway/test_upstream_settings.py::test_the_readmes_agent_is_one",
    "new EventSource": "tests/e2e/test_page_events.py::test_the_readmes_script_shows_what_is_published",
    "curl http": "tests/test_readme_blocks.py::test_an_event_is_published_from_the_shell",
    "MediaRecorder": "tests/e2e/test_page_audio.py::test_the_readmes_script_hears_the_microphone",
    "client.realtime": "tests/test_readme_blocks.py::test_openais_client_prints_what_is_said",
    "client.audio.speech": "tests/test_readme_blocks.py::test_openais_client_has_a_text_spoken",
    "trilane serve": "tests/test_readme_blocks.py::test_each_unit_that_is_started_is_ready",
    "trilane doctor": "tests/test_readme_blocks.py::test_the_other_commands_do_what_they_say",
    "trilane_publish": "tests/events/log/postgres/test_outbox.py::test_the_readmes_transaction_publishes",
    'name = "openai"': "tests/test_readme_blocks.py::test_the_upstreams_of_the_file_are_those_of_the_gateway",
    'model = "gpt-4.1-mini*"': "tests/gateway/core/test_prices.py::test_the_readmes_prices_are_those_of_the_gateway",
    'name = "crm"': "tests/gateway/test_tool_settings.py::test_the_readmes_servers_are_those_of_the_gateway",
    'name = "anthropic"': "tests/gateway/chat/upstreams/test_address.py::test_the_readmes_upstream_is_anthropics",
    'name = "azure"': "tests/gateway/chat/upstreams/test_address.py::test_the_readmes_upstream_is_azures",
    "make check": "tests/test_readme_blocks.py::test_the_commands_of_a_developer_are_targets",
}
"""The test of each block, by a text that only this block contains."""
UNITS = {"chat": 8001, "events": 8002, "audio": 8003}
Addresses = dict[str, str]


def bash(script: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=clean_env() | env, capture_output=True, text=True, timeout=60
    )


def clean_env() -> dict[str, str]:
    foreign = ("TRILANE_", "OPENAI_", "MAKE", "MFLAGS")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


# Every block has a test


def test_every_block_has_its_test() -> None:
    code = [block for block in blocks(README.read_text()) if block.language != "text"]
    assert [block.text for block in code if not block.language] == [], "say its language; `text` for what is only shown"
    for mark in TEST_OF_BLOCK:
        assert sum(mark in block.text for block in code) == 1, f"the mark {mark!r} stands for one block"
    for block in code:
        marks = [mark for mark in TEST_OF_BLOCK if mark in block.text]
        assert len(marks) == 1, f"a block of the README has no test, or two: add it to TEST_OF_BLOCK\n{block.text}"


def test_there_is_no_block_without_a_fence() -> None:
    outside = re.sub(r"^```.*?^```$", "", README.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"^(?: {4}|\t).*", outside, re.MULTILINE) == []


@pytest.mark.parametrize("test", sorted(set(TEST_OF_BLOCK.values())))
def test_the_test_of_a_block_is_there(test: str) -> None:
    path, _, name = test.partition("::")
    functions = [
        node
        for node in ast.parse((ROOT / path).read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert name in [function.name for function in functions]


# make


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for a `.venv` where everything is installed already."""
    folder = tmp_path_factory.mktemp("venv")
    (folder / "bin").symlink_to(Path(sys.executable).parent)
    for name in ("installed", "installed-dev"):
        (folder / name).touch()
    return folder


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_commands_of_a_newcomer_reach_their_programs(venv: Path, taken_port: int) -> None:
    run, test = readme_block("make run     #").text.splitlines()
    made = bash(run, ROOT, MAKEFLAGS=f"VENV={venv} PORT={taken_port}")
    assert f"port {taken_port} of 127.0.0.1 is taken" in made.stderr
    made = bash(test, ROOT, MAKEFLAGS=f"VENV={venv} ARGS=--version")
    assert (made.returncode, "pytest 9" in made.stdout + made.stderr) == (0, True)


def test_a_key_and_a_server_are_given_to_make_run(venv: Path, taken_port: int) -> None:
    for line in readme_block("OPENAI_API_KEY=sk-...").text.splitlines():
        assert line.endswith("make run")
        made = bash(line, ROOT, MAKEFLAGS=f"VENV={venv} PORT={taken_port}")
        assert f"port {taken_port} of 127.0.0.1 is taken" in made.stderr


def test_the_commands_of_a_developer_are_targets(venv: Path) -> None:
    block = readme_block("make check").text
    made = bash(f"set -e\n{block}", ROOT, MAKEFLAGS=f"n VENV={venv}")
    assert made.returncode == 0, made.stderr
    for program in ("ruff check", "pyright", "lint-imports", "pytest", "loadtests.load", "loadtests.bench"):
        assert program in made.stdout


def test_make_run_installs_no_test_tools(tmp_path: Path) -> None:
    made = bash("make -n run", ROOT, MAKEFLAGS=f"VENV={tmp_path}")
    assert "-r requirements.lock" in made.stdout
    assert "requirements-dev.lock" not in made.stdout


# The units that the README starts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with a `.venv` as in the repository."""
    new = tmp_path_factory.mktemp("readme")
    (new / ".venv").symlink_to(sys.prefix)
    return new


@pytest.fixture(scope="module")
def addresses(folder: Path, upstream: UpstreamThread) -> Iterator[Addresses]:
    """Starts each line of the README's block, with its file of upstreams, and yields the units' addresses."""
    for model in ("gpt-4.1-mini", "llama3.2"):
        upstream.fake.script(model, "ok")
    file = readme_block('name = "openai"').at(
        GATEWAY, ("https://api.openai.com/v1", upstream.url), ("http://127.0.0.1:11434/v1", upstream.url)
    )
    (folder / "upstreams.toml").write_text(file)
    env = clean_env() | {"TRILANE_UPSTREAMS": "upstreams.toml", "OPENAI_API_KEY": "sk-test"}
    ports = {unit: free_port() for unit in UNITS}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "stderr.txt").open("wb") as stderr:
            for line, (unit, port) in zip(readme_block("trilane serve").text.splitlines(), UNITS.items(), strict=True):
                command = shlex.split(line.replace(str(port), str(ports[unit])), comments=True)
                processes.append(subprocess.Popen(command, cwd=folder, env=env, stdout=stderr, stderr=stderr))
        urls = {unit: f"127.0.0.1:{port}" for unit, port in ports.items()}
        for url in urls.values():
            eventually(lambda url=url: is_ready(url), 60, (folder / "stderr.txt").read_text())
        yield urls
    finally:
        for process in processes:
            process.terminate()
            process.terminate()
        for process in processes:
            process.wait(20)


def is_ready(address: str) -> bool:
    try:
        return httpx2.get(f"http://{address}/readyz").status_code == 200
    except httpx2.TransportError:
        return False


def test_each_unit_that_is_started_is_ready(addresses: Addresses) -> None:
    routes = {"chat": "/api/chat", "events": "/api/events", "audio": "/api/audio/transcriptions"}
    for unit, address in addresses.items():
        paths = httpx2.get(f"http://{address}/openapi.json").json()["paths"]
        assert [other for other, route in routes.items() if route in paths] == [unit]


def test_an_answer_is_asked_for_and_continued_from_the_shell(addresses: Addresses, folder: Path) -> None:
    whole = bash(readme_block('"id": "c1"').at(addresses["chat"]), folder).stdout
    assert whole.endswith("data: [DONE]\n\n")
    first, last_id, rest = re.split(r"^id: (.*)\n\n", whole, maxsplit=1, flags=re.MULTILINE)
    assert '"start"' in first
    continued = bash(readme_block("$LAST_ID").at(addresses["chat"]), folder, LAST_ID=last_id).stdout
    assert continued == f": ok\n{rest}"


def test_the_upstreams_of_the_file_are_those_of_the_gateway(addresses: Addresses, upstream: UpstreamThread) -> None:
    url = f"http://{addresses['chat']}"
    listed = httpx2.get(f"{url}/v1/models").json()["data"]
    assert {(model["id"], model["owned_by"]) for model in listed} == {
        ("gpt-4.1-mini", "openai"),
        ("gpt-4.1-mini", "local"),
        ("llama3.2", "local"),
    }
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "hello"}]}
    body = {"id": "named", "message": message, "model": "llama3.2", "temperature": 0.5}
    refused = httpx2.post(f"{url}/api/chat", json=body | {"seed": 7})
    assert (refused.status_code, "seed" in refused.text) == (400, True), refused.text
    httpx2.post(f"{url}/api/chat", json=body).raise_for_status()
    asked = upstream.fake.requests[-1].body
    assert asked is not None
    assert asked["messages"][0] == {"role": "system", "content": "Answer in one sentence."}
    assert (asked["model"], asked["temperature"]) == ("llama3.2", 0.5)


def test_openais_client_prints_an_answer(addresses: Addresses, capsys: pytest.CaptureFixture[str]) -> None:
    exec(readme_block("chat.completions").at(addresses["chat"]), {})
    assert capsys.readouterr().out.startswith("w0 w1 w2 ")


def test_an_event_is_published_from_the_shell(addresses: Addresses, folder: Path) -> None:
    bash(readme_block("curl http").at(addresses["events"]), folder)
    stream = f"http://{addresses['events']}/api/events?topic=team/a&from=earliest"
    with httpx2.stream("GET", stream) as response:
        assert 'data: {"text":"hi"}' in (line.replace('": "', '":"') for line in response.iter_lines())


def test_the_other_commands_do_what_they_say(addresses: Addresses, folder: Path) -> None:
    made = bash(f"set -e\n{readme_block('trilane doctor').text}", folder, TRILANE_JWT_SECRET="s" * 32)
    assert made.returncode == 0, made.stdout + made.stderr
    assert re.search(r"^ok +log .*^ey[\w-]+\.[\w-]+\.[\w-]+$.*^team/a \d+$", made.stdout, re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")  # by the SDK
def test_openais_client_prints_what_is_said(
    addresses: Addresses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    samples, rate = soundfile.read(JFK, dtype="float32", stop=3 * 16_000)
    write_m4a(samples, rate)
    pcm = np.rint(soxr.resample(samples, rate, 24_000) * 32_767).astype("<i2")
    Path("talk.pcm").write_bytes(pcm.tobytes() + bytes(48_000))
    exec(readme_block("client.realtime").at(addresses["audio"]), {})
    subtitles, _, said = capsys.readouterr().out.partition("\n\n\n")
    assert "-->" in subtitles, (subtitles, said)
    assert "fellow Americans" in subtitles
    assert "fellow Americans" in said


def test_openais_client_has_a_text_spoken(
    addresses: Addresses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(readme_block("client.audio.speech").at(addresses["audio"]), {})
    with av.open("speech.mp3", "r") as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert 2 < samples / 24_000 < 8


def write_m4a(samples: np.ndarray, rate: int) -> None:
    with av.open("talk.m4a", "w") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis].astype("float32"), format="fltp", layout="mono")
        frame.sample_rate = rate
        container.mux([*stream.encode(frame), *stream.encode(None)])
