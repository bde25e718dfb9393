"""What the Helm chart promises, as far as it can be seen without Helm."""

import re
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from parakeet_service.adapters.ray.pool import PoolRules
from parakeet_service.adapters.telemetry.prometheus import PrometheusMetrics
from parakeet_service.bootstrap.container import GRACE_S
from parakeet_service.config.settings import Settings

CHART = Path(__file__).parents[3] / "deploy" / "helm" / "parakeet-service"
TEMPLATES = sorted((CHART / "templates").glob("*.yaml"))
BESIDE_S = 10
"""What ending takes beside the grace time."""


def values() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return parsed


def skeleton(template: Path) -> dict[str, Any]:
    """The YAML of `template`, with `x` for what Helm puts into a line, and without what it puts between lines."""
    text = re.sub(r"(?m)^\s*\{\{-? .*\}\}\n", "", template.read_text())
    parsed: dict[str, Any] = yaml.safe_load(re.sub(r"\{\{.*?\}\}", "x", text))
    return parsed


def paths(value: object, prefix: str = "") -> set[str]:
    """Dotted names of all that `value` has, those of the settings and resources excepted, which are free."""
    if not isinstance(value, dict) or prefix == "settings" or prefix.lower().endswith("resources"):
        return {prefix}
    parts = cast("dict[str, object]", value)
    return {path for name, part in parts.items() for path in paths(part, f"{prefix}.{name}".lstrip("."))} or {prefix}


def container() -> dict[str, Any]:
    (one,) = skeleton(CHART / "templates" / "deployment.yaml")["spec"]["template"]["spec"]["containers"]
    return dict(one)


def container_value(name: str) -> str:
    """What the server's container gets as this variable."""
    return next(str(variable["value"]) for variable in container()["env"] if variable["name"] == name)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: str(template.stem))
def test_a_template_is_an_object_of_kubernetes(template: Path) -> None:
    assert skeleton(template).keys() >= {"apiVersion", "kind", "metadata", "spec"}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: str(template.stem))
def test_blocks_of_a_template_end(template: Path) -> None:
    words = re.findall(r"\{\{-? (if|with|range|end)\b", template.read_text())

    assert words.count("end") * 2 == len(words)


def test_every_value_is_used_and_there() -> None:
    texts = [path.read_text() for path in (*TEMPLATES, CHART / "templates" / "_helpers.tpl")]
    used = {path for text in texts for path in re.findall(r"\.Values\.([\w.]+)", text)}

    assert used == paths(values())


def test_settings_are_settings_of_the_service() -> None:
    assert {name.lower() for name in values()["settings"]} <= Settings.model_fields.keys()


def test_probes_ask_what_they_should() -> None:
    asked = {name: probe["httpGet"]["path"] for name, probe in container().items() if name.endswith("Probe")}

    assert asked == {"startupProbe": "/readyz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}


def test_a_pod_has_time_to_drain() -> None:
    assert values()["terminationGracePeriodSeconds"] >= values()["preStopSeconds"] + GRACE_S + BESIDE_S


@pytest.mark.parametrize("name", ["ray-head", "ray-workers"])
def test_a_node_of_ray_is_watched_where_it_listens(name: str) -> None:
    (node,) = skeleton(CHART / "templates" / f"{name}.yaml")["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in node["ports"]}
    probes = [probe["tcpSocket"]["port"] for key, probe in node.items() if key.endswith("Probe")]

    assert len(probes) == 3
    for probe in probes:
        assert any(argument.endswith(f"port={ports[probe]}") for argument in node["args"])


def test_servers_speak_to_the_port_of_the_head() -> None:
    (service,) = skeleton(CHART / "templates" / "ray-service.yaml")["spec"]["ports"]
    (worker,) = skeleton(CHART / "templates" / "ray-workers.yaml")["spec"]["template"]["spec"]["containers"]
    addresses = [container_value("RAY_ADDRESS"), next(arg for arg in worker["args"] if arg.startswith("--address="))]

    assert [address.rpartition(":")[2] for address in addresses] == [str(service["port"])] * 2


def test_a_worker_has_time_to_finish() -> None:
    ray = values()["ray"]

    assert ray["terminationGracePeriodSeconds"] >= ray["drainSeconds"] + BESIDE_S
    # What a worker holds is a few windows; what the servers need to see that it leaves is a look every few seconds.
    assert ray["drainSeconds"] > 2 * PoolRules().look_every_s


def test_autoscaling_asks_for_a_metric_of_the_service() -> None:
    text, _ = PrometheusMetrics().exposition("text/plain")

    assert f"# TYPE {values()['autoscaling']['metric']} gauge" in text.decode()
