"""examples/deploy: its manifests fit their schemas, and agree with the app and with each other.

They are not run: here is neither Docker nor Kubernetes. What can be checked without is checked.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from roost.channels.channel import Channel
from roost.cli.serve import DEFAULTS
from roost.pubsub.broker import adapter as broker
from roost.pubsub.nats import NatsAdapter
from roost.pubsub.urls import adapter_for
from roost.pubsub.zenoh import adapter as zenoh
from roost.pubsub.zenoh import engine as zenoh_engine
from roost.pubsub.zenoh.settings import DEFAULT_PORT
from tests.engines import NatsServer, RedisServer, free_port
from tests.servers import run_process

DEPLOY = Path(__file__).parents[2] / "examples" / "deploy"
COMPOSE = sorted(DEPLOY.glob("compose.*.yaml"))
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))

APP = (DEPLOY / "app.py").read_text()
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
NGINX = (DEPLOY / "nginx.conf").read_text()

PASSWORD = "secret-1"

by_name = pytest.mark.parametrize("path", [*COMPOSE, *KUBERNETES], ids=lambda path: path.name)
of_compose = pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
of_kubernetes = pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)


def documents(path: Path) -> list[Any]:
    """What a file of YAML holds, as plain lists and dicts."""
    with path.open() as file:
        return [json.loads(json.dumps(each)) for each in YAML(typ="safe").load_all(file)]


def engine_of(path: Path) -> str:
    """``redis``, ``nats`` or ``zenoh``, by the name of a file."""
    return path.stem.removeprefix("compose.")


def run(*arguments: str | Path) -> None:
    """Run a module of Python that checks something."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# Of Docker.


def option(name: str) -> str:
    """An option of the command in the Dockerfile."""
    match = re.search(rf'"{name}", *"([^"]+)"', DOCKERFILE)
    assert match is not None, name
    return match[1]


HTTP_PORT = int(option("--port"))
CLIENT_PERIOD = float(DEFAULTS["timeout_graceful_shutdown"])  # seconds that clients get to go


def health_path() -> str:
    """Where the app answers probes."""
    match = re.search(r'health_path="([^"]+)"', APP)
    assert match is not None
    return match[1]


def stop_period() -> float:
    """Seconds from SIGTERM to the end of the process, at most: clients, handlers, goodbye."""
    engine = max(broker.FLUSH_TIMEOUT, zenoh._FLUSH_TIMEOUT + zenoh_engine._CLOSE_TIMEOUT)
    return CLIENT_PERIOD + Channel.shutdown_timeout + engine


# Schemas.


@of_compose
def test_compose_files_fit_their_schema(path: Path):
    """The schema is that of the compose specification, as a validator ships it."""
    run("check_jsonschema", "--builtin-schema", "vendor.compose-spec", path)


@of_kubernetes
def test_manifests_fit_their_schemas(path: Path):
    """Each resource has the fields of its kind, and no other."""
    run("kubernetes_validate", "--strict", "--quiet", path)


@by_name
def test_each_file_says_how_far_it_is_checked(path: Path):
    """Nobody takes it for something that was run."""
    head = " ".join(path.read_text().split("\n\n")[0].replace("#", "").split())
    assert "against the schema" in head
    assert "It has not been run." in head


# The app.


def test_every_engine_is_shown_both_ways():
    """There is a compose file and a manifest for each."""
    assert {engine_of(path) for path in COMPOSE} == {"redis", "nats", "zenoh"}
    assert {engine_of(path) for path in KUBERNETES} == {"redis", "nats", "zenoh"}


def test_the_image_has_what_the_app_needs():
    """Its package with the extras of all engines, and the app; and it is no Alpine."""
    assert "[server,zenoh,redis,nats]" in DOCKERFILE
    assert "COPY examples/deploy/app.py" in DOCKERFILE
    assert '"app:app"' in DOCKERFILE
    assert re.findall(r"^FROM (.*)$", DOCKERFILE, flags=re.MULTILINE) == ["python:3.13-slim"]
    ports = re.search(r"^EXPOSE (.*)$", DOCKERFILE, flags=re.MULTILINE)
    assert ports is not None
    assert set(map(int, ports[1].split())) == {HTTP_PORT, DEFAULT_PORT}


