"""The dashboard and the alerts ask for what a gateway tells: each name and label is in a scrape of a real one."""

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from tests.audio.speaker import RATE, Speaker, check, speech
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.deploy.test_files import DEPLOY, succeeds
from tests.support.sse_client import chat_body, send

FOLDER = DEPLOY / "observability"
RULES = FOLDER / "trilane-alerts.yaml"
NAME = re.compile(r"\btrilane_\w+")
SELECTOR = re.compile(r"\b(trilane_\w+)\{([^}]*)\}")
LABEL = re.compile(r"(\w+)(=~|=)\"([^\"]*)\"")
CONVENTION = re.compile(r"trilane_(chat|events|audio|log|gateway)_[a-z_]+")
OF_PROMETHEUS = {"job", "instance", "le"}


@pytest.fixture(scope="module")
def scrape(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yields the figures of a gateway that has done a bit of each lane, behind a supervisor as most are."""
    gateway = serving(
        tmp_path_factory.mktemp("scraped"),
        upstream.url,
        TRILANE_WORKERS="1",
        TRILANE_API_KEYS="",
        TRILANE_LIMIT_RUNS="90",
    )
    gateway.unit = "all"
    try:
        gateway.start()
        do_a_bit_of_each_lane(gateway)
        yield httpx2.get(f"{gateway.url}/metrics").text
    finally:
        gateway.stop()


def do_a_bit_of_each_lane(gateway: Gateway) -> None:
    frames = send(gateway.url, chat_body("c1", "T=5 I=1000"))[1]
    assert frames.done
    path, headers = f"{gateway.url}/api/chat/c1/stream", {"last-event-id": frames.events[1][0]}
    assert httpx2.get(path, headers=headers).status_code == 200
    assert httpx2.get(path, headers={"last-event-id": "nonsense"}).status_code == 400
    with httpx2.stream("GET", f"{gateway.url}/api/events?topic=t") as stream:
        lines = stream.iter_lines()
        next(line for line in lines if line.startswith("id: "))
        assert httpx2.post(f"{gateway.url}/api/events", json={"topic": "t", "data": 1}).status_code == 200
        cursor = next(line for line in lines if line.startswith("id: ")).removeprefix("id: ")
        scraped = httpx2.get(f"{gateway.url}/metrics").text
        assert 'trilane_gateway_open_streams{lane="events",state="live"} 1.0' in scraped
    with httpx2.stream("GET", f"{gateway.url}/api/events?topic=t", headers={"last-event-id": cursor}) as stream:
        next(stream.iter_lines())
    speaker = Speaker([gateway.port], speech()[: 6 * RATE * 2], pace=6)
    asyncio.run(speaker.run())
    check(speaker)
    eventually(lambda: gateway.gauge("trilane_chat_open_runs") == 0, what="every run is counted")


def value(scrape: str, sample: str) -> float:
    return next(float(line.split()[-1]) for line in scrape.splitlines() if line.startswith(f"{sample} "))


def expressions() -> dict[str, str]:
    """Returns every expression of the dashboard and the alerts, by the title of what shows it."""
    dashboard: dict[str, Any] = json.loads((FOLDER / "trilane-dashboard.json").read_text())
    shown = {
        f"{panel['title']} {target['refId']} {panel['id']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    }
    variables = {f"${item['name']}": str(item["query"]) for item in dashboard["templating"]["list"]}
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    return shown | variables | {rule["alert"]: rule["expr"] for rule in group["rules"]}


def test_the_dashboard_and_the_alerts_ask_for_what_there_is(scrape: str) -> None:
    told = {line.partition(" ")[0].partition("{")[0] for line in scrape.splitlines() if not line.startswith("#")}
    values = {
        (match[1], label[0], label[2]) for match in SELECTOR.finditer(scrape) for label in LABEL.findall(match[2])
    }
    for title, expression in expressions().items():
        assert set(NAME.findall(expression)) <= told, title
        for name, selector in SELECTOR.findall(expression):
            for label, _, wanted in LABEL.findall(selector):
                known = {value for metric, key, value in values if (metric, key) == (name, label)}
                assert label in OF_PROMETHEUS or known, f"{title}: {name} has no label {label}"
                assert label in OF_PROMETHEUS or "refusals" in name or wanted in known, f"{title}: {label}={wanted}"
        for labels in re.findall(r"by \(([^)]*)\)", expression):
            keys = {key for metric, key, _ in values if metric in NAME.findall(expression)}
            assert set(re.split(r"[ ,]+", labels)) <= keys | OF_PROMETHEUS, title


def test_every_figure_is_on_the_dashboard(scrape: str) -> None:
    families = {line.split()[2] for line in scrape.splitlines() if line.startswith("# TYPE trilane_")}
    shown = " ".join(expressions().values())
    missing = {name for name in families if name not in shown and not name.endswith("_created")}
    assert missing == {"trilane_gateway_workers"}


def test_every_figure_is_named_after_its_lane(scrape: str) -> None:
    for name in re.findall(r"^# TYPE (\S+)", scrape, re.MULTILINE):
        assert CONVENTION.fullmatch(name), name


def test_what_happened_was_counted(scrape: str) -> None:
    assert value(scrape, 'trilane_chat_resumes_total{outcome="recovered"}') == 1
    assert value(scrape, 'trilane_chat_resumes_total{outcome="malformed"}') == 1
    assert value(scrape, 'trilane_gateway_refusals_total{reason="bad_cursor"}') == 1
    assert value(scrape, "trilane_chat_replay_events_sum") > 0
    assert value(scrape, 'trilane_events_resumes_total{outcome="recovered"}') == 1
    assert value(scrape, 'trilane_events_published_total{result="new"}') == 1
    assert value(scrape, "trilane_events_fanout_lag_seconds_count") == 1
    assert 0 <= value(scrape, "trilane_events_fanout_lag_seconds_sum") < 5
    assert value(scrape, "trilane_log_append_seconds_count") > 5
    assert value(scrape, "trilane_chat_first_token_seconds_count") >= 1
    assert 0.0002 < value(scrape, "trilane_chat_between_tokens_seconds_sum") < 1
    assert value(scrape, "trilane_audio_real_time_ratio_count") >= 2
    assert value(scrape, "trilane_audio_final_latency_seconds_count") >= 1
    assert value(scrape, "trilane_gateway_memory_bytes") > 1 << 24


def test_the_rules_are_valid_and_fire_when_they_should() -> None:
    if subprocess.run(["sh", "-c", "command -v promtool"], capture_output=True, check=False).returncode:
        assert "CI" not in os.environ, "promtool is missing"
        pytest.skip("promtool is not installed: apt-get install --no-install-recommends prometheus")
    succeeds("promtool", "check", "rules", RULES)
    succeeds("promtool", "test", "rules", FOLDER / "trilane-alerts.test.yaml")
    succeeds("promtool", "check", "config", FOLDER / "prometheus.yml")


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    tests = yaml.safe_load(Path(FOLDER / "trilane-alerts.test.yaml").read_text())["tests"]
    [firing] = tests[1]["promql_expr_test"]
    assert [sample["value"] for sample in firing["exp_samples"]] == [len(group["rules"])]
    for rule in group["rules"]:
        assert rule["annotations"].keys() == {"summary", "action"}, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")
