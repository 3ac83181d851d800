"""Alerts and dashboards: each is tried, each has its runbook, each asks for what is exported."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from certeusd.control import metrics
from support.measured import Measured, full_board
from support.promtool import promtool

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "etc" / "prometheus"
DASHBOARDS = sorted((ROOT / "etc" / "grafana").glob("*.json"))
PAGES = {
    "CerteusEventsRefused", "CerteusLogNearlyFull", "CerteusNotFlushing", "CerteusCorruption",
    "CerteusDiverged", "CerteusCrashLoop",
}  # fmt: skip
OURS_OF_PROMETHEUS = {"up": {"job", "instance"}}
ADDED_BY_PROMETHEUS = {"job", "instance"}


class Alert(msgspec.Struct):
    """One rule."""

    alert: str
    expr: str
    labels: dict[str, str]
    annotations: dict[str, str]


class Group(msgspec.Struct):
    """Some of them."""

    name: str
    rules: list[Alert]


class Rules(msgspec.Struct):
    """The file."""

    groups: list[Group]


class Case(msgspec.Struct):
    """What is to fire at a time."""

    alertname: str
    exp_alerts: list[dict[str, dict[str, str]]]


class Trial(msgspec.Struct):
    """One test of promtool."""

    name: str
    alert_rule_test: list[Case]


class Trials(msgspec.Struct):
    """The file of tests."""

    tests: list[Trial]


def alerts() -> list[Alert]:
    text = (PROMETHEUS / "certeus.rules.yml").read_bytes()
    return [rule for group in msgspec.yaml.decode(text, type=Rules).groups for rule in group.rules]


def cases() -> Iterator[Case]:
    text = (PROMETHEUS / "certeus.rules.test.yml").read_bytes()
    for trial in msgspec.yaml.decode(text, type=Trials).tests:
        yield from trial.alert_rule_test


def queries(dashboard: Path) -> list[str]:
    document = json.loads(dashboard.read_text())
    return [target["expr"] for panel in document["panels"] for target in panel.get("targets", ())]


# --- the alerts -------------------------------------------------------------------------------


def test_promtool_takes_the_rules_and_each_fires_when_it_should_and_only_then() -> None:
    promtool("check", "rules", "certeus.rules.yml", cwd=PROMETHEUS)
    promtool("check", "config", "--syntax-only", "scrape.example.yml", cwd=PROMETHEUS)
    assert "SUCCESS" in promtool("test", "rules", "certeus.rules.test.yml", cwd=PROMETHEUS)


def test_each_alert_has_a_case_in_which_it_fires_for_the_host_that_is_sick_alone() -> None:
    firing = dict[str, int]()
    for case in cases():
        hosts = [one["exp_labels"]["instance"] for one in case.exp_alerts]
        assert set(hosts) <= {"sick:9464"}, case.alertname
        firing[case.alertname] = firing.get(case.alertname, 0) + len(hosts)
    assert {name for name, hosts in firing.items() if hosts} == {one.alert for one in alerts()}


def test_at_most_six_alerts_wake_somebody() -> None:
    found = alerts()
    assert len(found) >= 19
    assert len({one.alert for one in found}) == len(found)
    assert {one.alert for one in found if one.labels["severity"] == "page"} == PAGES
    assert {one.labels["severity"] for one in found} == {"page", "warning", "info"}


def test_each_alert_says_what_with_its_value_and_leads_to_a_section_of_its_own() -> None:
    text = (ROOT / "docs" / "runbooks.md").read_text()
    sections = re.findall(r"^## (\w+)$", text, re.MULTILINE)
    assert sections == [one.alert for one in alerts()]
    for one in alerts():
        assert set(one.annotations) == {"summary", "description", "runbook_url"}, one.alert
        assert "$labels.instance" in one.annotations["summary"], one.alert
        assert "$value" in one.annotations["description"], one.alert
        assert one.annotations["runbook_url"] == f"docs/runbooks.md#{one.alert.lower()}"
    for body in re.split(r"^## \w+$", text, flags=re.MULTILINE)[1:]:
        for part in ("**Means**", "**Look**", "**Worry**"):
            assert part in body, body
        assert re.search(r"\*\*[Dd]o\*\*", body), body


@pytest.mark.parametrize("resource", ["cpu", "memory", "latency", "error_rate"])
def test_what_is_configured_is_not_said_again_in_the_rules(resource: str) -> None:
    asking = [one for one in alerts() if f'resource="{resource}"' in one.expr]
    assert {one.labels["threshold"] for one in asking} == {"warning", "critical"}
    for one in asking:
        assert f'severity="{one.labels["threshold"]}"' in one.expr
        assert not re.search(r"[<>]=?\s*[\d.]", one.expr), one.expr


# --- both: only what is exported --------------------------------------------------------------


def exported() -> dict[str, dict[str, set[str]]]:
    """Each series' name with its labels, and each label's values."""
    found = {name: {label: set[str]() for label in labels}
             for name, labels in OURS_OF_PROMETHEUS.items()}  # fmt: skip
    text = metrics.render(Measured(full_board()))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {label: set() for label in ADDED_BY_PROMETHEUS})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


EXPORTED = exported()
SELECTOR = re.compile(r"\b([a-z_]+)(?:\{([^}]*)\})?")
FUNCTIONS = {
    "sum", "max", "rate", "increase", "time", "histogram_quantile", "predict_linear",
    "by", "on", "or", "and", "unless", "group_left",
}  # fmt: skip


def named(expr: str) -> Iterator[tuple[str, str]]:
    """Give each series that an expression asks for, with its matchers; nothing else is there."""
    plain = re.sub(r"\[[^\]]*\]", "", expr)
    grouped = re.sub(r"\b(by|on|group_left) ?\([^)]*\)", " ", plain)
    for name, matchers in SELECTOR.findall(grouped):
        if name not in FUNCTIONS:
            yield name, matchers


def faults(expr: str) -> list[str]:
    """Say what an expression asks for and nothing exports."""
    found = list[str]()
    labels = set(re.findall(r"\w+", " ".join(re.findall(r"\b(?:by|on) ?\(([^)]*)\)", expr))))
    for name, matchers in named(expr):
        if name not in EXPORTED:
            found.append(f"nothing exports {name}")
            continue
        labels -= set(EXPORTED[name])
        for label, how, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers):
            values = EXPORTED[name].get(label)
            if values is None:
                found.append(f"{name} has no label {label}")
            elif label not in ADDED_BY_PROMETHEUS:
                asked = set(value.split("|")) if "~" in how else {value}
                found += [f"{name}: {label} is never {one}" for one in sorted(asked - values)]
    return found + [f"no series has the label {label}" for label in sorted(labels)]


@pytest.mark.parametrize(
    ("expr", "told"),
    [
        ("rate(certeus_event_total[5m])", "nothing exports certeus_event_total"),
        ('certeus_reason{kode="x"}', "certeus_reason has no label kode"),
        ('certeus_reason{code=~"diverged|divorced"}', "certeus_reason: code is never divorced"),
        (
            "sum by (le, host) (rate(certeus_ack_seconds_bucket[5m]))",
            "no series has the label host",
        ),
    ],
)
def test_a_query_for_what_is_not_exported_is_found(expr: str, told: str) -> None:
    assert faults(expr) == [told]


def test_alerts_ask_only_for_what_is_exported() -> None:
    for one in alerts():
        assert any(True for _ in named(one.expr)), one.alert
        assert faults(one.expr) == [], one.alert


def test_every_known_reason_has_an_alert() -> None:
    silent = {"restarting"}  # Each end of a process; CerteusRestarts counts them.
    asked = {code for one in alerts() for code in EXPORTED["certeus_reason"]["code"]
             if re.search(rf'code=~?"[^"]*\b{code}(?![\w-])', one.expr)}  # fmt: skip
    (rest,) = (one.expr for one in alerts() if one.alert == "CerteusReason")
    (excluded,) = re.findall(r'code!~"([^"]*)"', rest)
    shown_otherwise = {"disk-low", "log-full", "disk-full"}  # By what they measure.
    assert set(excluded.split("|")) == asked | silent | shown_otherwise


# --- the dashboards ---------------------------------------------------------------------------


def test_there_is_a_dashboard_for_each_who_asks() -> None:
    assert [one.stem for one in DASHBOARDS] == ["overview", "pipeline", "postgresql", "producers"]


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: cast(Path, path).stem)
def test_each_panel_asks_only_for_what_is_exported_and_says_what_it_shows(dashboard: Path) -> None:
    document = json.loads(dashboard.read_text())
    assert document["uid"] == f"certeus-{dashboard.stem}"
    variables = {one["name"]: one for one in document["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["instance"]["definition"] == "label_values(certeus_build_info, instance)"
    panels = [one for one in document["panels"] if one["type"] != "row"]
    assert len({one["id"] for one in document["panels"]}) == len(document["panels"])
    for panel in panels:
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            expr = target["expr"]
            assert faults(expr) == [], panel["title"]
            for name, matchers in named(expr):
                assert 'instance=~"$instance"' in matchers, f"{panel['title']}: {name}"


def test_promtool_can_parse_every_query_of_a_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{number}", "expr": expr.replace("$__rate_interval", "1m")}
        for number, expr in enumerate(expr for path in DASHBOARDS for expr in queries(path))
    ]
    assert len(rules) > 60
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(file))
