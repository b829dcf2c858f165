"""The manifests beside the container files: valid by the schemas of those who read them, and safe."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

from glass_rt.backends.trt.backend import WARM_SECONDS

DEPLOY = Path(__file__).parents[2] / "deploy"
SERVE = ["serve", "--engine", "--host", "0.0.0.0", "--port", "8000", "--api-key-file"]
DRAIN_S = 60  # of the server


def kubernetes(kind: str) -> Any:
    (found,) = [one for one in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()) if one["kind"] == kind]
    return found


def compose() -> Any:
    """The compose file with its variables filled in, as Compose does before it reads the rest."""
    text = re.sub(r"\$\{GLASS_RT_BUNDLE:\?[^}]*\}", "/engines/vit_b16", (DEPLOY / "compose.yaml").read_text())
    assert "${" not in text
    return yaml.safe_load(text)


def unit() -> list[tuple[str, str]]:
    lines = (DEPLOY / "glass-rt.service").read_text().splitlines()
    return [(key, value) for key, _, value in (line.partition("=") for line in lines) if key[:1] not in ("", "#", "[")]


def assert_is_serve(arguments: list[str]) -> None:
    """The command is the server's, on every address (a container's own), with keys."""
    flags = [word for word in arguments if word in SERVE]
    assert flags == SERVE, arguments


def test_kubernetes_takes_the_manifest() -> None:
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    assert [document["kind"] for document in documents] == ["Deployment", "Service", "PodDisruptionBudget"]
    for document in documents:
        for version in ("1.30", kubernetes_validate.latest_version()):
            kubernetes_validate.validate(document, version, strict=True)
    documents[0]["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinesProbe"):
        kubernetes_validate.validate(documents[0], kubernetes_validate.latest_version(), strict=True)


def test_the_pod_is_probed_drained_and_confined() -> None:
    pod = kubernetes("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert_is_serve(container["args"])
    probes = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert probes == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/v2/health/ready"}
    start = container["startupProbe"]
    engines_warm_up = 2 * WARM_SECONDS  # one after the other, and one batch size may outlast its turn
    assert start["periodSeconds"] * start["failureThreshold"] > 4 * engines_warm_up
    assert pod["terminationGracePeriodSeconds"] > DRAIN_S + container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["resources"]["limits"]["memory"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    assert mounts["engine"]["mountPath"] in container["args"]
    assert mounts["engine"]["readOnly"] is mounts["secrets"]["readOnly"] is True


def test_the_service_finds_the_pods() -> None:
    template = kubernetes("Deployment")["spec"]["template"]
    labels, (port,) = template["metadata"]["labels"], template["spec"]["containers"][0]["ports"]
    assert kubernetes("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert kubernetes("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    service = kubernetes("Service")["spec"]
    assert service["selector"] == labels
    assert service["ports"][0]["targetPort"] == port["name"]


def test_compose_takes_the_file() -> None:
    text = yaml.safe_dump(compose())
    assert set(PyCompose.from_yaml(text).service_names()) == {"glass-rt", "prometheus"}
    with pytest.raises(ValueError, match="mem_limit"):
        PyCompose.from_yaml(text.replace("mem_limit: 4g", "mem_limit: lots"))


def test_the_services_of_compose_are_confined_and_local() -> None:
    project = compose()
    for service in project["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert set(service["secrets"]) <= set(project["secrets"])
    server = project["services"]["glass-rt"]
    assert_is_serve(server["command"])
    assert all(volume.endswith(":ro") for volume in server["volumes"])
    assert int(server["stop_grace_period"].removesuffix("s")) > DRAIN_S
    assert (DEPLOY / server["build"]["context"] / server["build"]["dockerfile"]).is_file()


def test_prometheus_scrapes_the_server_with_its_key() -> None:
    project, scraped = compose(), yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    (job,) = scraped["scrape_configs"]
    ((target,),) = [static["targets"] for static in job["static_configs"]]
    name, port = target.split(":")
    assert port in project["services"][name]["command"]
    secret = Path(job["authorization"]["credentials_file"])
    assert secret.parent == Path("/run/secrets")
    assert secret.name in project["services"]["prometheus"]["secrets"]
    mounted = project["services"]["prometheus"]["volumes"][0].split(":")
    assert (DEPLOY / mounted[0]).name == "prometheus.yml"


def test_the_unit_serves_reloads_and_drains() -> None:
    settings = dict(unit())
    program, *arguments = shlex.split(settings["ExecStart"])
    assert program == "/opt/glass/bin/glass-rt"
    assert_is_serve(arguments)
    assert settings["LoadCredential"].split(":")[0] == Path(arguments[-1]).name
    assert settings["ExecReload"].endswith("-HUP $MAINPID")
    assert int(settings["TimeoutStopSec"]) > DRAIN_S
    assert settings["DynamicUser"] == settings["NoNewPrivileges"] == "yes"
    assert settings["MemoryMax"]


def test_systemd_takes_the_unit_and_calls_it_confined(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    file = tmp_path / "glass-rt.service"
    # It wants the program to exist, which it does on the machine that the unit is for.
    file.write_text((DEPLOY / "glass-rt.service").read_text().replace("/opt/glass/bin/glass-rt", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=25", file], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout  # the threshold is in tenths of its score, 0 the safest
    file.write_text(file.read_text().replace("MemoryMax=", "MemroyMax="))
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True)
    assert "Unknown key 'MemroyMax'" in done.stderr
