"""docker-compose.yml and the Dockerfile: what they promise, and that they agree with Settings."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from app.core.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()

JOBS = {"temporal-schema", "temporal-namespace", "migrate"}
WORKERS = {"worker-development", "worker-production"}
OURS = {"migrate", "api", *WORKERS}
WATCHERS = {"prometheus", "grafana"}
SERVERS = sorted(set(SERVICES) - JOBS)


def seconds(duration: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(s|m)", duration).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60}[unit]


def filled_in(value: str) -> str:
    """A value as Compose interpolates it, when only the required variables are set."""
    value = re.sub(r"\$\{\w+:\?[^}]*\}", "given-in-the-test", value)
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def settings_of(service: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a service's process, parsed from its environment as in the container."""
    for name, value in SERVICES[service]["environment"].items():
        monkeypatch.setenv(name, filled_in(value))
    return Settings(_env_file=None)


def test_the_services_of_the_readme_are_there() -> None:
    assert set(SERVICES) == {"postgres", "temporal", "temporal-ui", *JOBS, *OURS, *WATCHERS}


@pytest.mark.parametrize("name", SERVERS)
def test_every_server_has_a_health_check_and_comes_back(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_ports_are_published_on_loopback_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_images_are_pinned(name: str) -> None:
    assert re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)?$", SERVICES[name]["image"])


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_a_service_needs_exists_and_is_waited_for(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        expected = "service_completed_successfully" if needed in JOBS else "service_healthy"
        assert how == {"condition": expected}
        assert needed in SERVICES


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_container_gains_privileges(name: str) -> None:
    assert "no-new-privileges:true" in SERVICES[name]["security_opt"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_are_read_only_and_without_capabilities(name: str) -> None:
    assert SERVICES[name]["read_only"] is True
    assert SERVICES[name]["cap_drop"] == ["ALL"]


def test_data_is_on_named_volumes() -> None:
    volumes = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    mounts = [mount for mount in volumes if not mount.startswith("./")]
    assert {mount.split(":")[0] for mount in mounts} == set(COMPOSE["volumes"])
    # Where Postgres 18's image keeps its clusters; the directory of older ones would lose them.
    assert SERVICES["postgres"]["volumes"] == ["postgres-data:/var/lib/postgresql"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_variable_is_a_setting(name: str) -> None:
    known = {f"DOORBELL_{field.upper()}" for field in Settings.model_fields}
    assert set(SERVICES[name]["environment"]) <= known


@pytest.mark.parametrize("name", sorted(OURS))
def test_what_production_needs_is_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(name, monkeypatch)
    settings.require_production()
    assert settings.temporal_address == "temporal:7233"
    assert settings.admin_token == SecretStr("given-in-the-test")


@pytest.mark.parametrize("variable", ["DOORBELL_SECRET_KEY", "DOORBELL_ADMIN_TOKEN", "POSTGRES_PASSWORD"])
def test_secrets_have_no_default(variable: str) -> None:
    uses = re.findall(rf"\$\{{{variable}(:.)", (ROOT / "docker-compose.yml").read_text())
    assert uses
    assert set(uses) == {":?"}


@pytest.mark.parametrize("name", ["api", *sorted(WORKERS)])
def test_there_is_time_to_finish_what_is_in_flight(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graceful = settings_of(name, monkeypatch).graceful_shutdown
    assert seconds(SERVICES[name]["stop_grace_period"]) > graceful.total_seconds()


@pytest.mark.parametrize("name", sorted(WORKERS))
def test_workers_are_asked_on_the_port_where_they_answer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(name, monkeypatch)
    assert f"{settings.host}:{settings.worker_health_port}/readyz" in " ".join(
        SERVICES[name]["healthcheck"]["test"]
    )
    assert SERVICES[name]["command"] == ["worker", "--environment", name.removeprefix("worker-")]


@pytest.mark.parametrize("name", sorted({"api", *WORKERS}))
def test_prometheus_finds_every_process_and_nobody_else_does(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(name, monkeypatch)
    found = [
        discovery
        for job in yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())["scrape_configs"]
        for discovery in job["dns_sd_configs"]
        if name in discovery["names"]
    ]
    assert [each["port"] for each in found] == [settings.metrics_port]
    assert settings.metrics_host == "0.0.0.0"
    assert not any(str(settings.metrics_port) in port for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", sorted(WATCHERS))
def test_who_watches_comes_when_asked_for_and_finds_its_files(name: str) -> None:
    assert SERVICES[name]["profiles"] == ["observability"]
    files = [mount.split(":") for mount in SERVICES[name]["volumes"] if mount.startswith("./")]
    assert files
    assert all((ROOT / path).exists() and mode == "ro" for path, _, mode in files)


def test_grafana_has_no_password_to_guess() -> None:
    settings = SERVICES["grafana"]["environment"]
    assert settings["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert settings["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_the_api_is_asked_on_the_port_where_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of("api", monkeypatch)
    assert f":{settings.port}/readyz" in " ".join(SERVICES["api"]["healthcheck"]["test"])
    assert SERVICES["api"]["ports"] == [f"127.0.0.1:{settings.port}:{settings.port}"]
    assert settings.host == "0.0.0.0"


def test_the_schema_and_the_server_of_temporal_are_of_one_version() -> None:
    names = ("temporal", "temporal-schema", "temporal-namespace")
    assert len({SERVICES[name]["image"].split(":")[1] for name in names}) == 1


def test_the_image_is_built_from_pinned_and_hashed_parts() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(bases) == 3
    assert all(re.fullmatch(r"(python:3\.11\.\d+|node:\d+)-(slim-\w+|\w+-slim)", base) for base in bases)
    assert "--require-hashes -r requirements.txt" in DOCKERFILE
    assert "http" not in DOCKERFILE


def test_the_image_runs_as_a_user_without_privileges() -> None:
    users = re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)
    assert users
    assert users[-1] not in {"0", "root"}
    assert 'ENTRYPOINT ["doorbell"]' in DOCKERFILE


def test_what_the_image_copies_is_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {
        path
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
        for path in line.split()
    }
    ignored = {line for line in lines if line and not line.startswith(("!", "#", "*", "**"))}
    assert {path for path in copied if path not in kept and Path(path).parts[0] not in kept} == set()
    assert kept <= {part for path in copied for part in (path, Path(path).parts[0])}
    assert not copied & ignored
    assert all((ROOT / path).exists() for path in copied)
