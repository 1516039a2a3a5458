"""What runs the images agrees with what is in them: compose file, dashboard, Kubernetes manifests, systemd unit."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from runtime import cli
from runtime.common.console import EXIT_ERROR
from tests.supply.packages import ROOT

DOCKER = ROOT / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("watch", "serve")
HARDENED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def filled(text: str) -> str:
    """A text of the compose file with the defaults of its variables."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def parse(words: list[str]) -> Any:
    """Arguments of `afsd`, by its own parser; the verb may be one that this clone does not have yet."""
    parser = cli.make_parser()
    verbs = next(action.choices for action in parser._actions if isinstance(action.choices, dict))
    if words[0] not in verbs:
        pytest.skip(f"there is no afsd {words[0]} here")
    return parser.parse_args(words)


def manifests() -> list[dict[str, Any]]:
    texts = [path.read_text() for path in sorted((DOCKER / "kubernetes").glob("*.yaml"))]
    return [document for text in texts for document in yaml.safe_load_all(text)]


def test_the_compose_file_is_one_by_the_published_schema() -> None:
    """The schema is compose-spec's, as the package check-jsonschema brings it."""
    pytest.importorskip("check_jsonschema")
    folder = resources.files("check_jsonschema.builtin_schemas.vendor")
    validator = jsonschema.validators.validator_for({})(json.loads((folder / "compose-spec.json").read_text()))
    assert list(validator.iter_errors(COMPOSE)) == []
    broken = json.loads(json.dumps(COMPOSE))
    broken["services"]["watch"]["ports"] = "9100"
    assert list(validator.iter_errors(broken))


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_bounded(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert service["healthcheck"]["test"][0] == "CMD"
    assert re.fullmatch(r"[\w./-]+:[\w.-]+", service["image"])
    assert not service["image"].endswith(":latest")
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_what_is_mounted_is_there_and_is_declared() -> None:
    for service in SERVICES.values():
        for mount in map(filled, service["volumes"]):
            source = mount.split(":")[0]
            if not source.startswith("."):
                assert source in COMPOSE["volumes"]
            elif not source.startswith("../models"):
                assert (DOCKER / source).exists(), source
        assert set(service["networks"]) <= set(COMPOSE["networks"])


@pytest.mark.parametrize("name", OURS)
def test_the_commands_of_our_services_are_those_of_the_parser(name: str) -> None:
    arguments = parse([filled(word) for word in SERVICES[name]["command"]])
    assert arguments.engine == "/models/model.xml"
    port = {"watch": "9100", "serve": "8000"}[name]
    assert f"127.0.0.1:{port}/healthz" in " ".join(SERVICES[name]["healthcheck"]["test"])
    if name == "watch":
        assert arguments.metrics == f"0.0.0.0:{port}"
    else:
        assert (arguments.host, arguments.port) == ("0.0.0.0", int(port))


def test_prometheus_asks_who_is_there_and_grafana_asks_prometheus() -> None:
    jobs = yaml.safe_load((DOCKER / "prometheus.yml").read_text())["scrape_configs"]
    targets = [target for job in jobs for entry in job["static_configs"] for target in entry["targets"]]
    assert targets == ["watch:9100", "serve:8000"]
    assert "serve" in SERVICES["serve"]["command"][SERVICES["serve"]["command"].index("--allowed-host") + 1 :]
    (source,) = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((DOCKER / "grafana/provisioning/dashboards/afsd.yaml").read_text())["providers"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]
    network = set(SERVICES["prometheus"]["networks"])
    assert all(network & set(SERVICES[name]["networks"]) for name in ("watch", "serve", "grafana"))


def queries() -> list[str]:
    dashboard = json.loads((DOCKER / "grafana/dashboards/afsd.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [*found, *(variable["query"]["query"] for variable in dashboard["templating"]["list"])]


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "runtime").rglob("*.py"))
    known = set(re.findall(r'"(afsd_\w+)"', sources))
    asked = {name for query in queries() for name in re.findall(r"afsd_\w+", query)}
    assert len(asked) > 10
    unknown = {name for name in asked if name not in known and name.removesuffix("_bucket") not in known}
    if not (ROOT / "runtime/service").is_dir():
        unknown = {name for name in unknown if not name.startswith("afsd_service_")}
    assert unknown == set()


def test_the_dashboard_lies_well() -> None:
    """Every panel has a place of its own, a number and the provisioned source."""
    dashboard = json.loads((DOCKER / "grafana/dashboards/afsd.json").read_text())
    cells: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        cells |= own
        assert panel["datasource"]["uid"] == "prometheus"
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_pods_are_bounded_and_not_root() -> None:
    pods = [one["spec"]["template"]["spec"] for one in manifests() if one["kind"] in ("Deployment", "Job")]
    assert len(pods) == 2
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["automountServiceAccountToken"] is False
        names = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert container["securityContext"] == HARDENED
            assert {"cpu", "memory"} <= set(container["resources"]["limits"])
            assert {mount["name"] for mount in container["volumeMounts"]} <= names
            assert {"/tmp", "/cache"} <= {mount["mountPath"] for mount in container["volumeMounts"]}


def test_the_deployment_serves_what_its_probes_and_its_service_ask() -> None:
    by_kind = {one["kind"]: one for one in manifests()}
    (container,) = by_kind["Deployment"]["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == port["name"]
        assert container[probe]["httpGet"]["path"] == ("/readyz" if probe == "readinessProbe" else "/healthz")
    labels = by_kind["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert by_kind["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert by_kind["Service"]["spec"]["selector"].items() <= labels.items()
    assert by_kind["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert by_kind["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    arguments = parse(container["args"])
    assert (arguments.host, arguments.port) == ("0.0.0.0", port["containerPort"])


def test_pod_i_of_the_job_takes_shard_i_plus_one(tmp_path: Path) -> None:
    """The command is run by a shell with a program of the name `afsd` that prints its words."""
    (job,) = (one for one in manifests() if one["kind"] == "Job")
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"
    (container,) = spec["template"]["spec"]["containers"]
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    assert given == {"SHARDS": str(spec["completions"])}
    (tmp_path / "afsd").write_text('#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done\n')
    (tmp_path / "afsd").chmod(0o755)
    shards = []
    for index in range(spec["completions"]):
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "JOB_COMPLETION_INDEX": str(index), **given}
        done = subprocess.run(container["command"], env=environment, capture_output=True, text=True, check=True)
        arguments = parse(done.stdout.splitlines())
        shards.append(str(arguments.shard))
    assert len(set(shards)) == spec["completions"]
    assert done.stdout.splitlines()[-2:] == ["--shard", "8/8"]


def test_a_bad_video_ends_no_other_shard_and_is_not_tried_again() -> None:
    """By Kubernetes' rules: FailIndex by exit status needs restartPolicy Never; the Job ends at more failed indexes."""
    (job,) = (one for one in manifests() if one["kind"] == "Job")
    spec = job["spec"]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["maxFailedIndexes"] == spec["completions"]
    rules = {rule["action"]: rule for rule in spec["podFailurePolicy"]["rules"]}
    (container,) = spec["template"]["spec"]["containers"]
    assert rules["FailIndex"]["onExitCodes"] == {
        "containerName": container["name"],
        "operator": "In",
        "values": [EXIT_ERROR],
    }
    assert rules["Ignore"]["onPodConditions"][0]["type"] == "DisruptionTarget"  # an eviction


def test_the_unit_starts_what_the_parser_takes() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[method-assign,assignment]
    unit.read(DOCKER / "systemd/afsd-watch@.service")
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).name == "afsd"
    arguments = parse([word.replace("${MODEL}", "model.xml").replace("${SOURCE}", "rtsp://cam/1") for word in words])
    assert arguments.sources == ["rtsp://cam/1"]
    assert str(arguments.out) == "%S/afsd/%i"
    assert unit["Service"]["Restart"] == "on-failure"