@pytest.mark.parametrize("engine", ["redis", "nats", "zenoh"])
async def test_the_app_answers_probes(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It starts with each engine, takes its name from the environment, and is healthy."""
    servers = {"redis": RedisServer, "nats": NatsServer}
    server = servers[engine](tmp_path) if engine in servers else None
    if server is not None:
        await server.start()
    try:
        port = free_port() if server is None else server.port
        monkeypatch.setenv("CLUSTER", f"{engine}://127.0.0.1:{port}")
        monkeypatch.setenv("NODE", "web-1")
        app = run_process("examples.deploy.app:app")
        async with app as (url, _), httpx.AsyncClient(base_url=url) as client:
            async with asyncio.timeout(20):
                answer = await client.get(health_path())
            assert (answer.status_code, answer.text) == (200, "ok")
    finally:
        if server is not None:
            await server.stop()


# What names, ports, paths and periods say in several places.


def adapter_of(url: str) -> Any:
    """The adapter that a URL of a manifest names, with the password in its place."""
    for variable in ("${CLUSTER_PASSWORD:?choose a password}", "$(PASSWORD)"):
        url = url.replace(variable, PASSWORD)
    assert "$" not in url
    return adapter_for(url)


def address_of(adapter: Any) -> tuple[str, int]:
    """The host and the port that it connects to."""
    if isinstance(adapter, zenoh.ZenohAdapter):
        (seed,) = adapter._settings.seeds
        return seed.host, seed.port
    host, _, port = adapter.engine.rpartition("/")[2].rpartition(":")
    return host, int(port)


def has_credentials(adapter: Any) -> bool:
    """Whether the password arrives where the engine is asked."""
    if isinstance(adapter, zenoh.ZenohAdapter):
        return adapter._settings.password == PASSWORD
    if isinstance(adapter, NatsAdapter):
        return adapter._options["password"] == PASSWORD
    return bool(adapter._pool.connection_kwargs["password"] == PASSWORD)


def test_variables_are_those_that_the_app_reads():
    """Each one that a manifest sets is read by the app, or a part of one that is."""
    read = set(re.findall(r'environ\.get\("(\w+)"\)', APP))
    assert read == {"CLUSTER", "NODE"}
    for path in COMPOSE:
        assert documents(path)[0]["services"]["app"]["environment"].keys() == {"CLUSTER"}
    for path in KUBERNETES:
        names = [each["name"] for each in app_container(path)["env"]]
        assert names == ["PASSWORD", "CLUSTER", "NODE"]  # before it is used, or it stays as it is


@of_compose
def test_a_compose_file_agrees_with_the_app(path: Path):
    """Its proxy, its probe, its engine and its grace period are those that the app has."""
    (file,) = documents(path)
    services = file["services"]
    app = services["app"]
    assert app["deploy"]["replicas"] == 3
    assert f"http://127.0.0.1:{HTTP_PORT}{health_path()}" in app["healthcheck"]["test"][-1]
    assert (path.parent / app["build"]["context"] / app["build"]["dockerfile"]).is_file()
    assert (path.parent / file["configs"]["nginx"]["file"]).is_file()
    assert float(app["stop_grace_period"].removesuffix("s")) >= stop_period()

    adapter = adapter_of(app["environment"]["CLUSTER"])
    host, port = address_of(adapter)
    assert host in services
    assert has_credentials(adapter)
    if engine_of(path) == "zenoh":
        assert app["expose"] == [str(port)]
    else:
        assert app["depends_on"] == {host: {"condition": "service_healthy"}}
        assert port == {"redis": 6379, "nats": 4222}[engine_of(path)]
        assert "ports" not in services[host]  # nobody outside can reach it


def test_the_proxy_passes_on_what_the_app_needs():
    """The app's port and no probe, upgrades, the host, and silence longer than the app's own."""
    assert f"set $app app:{HTTP_PORT};" in NGINX
    assert f"location = {health_path()}" in NGINX
    assert "proxy_set_header Upgrade $http_upgrade" in NGINX
    assert "proxy_set_header Host $http_host" in NGINX
    timeout = re.search(r"proxy_read_timeout (\d+)s", NGINX)
    assert timeout is not None
    assert int(timeout[1]) > 60


def of_kind(path: Path, kind: str, name: str | None = None) -> Any:
    """The resource of a kind in a manifest."""
    (found,) = (
        each
        for each in documents(path)
        if each["kind"] == kind and name in (None, each["metadata"]["name"])
    )
    return found


def app_container(path: Path) -> Any:
    (container,) = of_kind(path, "Deployment", "roost")["spec"]["template"]["spec"]["containers"]
    return container


def ports_of(container: Any) -> dict[str, int]:
    return {each["name"]: each["containerPort"] for each in container["ports"]}


@of_kubernetes
def test_a_manifest_agrees_with_the_app(path: Path):
    """Its ports, probes, names and grace period are those that the app has."""
    deployment = of_kind(path, "Deployment", "roost")["spec"]
    pod = deployment["template"]["spec"]
    app = app_container(path)
    assert ports_of(app)["http"] == HTTP_PORT
    for probe in ("readinessProbe", "livenessProbe"):
        assert app[probe]["httpGet"] == {"path": health_path(), "port": "http"}
    waits = app["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= waits + stop_period()
    assert of_kind(path, "PodDisruptionBudget")["spec"]["maxUnavailable"] < deployment["replicas"]

    env = {each["name"]: each for each in app["env"]}
    secret = of_kind(path, "Secret")
    reference = env["PASSWORD"]["valueFrom"]["secretKeyRef"]
    assert reference["name"] == secret["metadata"]["name"]
    assert reference["key"] in secret["stringData"]
    adapter = adapter_of(env["CLUSTER"]["value"])
    host, port = address_of(adapter)
    assert has_credentials(adapter)
    service = of_kind(path, "Service", host)["spec"]
    assert [each["port"] for each in service["ports"]] == [port]
    if engine_of(path) == "zenoh":
        assert service["clusterIP"] == "None"
        assert service["publishNotReadyAddresses"] is True
        assert ports_of(app)["nodes"] == port


@of_kubernetes
def test_selectors_find_what_they_are_meant_for(path: Path):
    """Each service, budget and policy selects pods of this file, and ports that they have."""
    containers = {}
    for deployment in documents(path):
        if deployment["kind"] == "Deployment":
            template = deployment["spec"]["template"]
            assert deployment["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
            (container,) = template["spec"]["containers"]
            containers[template["metadata"]["labels"]["app"]] = container
    for selector in _selectors(documents(path)):
        assert selector["app"] in containers
    for service in documents(path):
        if service["kind"] == "Service":
            ports = ports_of(containers[service["spec"]["selector"]["app"]])
            for port in service["spec"]["ports"]:
                assert port["targetPort"] in ports
    policy = of_kind(path, "NetworkPolicy")["spec"]
    ports = ports_of(containers[policy["podSelector"]["matchLabels"]["app"]])
    opened = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
    assert sorted(opened) == sorted(ports.values())
    closed_to_others = [port["port"] for port in policy["ingress"][0]["ports"]]
    _, cluster_port = address_of(adapter_of(app_container(path)["env"][1]["value"]))
    assert closed_to_others == [cluster_port]
    assert policy["ingress"][0]["from"] == [{"podSelector": {"matchLabels": {"app": "roost"}}}]


def _selectors(value: Any) -> Iterator[Any]:
    """All selectors, wherever they are; those of services are bare labels."""
    if isinstance(value, list):
        for each in value:
            yield from _selectors(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key in ("selector", "podSelector"):
                yield each.get("matchLabels", each)
            else:
                yield from _selectors(each)
