"""What runs the images agrees with what is in them: compose file, dashboard, Kubernetes manifests, systemd unit."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from collections import Counter
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from runtime import cli
from runtime.commands.flags.ray import fleet_options
from runtime.commands.serve import AFTER_GRACE_S
from runtime.commands.watch import GRACE_SECONDS
from runtime.common.console import EXIT_ERROR
from runtime.detector import Detector
from runtime.errors import InputError
from runtime.live.watcher import ALIVE_SECONDS, Watcher
from runtime.metrics.addresses import parse_address
from runtime.service.workers.process import OPEN_S
from runtime.video.sources import expand_sources
from tests.supply.packages import ROOT, read_lock
from tests.tiny import TinyEngine

DOCKER = ROOT / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("watch", "serve")
HARDENED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


LOADED_MIB = 320
"""Resident memory of a process with the engine of published size in float32 on OpenVINO, before its first window: 307
MiB on two cores. What windows and videos take is within --memory."""
SERVICE_MIB = 100
"""The process that answers: 66 to 79 MiB (docs/service.md)."""
UNITS = {"M": 1, "G": 1024, "Mi": 1, "Gi": 1024, "m": 1}


def filled(text: str) -> str:
    """A text of the compose file with the defaults of its variables."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def mebibytes(text: str) -> float:
    """A size such as 4Gi; Docker's G are GiB, too."""
    found = re.fullmatch(r"(\d+)([a-zA-Z]+)", text)
    assert found is not None
    return int(found[1]) * UNITS[found[2]]


def most_memory(arguments: Any) -> float:
    """MiB that a service may take: itself, and each worker and live input with its engine and --memory."""
    workers = arguments.workers or len(arguments.device.split(","))
    return SERVICE_MIB + (workers + arguments.max_live) * (LOADED_MIB + arguments.memory)


def most_seconds(arguments: Any) -> float:
    """Seconds from SIGTERM to the end of a service."""
    return float(arguments.grace + AFTER_GRACE_S)


def of_kind(kind: str, name: str = "afsd-serve") -> dict[str, Any]:
    (found,) = (one for one in manifests() if one["kind"] == kind and one["metadata"]["name"] == name)
    return found


def job() -> dict[str, Any]:
    return of_kind("Job", "afsd-detect")


make_parser = cache(cli.make_parser)


def parse(words: list[str]) -> Any:
    """Arguments of `afsd`, by its own parser; the verb may be one that this clone does not have yet."""
    parser = make_parser()
    verbs = next(action.choices for action in parser._actions if isinstance(action.choices, dict))
    if words[0] not in verbs:
        pytest.skip(f"there is no afsd {words[0]} here")
    return parser.parse_args(words)


@cache
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
    assert (DOCKER / filled(COMPOSE["secrets"]["cameras"]["file"])).is_file()
    for service in SERVICES.values():
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
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
        assert arguments.sources == [f"@/run/secrets/{SERVICES[name]['secrets'][0]}"]
        assert arguments.end_when_hung > ALIVE_SECONDS
        assert arguments.keep_days > 0
    else:
        assert (arguments.host, arguments.port) == ("0.0.0.0", int(port))


def test_the_list_of_cameras_names_the_camera_of_the_compose_file() -> None:
    (camera,) = expand_sources([f"@{DOCKER / 'cameras.txt'}"])
    config = yaml.safe_load((DOCKER / "mediamtx.yml").read_text())
    assert camera == f"rtsp://camera:8554/{next(iter(config['paths']))}"
    assert camera.removeprefix("rtsp://camera:8554/") in " ".join(SERVICES["camera"]["healthcheck"]["test"])
    assert set(SERVICES["camera"]["networks"]) & set(SERVICES["watch"]["networks"])


def test_nobody_looks_at_the_dashboard_without_a_password() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert re.match(r"\$\{AFSD_GRAFANA_PASSWORD:\?", environment["GF_SECURITY_ADMIN_PASSWORD"])


