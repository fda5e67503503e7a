"""monitoring/: every file is loaded by the program that it is for."""

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common.local_server import LocalServer
from common.settings import PROJECT_ROOT

import numpy as np
import pytest
import yaml
from pymilvus import MilvusClient, MilvusException

MONITORING = PROJECT_ROOT / "monitoring"
PROMETHEUS = MONITORING / "prometheus"
RULES = PROMETHEUS / "rules" / "milvus.yml"
RULE_TESTS = PROMETHEUS / "tests" / "milvus.yml"
ALERTMANAGER = MONITORING / "alertmanager" / "alertmanager.yml"
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
PROVISIONING = MONITORING / "grafana" / "provisioning"

ALERTS = {"MilvusDown", "MilvusRequestsFailing", "MilvusSearchSlow"}
TOTAL = '{job="milvus", status="total"}[5m]))'
EVERY_STATUS = '{job="milvus"}[5m]))'
RATE_INTERVAL = "$__rate_interval"  # Grafana puts an interval in its place

Json = dict[str, Any]
Part = Callable[[str, str], str]


def run(*command: object) -> str:
    """The output of a command, which must succeed."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def load(path: Path) -> Json:
    return yaml.safe_load(path.read_text())


def panels() -> list[Json]:
    return [panel for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]]


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


@pytest.fixture
def promtool(part: Part) -> str:
    return part("promtool", "apt-get install prometheus")


@pytest.fixture
def amtool(part: Part) -> str:
    return part("amtool", "apt-get install prometheus-alertmanager")


# Prometheus


def test_prometheus_configuration_is_valid(promtool: str) -> None:
    output = run(promtool, "check", "config", PROMETHEUS / "prometheus.yml")
    assert "1 rule files found" in output


def test_rules_are_valid(promtool: str) -> None:
    assert f"{len(ALERTS)} rules found" in run(promtool, "check", "rules", RULES)


def test_alerts_fire_when_they_should(promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "test", "rules", RULE_TESTS)


def test_each_alert_is_seen_to_fire_and_not_to_fire() -> None:
    rules = [rule["alert"] for group in load(RULES)["groups"] for rule in group["rules"]]
    assert set(rules) == ALERTS
    cases = [case for test in load(RULE_TESTS)["tests"] for case in test["alert_rule_test"]]
    for fires in (True, False):
        assert {case["alertname"] for case in cases if bool(case["exp_alerts"]) is fires} == ALERTS


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        # The mistake that the rule warns of: over all statuses a request counts twice.
        (f"{TOTAL}\n            > 0.05", f"{EVERY_STATUS}\n            > 0.05"),
        (f"{TOTAL} > 0.1", f"{TOTAL} > 0.001"),
        (' or absent(up{job="milvus"})', ""),
        (', query_type="search"', ""),
        ("> 1000", "> 2000"),
        ("for: 1m", "for: 0m"),
    ],
    ids=["total", "volume", "absent", "query type", "limit", "for"],
)
def test_the_cases_catch_a_wrong_rule(
    promtool: str, tmp_path: Path, right: str, wrong: str
) -> None:
    shutil.copytree(PROMETHEUS, tmp_path, dirs_exist_ok=True)
    rules = tmp_path / "rules" / "milvus.yml"
    text = rules.read_text()
    assert text.count(right) == 1
    rules.write_text(text.replace(right, wrong))
    run(promtool, "check", "rules", rules)
    command = [promtool, "test", "rules", str(tmp_path / "tests" / "milvus.yml")]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1


def test_what_is_scraped_and_told_are_services_of_the_stack() -> None:
    services = load(PROJECT_ROOT / "docker-compose.yml")["services"]
    config = load(PROMETHEUS / "prometheus.yml")
    scraped = {
        job["job_name"]: target
        for job in config["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    }
    assert scraped == {"milvus": "standalone:9091", "prometheus": "localhost:9090"}
    told = config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    datasource = load(PROVISIONING / "datasources" / "prometheus.yml")["datasources"][0]
    addresses = [scraped["milvus"], *told, datasource["url"].removeprefix("http://")]
    for address in addresses:
        name, port = address.split(":")
        ports = [published.rpartition(":")[2] for published in services[name]["ports"]]
        assert port in ports, address


# Alertmanager


def test_alertmanager_configuration_is_valid(amtool: str) -> None:
    assert "2 receivers" in run(amtool, "check-config", ALERTMANAGER)


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["alertname=MilvusDown", "severity=critical"], "on-call"),
        (["alertname=MilvusSearchSlow", "severity=warning"], "team"),
        (["alertname=SomethingElse"], "team"),
    ],
)
def test_alerts_go_to_the_right_receiver(amtool: str, labels: list[str], receiver: str) -> None:
    output = run(amtool, "config", "routes", "test", f"--config.file={ALERTMANAGER}", *labels)
    assert output.split() == [receiver]


def test_nobody_is_told_unless_an_address_is_given() -> None:
    assert load(ALERTMANAGER)["receivers"] == [{"name": "team"}, {"name": "on-call"}]


def test_every_severity_of_a_rule_is_one_that_the_routes_know() -> None:
    rules = [rule for group in load(RULES)["groups"] for rule in group["rules"]]
    assert {rule["labels"]["severity"] for rule in rules} == {"critical", "warning"}


# Grafana


def test_dashboards_are_provisioned_and_use_the_provisioned_datasource() -> None:
    datasource = load(PROVISIONING / "datasources" / "prometheus.yml")["datasources"][0]
    provider = load(PROVISIONING / "dashboards" / "milvus.yml")["providers"][0]
    mounts = load(PROJECT_ROOT / "docker-compose.yml")["services"]["grafana"]["volumes"]
    assert f"./monitoring/grafana/dashboards:{provider['options']['path']}:ro" in mounts
    assert [path.name for path in DASHBOARDS] == ["milvus.json"]
    wanted = {"type": datasource["type"], "uid": datasource["uid"]}
    for panel in panels():
        assert panel["datasource"] == wanted, panel["title"]
        assert [target["datasource"] for target in panel["targets"]] == [wanted] * len(
            panel["targets"]
        )


def test_panels_have_their_own_number_and_place() -> None:
    numbers = [panel["id"] for panel in panels()]
    assert len(numbers) == len(set(numbers)) == 9
    cells = [
        (panel["gridPos"]["x"] + column, panel["gridPos"]["y"] + row)
        for panel in panels()
        for column in range(panel["gridPos"]["w"])
        for row in range(panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)), "two panels overlap"
    assert max(column for column, _ in cells) < 24


def test_expressions_of_the_dashboards_are_valid(promtool: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace(RATE_INTERVAL, "5m")}
        for number, expression in enumerate(expressions())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run(promtool, "check", "rules", path)


def test_requests_are_never_summed_over_their_status() -> None:
    rules = [rule["expr"] for group in load(RULES)["groups"] for rule in group["rules"]]
    selectors = re.findall(r"milvus_proxy_req_count(\{.*?\})?", "\n".join(expressions() + rules))
    assert len(selectors) == 6
    assert [selector for selector in selectors if 'status="' not in selector] == []


# The whole chain: a real Milvus, scraped by a real Prometheus with this configuration


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)["data"]


def until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Wait until `condition` holds; a connection that fails counts as not yet."""
    end = time.monotonic() + seconds
    last: object = "no answer"
    while time.monotonic() < end:
        try:
            last = condition()
        except OSError as error:
            last = error
        else:
            if last:
                return
        time.sleep(0.2)
    pytest.fail(f"{what} did not happen in {seconds:.0f} s; last: {last}")


