"""Dashboard and alerts ask for metrics and labels that the service has."""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from parakeet_service.adapters.telemetry.prometheus import PrometheusMetrics
from parakeet_service.application.ports.speech_model import ModelDescription

ROOT = Path(__file__).parents[3]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "deploy" / "grafana" / "parakeet.json"
OF_PROMETHEUS = {"job", "instance"}
"""Labels that scraping adds."""
OF_LINUX = ("process_",)
"""Metrics that prometheus-client has on Linux alone."""
_NAME = r"\b(?:parakeet|process)_\w+"


@pytest.fixture(scope="module")
def exposed() -> dict[str, dict[str, set[str]]]:
    """Values of each label of each metric, once everything has happened that is counted."""
    metrics = PrometheusMetrics()
    model = ModelDescription(
        id="m",
        architecture="tdt",
        languages=("en",),
        precision="fp32",
        compute="float32",
        device="cpu",
        blas=None,
        sample_rate_hz=16000,
        max_window_s=30,
    )
    metrics.model_loaded(model)
    metrics.window_refused()
    metrics.batch_read(size=1, audio_s=1, took_s=1)
    metrics.workers_changed(up=1, wanted=2)
    metrics.worker_lost()
    metrics.worker_answered(worker=0, audio_s=1)
    for status in (200, 500, 502, 504, 507):
        metrics.request_answered(method="POST", route="/transcribe", status=status, took_s=1)
    metrics.session_ended(route="/ws", code=1000, took_s=1)
    metrics.recording_transcribed(audio_s=1, took_s=1)
    metrics.job_ended(status="completed", audio_s=1, took_s=1)
    metrics.job_window_read()
    metrics.webhook_sent(outcome="delivered")
    metrics.jobs_counted({"queued": 1}, {"waiting": 1})
    text, _ = metrics.exposition("text/plain")
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, defaultdict(set))
            for label, value in sample.labels.items():
                labels[label].add(value)
    return found


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def queries() -> list[str]:
    """Every expression of both files."""
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    variables = [v["query"]["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
    return [rule["expr"] for rule in rules()] + panels + variables


def wrong_in(query: str, exposed: dict[str, dict[str, set[str]]]) -> list[str]:
    """What `query` asks for that is not there."""
    wrong: list[str] = []
    of_query: set[str] = set()
    for match in re.finditer(rf"({_NAME})(?:\{{([^}}]*)\}})?", query):
        name, matchers = match.groups()
        if name not in exposed:
            if not name.startswith(OF_LINUX) or exposed.keys() & {"process_open_fds"}:
                wrong.append(name)
            continue
        of_query |= exposed[name].keys()
        for label, operator, value in re.findall(r'(\w+)\s*(=~|=)\s*"([^"]*)"', matchers or ""):
            if label in OF_PROMETHEUS:
                continue
            wanted = value.split("|") if operator == "=~" else [value]
            wrong += [f"{name}{{{label}={one}}}" for one in wanted if one not in exposed[name].get(label, ())]
    for labels in re.findall(r"\b(?:by|on|ignoring|without)\s*\(([^)]*)\)", query):
        wrong += [one for one in re.findall(r"\w+", labels) if one not in of_query | OF_PROMETHEUS]
    return wrong


def test_every_metric_label_and_value_exists(exposed: dict[str, dict[str, set[str]]]) -> None:
    assert {query: wrong for query in queries() if (wrong := wrong_in(query, exposed))} == {}


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("rate(parakeet_gone_total[5m])", ["parakeet_gone_total"]),
        ('parakeet_uploads{state="gone"}', ["parakeet_uploads{state=gone}"]),
        ('parakeet_uploads{gone=~"a|b"}', ["parakeet_uploads{gone=a}", "parakeet_uploads{gone=b}"]),
        ("sum by (gone, state) (parakeet_uploads)", ["gone"]),
    ],
)
def test_what_does_not_exist_is_found(query: str, wrong: list[str], exposed: dict[str, dict[str, set[str]]]) -> None:
    assert wrong_in(query, exposed) == wrong


def test_every_alert_names_a_part_of_the_runbook() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    parts = {title.lower().replace(" ", "-") for title in re.findall(r"(?m)^###? (.+)$", page)}

    assert {rule["annotations"]["runbook"].removeprefix("docs/deploy.md#") for rule in rules()} <= parts
