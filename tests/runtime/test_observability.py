"""What operators are given: the table of metrics, the dashboard and the alerts say what the registry has."""

import json
import re
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.metrics import MetricWrapperBase

from app.runtime import metrics

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "observability.md").read_text()
DASHBOARD: dict[str, Any] = json.loads(
    (ROOT / "deploy" / "grafana" / "dashboards" / "doorbell.json").read_text()
)
ALERTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())["groups"][0][
    "rules"
]

# Values of these are few, whatever events hold.
LABELS = {
    "environment",
    "source",
    "through",
    "reason",
    "action_type",
    "outcome",
    "status",
    "state",
    "version",
    "table",
}
# What Prometheus adds to every series, and what histograms have.
ADDED = {"job", "instance", "le"}
OURS = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]


def name_of(metric: MetricWrapperBase) -> str:
    (family,) = metric.describe()
    return f"{family.name}_total" if family.type == "counter" else family.name


def labels_of(metric: MetricWrapperBase) -> tuple[str, ...]:
    return tuple(metric._labelnames)


def series() -> dict[str, set[str]]:
    """The names of all series of the registry, with their labels."""
    found = {}
    for metric in OURS:
        (family,) = metric.describe()
        suffixes = ("_bucket", "_count", "_sum") if family.type == "histogram" else ("",)
        for suffix in suffixes:
            found[name_of(metric) + suffix] = {*labels_of(metric), *ADDED}
    return found


def queries() -> list[str]:
    """Every query of the dashboard and of the alerts."""
    shown = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    return [*shown, *(each["expr"] for each in ALERTS)]


def names_in(query: str, prefix: str) -> set[str]:
    return set(re.findall(rf"\b{prefix}_\w+", re.sub(r'"[^"]*"', "", query)))


SDK_METRICS = {name for query in queries() for name in names_in(query, "temporal")}


def test_the_table_of_metrics_is_that_of_the_registry() -> None:
    rows = [
        f"| `{name_of(each)}` | {each.describe()[0].type} | "
        f"{', '.join(f'`{label}`' for label in labels_of(each))} | {each.describe()[0].documentation} |"
        for each in OURS
    ]
    assert re.findall(r"^\| `doorbell_.*$", DOCS, re.MULTILINE) == rows


def test_names_and_labels_follow_the_conventions() -> None:
    for each in OURS:
        assert name_of(each).startswith("doorbell_")
        assert not name_of(each).endswith(("_ms", "_milliseconds", "_kilobytes"))
        assert set(labels_of(each)) <= LABELS, f"{name_of(each)}: its labels may have many values"


def test_queries_ask_for_what_is_there() -> None:
    known, asked = series(), set()
    for query in queries():
        for name in names_in(query, "doorbell"):
            assert name in known, query
            asked.add(name)
        for name, selector in re.findall(r"\b(doorbell_\w+)\{([^}]*)\}", query):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
            assert labels <= known[name], query
    assert {"doorbell_backlog_oldest_age_seconds", "doorbell_events_overdue"} <= asked


def test_every_metric_is_shown() -> None:
    shown = " ".join(queries())
    assert [name_of(each) for each in OURS if name_of(each) not in shown] == ["doorbell_build_info"]


def test_every_alert_says_what_to_do_in_the_docs_and_is_tested() -> None:
    names = [each["alert"] for each in ALERTS]
    assert re.findall(r"^\| `(Doorbell\w+)` \|", DOCS, re.MULTILINE) == names
    tested = yaml.safe_load((ROOT / "deploy" / "alerts_test.yml").read_text())["tests"]
    assert {rule["alertname"] for test in tested for rule in test.get("alert_rule_test", [])} == set(names)
    assert all(each["labels"]["severity"] in {"warning", "critical"} for each in ALERTS)


def test_alerts_ask_for_the_jobs_that_prometheus_has() -> None:
    jobs = {
        each["job_name"]
        for each in yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())["scrape_configs"]
    }
    asked = set(re.findall(r'job="([^"]*)"', " ".join(queries())))
    assert asked <= jobs
    assert jobs == {"doorbell-api", "doorbell-worker"}


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """It asks for its data source, and no two panels are one."""
    panels = DASHBOARD["panels"]
    assert len({each["id"] for each in panels}) == len(panels)
    sources = {each["datasource"]["uid"] for each in panels if each["type"] != "row"}
    assert sources == {"${datasource}"}
    assert {each["name"] for each in DASHBOARD["templating"]["list"]} == {"datasource", "environment"}
    provisioned = yaml.safe_load(
        (ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text()
    )["datasources"]
    assert [each["type"] for each in provisioned] == ["prometheus"]