@pytest.fixture
def server(part: Part) -> Iterator[LocalServer]:
    """A real Milvus of this test's own, which it may kill."""
    part("milvus-server", "pip install milvus==2.3.5")
    with LocalServer(announce=lambda line: None) as server:
        yield server


def work(client: MilvusClient, rows: int, dimension: int = 8) -> None:
    """Make every metric of the dashboard move: insert, flush, search, and searches that fail."""
    generator = np.random.default_rng(7)
    client.create_collection("monitored", dimension=dimension, timeout=60)
    vectors = generator.random((rows, dimension), dtype=np.float32)
    client.insert("monitored", [{"id": i, "vector": v} for i, v in enumerate(vectors)], timeout=60)
    client.flush("monitored", timeout=60)
    client.search("monitored", [vectors[0]], limit=3, timeout=60)
    with pytest.raises(MilvusException):
        client.search("monitored", [vectors[0]], limit=3, filter="no such field", timeout=60)


@pytest.fixture
def prometheus(part: Part, server: LocalServer, tmp_path: Path) -> Iterator[str]:
    """The API of a Prometheus with the project's configuration, pointed at `server`."""
    program = part("prometheus", "apt-get install prometheus")
    shutil.copytree(PROMETHEUS, tmp_path, dirs_exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    path = tmp_path / "prometheus.yml"
    text = path.read_text()
    for written, here in (
        ("standalone:9091", server.metrics_url.removeprefix("http://")),
        ("localhost:9090", address),
        ("15s", "1s"),
    ):
        assert written in text
        text = text.replace(written, here)
    path.write_text(text)
    storage = f"--storage.tsdb.path={tmp_path / 'data'}"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [program, f"--config.file={path}", storage, f"--web.listen-address={address}"],
            stderr=log,
        )
        try:
            yield f"http://{address}/api/v1"
        finally:
            process.terminate()
            process.wait(timeout=20)


def query(prometheus: str, expression: str) -> list[Json]:
    return ask(f"{prometheus}/query?{urllib.parse.urlencode({'query': expression})}")["result"]


def test_real_milvus_fills_every_panel(server: LocalServer, prometheus: str) -> None:
    until(lambda: query(prometheus, 'up{job="milvus"} == 1'), "the first scrape")
    client = MilvusClient(server.uri, timeout=20)
    work(client, rows=500)
    client.close()
    for expression in expressions():
        filled = expression.replace(RATE_INTERVAL, "1m")
        until(lambda filled=filled: query(prometheus, filled), f"a value for {filled}")
    (rows,) = [e for e in expressions() if "stored_rows_num" in e]
    assert query(prometheus, rows)[0]["value"][1] == "500"

    rules = ask(f"{prometheus}/rules")["groups"][0]["rules"]
    assert {rule["name"]: rule["health"] for rule in rules} == dict.fromkeys(ALERTS, "ok")
    told = ask(f"{prometheus}/alertmanagers")["activeAlertmanagers"]
    assert [place["url"] for place in told] == ["http://alertmanager:9093/api/v2/alerts"]


def test_milvus_that_dies_is_noticed(server: LocalServer, prometheus: str) -> None:
    def state() -> str:
        rules = ask(f"{prometheus}/rules")["groups"][0]["rules"]
        (down,) = [rule for rule in rules if rule["name"] == "MilvusDown"]
        return down["state"]

    until(lambda: query(prometheus, 'up{job="milvus"} == 1'), "the first scrape")
    until(lambda: state() == "inactive", "a rule that is quiet")
    server.kill()
    # It stays pending for a minute before it fires; promtool tests that minute without waiting.
    until(lambda: state() == "pending", "the alert")
    assert query(prometheus, 'up{job="milvus"}')[0]["value"][1] == "0"