def test_a_service_has_the_time_and_the_memory_that_its_flags_take() -> None:
    """By its own flags and their defaults; of Docker's limit the file systems in memory are a part."""
    serve = SERVICES["serve"]
    arguments = parse([filled(word) for word in serve["command"]])
    assert most_seconds(arguments) < int(serve["stop_grace_period"].removesuffix("s"))
    in_memory = sum(mebibytes(re.search(r"size=(\w+)", mount)[1]) for mount in serve["tmpfs"])  # type: ignore[index]
    assert most_memory(arguments) + in_memory <= mebibytes(serve["deploy"]["resources"]["limits"]["memory"])
    assert int(SERVICES["watch"]["stop_grace_period"].removesuffix("s")) > 2 * GRACE_SECONDS

    pod = of_kind("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    arguments = parse(container["args"])
    program, waited = container["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    assert int(waited) + most_seconds(arguments) < pod["terminationGracePeriodSeconds"]
    assert most_memory(arguments) <= mebibytes(container["resources"]["limits"]["memory"])
    assert all("medium" not in volume.get("emptyDir", {}) for volume in pod["volumes"])  # of memory


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


RULES = [
    rule for group in yaml.safe_load((DOCKER / "prometheus-rules.yml").read_text())["groups"] for rule in group["rules"]
]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Metrics that a watch and a service print, each with the names of its labels."""
    pytest.importorskip("starlette")
    from runtime.metrics.exposition import expose
    from runtime.metrics.watch_collector import WatchCollector
    from runtime.service.jobs import JobStore
    from runtime.service.metrics import ServiceMetrics
    from runtime.service.options import ServiceOptions
    from runtime.service.workers.pool import Pool
    from runtime.service.workers.worker import Models

    options = ServiceOptions()
    store = JobStore(tmp_path_factory.mktemp("jobs"), options)
    watch = WatchCollector(Watcher(Detector(TinyEngine()), ["udp://127.0.0.1:1"]).numbers)
    serve = ServiceMetrics(store, Pool(Models("m"), options, store), Counter({429: 1}))
    found: dict[str, set[str]] = {"up": set()}
    for line in "".join(expose(collector, "")[0].decode() for collector in (watch, serve)).splitlines():
        if not line.startswith("#"):
            sample = re.match(r"(\w+)(?:\{(.*)\})? ", line)
            assert sample is not None
            found.setdefault(sample[1], {"instance", "job"}).update(re.findall(r'(\w+)="', sample[2] or ""))
    return found


def test_the_dashboard_and_the_alerts_ask_for_metrics_that_are_printed(printed: dict[str, set[str]]) -> None:
    for query in (*queries(), *(rule["expr"] for rule in RULES)):
        asked = set(re.findall(r"\b(?:afsd_\w+|up)\b", query))
        assert asked <= set(printed), query
        assert asked
        for name, selectors in re.findall(r"(afsd_\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selectors)) <= printed[name], query


def test_prometheus_reads_every_query() -> None:
    """By a parser of PromQL that is not this project's; Grafana puts its variables in before."""
    parser = pytest.importorskip("promql_parser")
    for query in (*queries(), *(rule["expr"] for rule in RULES)):
        if not query.startswith("label_values("):  # Grafana's own
            parser.parse(query.replace("$video", "a"))
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        parser.parse("sum(rate(afsd_up[5m])")


def test_the_alerts_are_loaded_say_whom_they_mean_and_are_documented(printed: dict[str, set[str]]) -> None:
    config = yaml.safe_load((DOCKER / "prometheus.yml").read_text())
    assert f"./prometheus-rules.yml:{config['rule_files'][0]}:ro" in SERVICES["prometheus"]["volumes"]
    assert len({rule["alert"] for rule in RULES}) == len(RULES) > 8
    guide = (ROOT / "docs/deploy.md").read_text()
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert re.fullmatch(r"\d+m", rule.get("for", "1m"))
        assert f"`{rule['alert']}`" in guide
        told = " ".join(rule["annotations"].values())
        kept = set.intersection(*(printed[name] for name in re.findall(r"\b(?:afsd_\w+|up)\b", rule["expr"])))
        assert set(re.findall(r"\$labels\.(\w+)", told)) <= kept | {"instance", "job"}, rule["alert"]
        assert "$labels." in rule["annotations"]["summary"]
    names = "".join(rule["expr"] for rule in RULES)
    assert {"afsd_healthy", "afsd_up", "afsd_service_workers_ready"} <= set(re.findall(r"afsd_\w+", names))
    (down,) = (rule["expr"] for rule in RULES if rule["alert"] == "AfsdDown")
    jobs = re.search(r'job=~"(.*)"', down)
    assert jobs is not None
    for job in (*(entry["job_name"] for entry in config["scrape_configs"]), "default/afsd-serve"):
        assert re.fullmatch(jobs[1], job)


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
    assert len(pods) == 3
    pods += [one["spec"] for one in manifests() if one["kind"] == "Pod"]
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["automountServiceAccountToken"] is False
        names = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert container["securityContext"] == HARDENED
            assert {"cpu", "memory"} <= set(container["resources"]["limits"])
            assert {mount["name"] for mount in container["volumeMounts"]} <= names
            if container["name"] != "fill":
                assert {"/tmp", "/cache"} <= {mount["mountPath"] for mount in container["volumeMounts"]}


def test_the_deployment_serves_what_its_probes_and_its_service_ask() -> None:
    by_kind = {kind: of_kind(kind) for kind in ("Deployment", "Service", "NetworkPolicy")}
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
    spec = job()["spec"]
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
    spec = job()["spec"]
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


def test_the_pods_of_a_service_stand_apart_and_are_found_by_prometheus() -> None:
    """What selects them selects their labels; the monitor brings the token that the service asks for."""
    deployment, monitor = of_kind("Deployment")["spec"], of_kind("PodMonitor")["spec"]
    pod = deployment["template"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    (container,) = pod["containers"]
    (spread,) = pod["topologySpreadConstraints"]
    for selector in (spread["labelSelector"], of_kind("PodDisruptionBudget")["spec"]["selector"], monitor["selector"]):
        assert selector["matchLabels"].items() <= labels.items()
    assert of_kind("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] == container["ports"][0]["name"]
    (secret,) = (volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume)
    key = Path(parse(container["args"]).token_file).name
    assert endpoint["authorization"] == {"type": "Bearer", "credentials": {"name": secret, "key": key}}
    sources = of_kind("NetworkPolicy")["spec"]["ingress"][0]["from"]
    assert {"matchLabels": {"app.kubernetes.io/name": "prometheus"}} in [one["podSelector"] for one in sources]


def test_the_watch_of_a_cluster_is_probed_and_scraped() -> None:
    deployment, monitor = of_kind("Deployment", "afsd-watch")["spec"], of_kind("PodMonitor", "afsd-watch")["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    arguments = parse(container["args"])
    (port,) = container["ports"]
    assert parse_address(arguments.metrics) == ("0.0.0.0", port["containerPort"])
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": port["name"]}
    labels = deployment["template"]["metadata"]["labels"]
    policy = of_kind("NetworkPolicy", "afsd-watch")["spec"]
    for selector in (deployment["selector"], monitor["selector"], policy["podSelector"]):
        assert selector["matchLabels"].items() <= labels.items()
    assert [endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]] == [port["name"]]
    assert policy["ingress"][0]["ports"] == [{"port": port["name"]}]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    (source,) = arguments.sources
    assert mounts[str(Path(source[1:]).parent)] == "cameras"
    assert mounts[f"/{arguments.out.parts[1]}"] == "results"
    assert deployment["strategy"] == {"type": "Recreate"}
    assert pod["terminationGracePeriodSeconds"] > 2 * GRACE_SECONDS


def pod_specs() -> list[dict[str, Any]]:
    ray = of_kind("RayJob", "afsd-detect-ray")["spec"]["rayClusterSpec"]
    groups = [ray["headGroupSpec"], *ray["workerGroupSpecs"]]
    return [
        *(
            one["spec"]["template"]["spec"]
            for one in (of_kind("Deployment"), of_kind("Deployment", "afsd-watch"), job())
        ),
        *(group["template"]["spec"] for group in groups),
    ]


def test_secrets_are_readable_by_their_group_alone() -> None:
    pods = [one["spec"]["template"]["spec"] for one in manifests() if one["kind"] in ("Deployment", "Job")]
    secrets = [volume["secret"] for pod in pods for volume in pod["volumes"] if "secret" in volume]
    assert [secret["defaultMode"] for secret in secrets] == [0o440] * 2
    assert all(pod["securityContext"]["fsGroup"] == 10001 for pod in pods)


def test_every_claim_that_is_mounted_is_made() -> None:
    made = {one["metadata"]["name"]: one["spec"] for one in manifests() if one["kind"] == "PersistentVolumeClaim"}
    mounted = [
        volume["persistentVolumeClaim"]["claimName"]
        for pod in pod_specs() for volume in pod["volumes"] if "persistentVolumeClaim" in volume
    ]  # fmt: skip
    assert set(mounted) == set(made)
    assert all(spec["accessModes"] == ["ReadWriteMany"] for spec in made.values())


def test_the_job_on_ray_is_one_that_the_parser_and_its_image_take() -> None:
    spec = of_kind("RayJob", "afsd-detect-ray")["spec"]
    program, *words = shlex.split(spec["entrypoint"])
    assert program == "afsd"
    arguments = parse(words)
    fleet = fleet_options(arguments)
    assert fleet is not None
    assert fleet.address == "auto"
    cluster = spec["rayClusterSpec"]
    locked = {package.name: package.version for package in read_lock(ROOT / "requirements-dev.txt")}["ray"]
    image = re.search(
        r"^ARG RAY_IMAGE=rayproject/ray:([\d.]+)-py3(\d+)-cpu$", (DOCKER / "Dockerfile.ray").read_text(), re.M
    )
    assert image is not None
    assert (cluster["rayVersion"], image[1]) == (locked, locked)
    assert int(image[2]) >= 11
    (group,) = cluster["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    assert fleet.cpus_per_actor <= int(limits["cpu"])
    assert (fleet.memory_per_actor or 0) <= 0.7 * mebibytes(limits["memory"]) * 2**20  # Ray keeps the rest
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
    assert mounts[str(arguments.out)] is False
    assert all(mounts[f"/{word.split('/')[1]}"] for word in (arguments.engine, *arguments.videos))
    assert group["maxReplicas"] >= fleet.pool[1]  # type: ignore[operator]
    for pod in pod_specs()[3:]:
        assert pod["securityContext"]["runAsNonRoot"] is True
        user = f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
        assert user in (DOCKER / "Dockerfile.ray").read_text()
        for container in pod["containers"]:
            assert container["securityContext"].items() <= HARDENED.items()
            assert {"cpu", "memory"} <= set(container["resources"]["limits"])


def test_triton_gets_shared_memory_for_its_inputs() -> None:
    """Wherever `docker run` starts it: a video, and what the backend keeps beside it."""
    largest = parse(["triton", "m.xml", "--out", "r"]).max_mb
    told = (DOCKER / "Dockerfile.triton").read_text() + (ROOT / "docs/triton.md").read_text()
    sizes = re.findall(r"--shm-size[ =](\d+)g\b", told)
    assert len(sizes) >= 2
    assert all(int(size) * 1024 > 2 * largest for size in sizes)


UNIT = DOCKER / "systemd/afsd-watch@.service"


def unit() -> Any:
    found = configparser.ConfigParser(interpolation=None, strict=False)
    found.optionxform = str  # type: ignore[method-assign,assignment]
    found.read(UNIT)
    return found["Service"]


def test_the_unit_starts_what_the_parser_takes() -> None:
    service = unit()
    program, *words = shlex.split(service["ExecStart"])
    assert Path(program).name == "afsd"
    values = {"${MODEL}": "model.xml", "${METRICS}": "127.0.0.1:9101"}
    arguments = parse([values.get(word, word) for word in words])
    assert arguments.sources == ["@%d/cameras"]
    assert service["LoadCredential"] == "cameras:/etc/afsd/%i.cameras"
    assert str(arguments.out) == f"%S/{service['StateDirectory']}"
    assert (arguments.metrics, arguments.quiet, arguments.keep_days) == ("127.0.0.1:9101", True, 30)
    with pytest.raises(InputError, match="--metrics: got '', expected PORT"):  # systemd's value of one that is not set
        parse_address("")


def test_a_unit_that_hangs_is_ended_and_units_share_no_folder() -> None:
    service = unit()
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) > ALIVE_SECONDS
    assert service["Restart"] == "on-failure"  # a watchdog's end is one
    assert service["LimitCORE"] == "0"  # and a SIGABRT
    assert int(service["TimeoutStopSec"]) > 2 * GRACE_SECONDS
    assert int(service["TimeoutStartSec"]) >= OPEN_S
    assert "AF_UNIX" in service["RestrictAddressFamilies"].split()  # of systemd's socket
    assert service["DynamicUser"] == "yes"
    assert service["StateDirectory"].endswith("/%i")
    assert service["CacheDirectory"].endswith("/%i")
    assert service["Environment"] == f"XDG_CACHE_HOME=%C/{service['CacheDirectory']}"


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    (tmp_path / "afsd-watch@x.service").write_text(UNIT.read_text().replace("/opt/afsd/bin/afsd", "/bin/true"))
    command = ["systemd-analyze", "verify", str(tmp_path / "afsd-watch@x.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Failed to initialize manager" in done.stderr:  # as in some containers
        pytest.skip(done.stderr.splitlines()[0])
    assert (done.stderr, done.returncode) == ("", 0)


def test_logrotate_moves_the_files_of_the_unit() -> None:
    """The pattern covers the unit's folder; `create` and `copytruncate` would race with the watch, without need."""
    text = (DOCKER / "logrotate/afsd").read_text()
    pattern = re.search(r"^(/\S+) \{$", text, re.M)
    assert pattern is not None
    folder = unit()["StateDirectory"].replace("%i", "door")
    assert Path(f"/var/lib/{folder}/cam1.jsonl").match(pattern[1])
    settings = set(re.findall(r"^    (\w+)", text, re.M))
    assert {"nocreate", "delaycompress", "missingok"} <= settings
    assert not settings & {"copytruncate", "create", "postrotate"}
