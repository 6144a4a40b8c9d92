"""The manifests for Kubernetes: valid for its API, whole, and with no more capabilities than were tried."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kluis
from kluis.cli.machine import unit_files
from kluis.serve.plan import ORDER
from kluis.tee.process.container import CAPABILITIES

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate: extra dev")
yaml = pytest.importorskip("yaml", reason="PyYAML comes with kubernetes-validate")

FOLDER = Path(__file__).parents[3] / "examples/deploy/kubernetes"
VERSIONS = ("1.29", "1.32", kubernetes_validate.latest_version())


def manifests() -> list[dict[str, Any]]:
    """All documents of the files that the kustomization lists."""
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(
        path.name for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml"
    )
    return [one for name in listed for one in yaml.safe_load_all((FOLDER / name).read_text())]


def kinds(kind: str) -> dict[str, dict[str, Any]]:
    """Those of one kind by their names."""
    return {one["metadata"]["name"]: one for one in manifests() if one["kind"] == kind}


def pods() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each workload's name, labels of its pods, and their specification."""
    for kind in ("DaemonSet", "Deployment"):
        for name, one in kinds(kind).items():
            template = one["spec"]["template"]
            assert one["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
            yield name, template["metadata"]["labels"], template["spec"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_api_accepts_each(version: str) -> None:
    """No unknown field, no wrong type, no missing field, in this version of Kubernetes."""
    for one in manifests():
        kubernetes_validate.validate(one, version, strict=True)


def test_an_unknown_field_is_found() -> None:
    """The schemas do find a field that there is not."""
    one = next(iter(kinds("DaemonSet").values()))
    one["spec"]["template"]["spec"]["containers"][0]["readOnlyRoot"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(one, VERSIONS[-1], strict=True)


def test_all_that_is_named_exists() -> None:
    """Accounts, claims, ports and selectors refer to something in the folder."""
    labels = {name: label for name, label, _ in pods()}
    assert sorted(labels) == ["ledger", "platform", "services"]
    for _, _, pod in pods():
        assert pod["serviceAccountName"] in kinds("ServiceAccount")
        assert pod["automountServiceAccountToken"] is False
        mounted = {each["name"] for one in pod["containers"] for each in one["volumeMounts"]}
        assert mounted == {each["name"] for each in pod["volumes"]}
        for volume in pod["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in kinds("PersistentVolumeClaim")
    for name, service in kinds("Service").items():
        (pod,) = [pod for _, label, pod in pods() if service["spec"]["selector"].items() <= label.items()]
        ports = {each["name"]: each["containerPort"] for each in pod["containers"][0]["ports"]}
        assert {each["targetPort"] for each in service["spec"]["ports"]} == set(ports), name


def test_the_ports_are_those_of_the_command() -> None:
    """Each service's port is the first one plus its place, as kluis serve counts."""
    for name, _, pod in pods():
        if name == "platform":
            continue
        container = pod["containers"][0]
        (command,) = container["args"]
        assert "--port 8443" in command
        for port in container["ports"]:
            assert port["containerPort"] == 8443 + ORDER.index(port["name"])


def test_capabilities_are_those_that_were_tried() -> None:
    """The platform has what its unit of systemd has; all drop every other one, and write no root."""
    for name, _, pod in pods():
        for one in (*pod["containers"], *pod.get("initContainers", ())):
            context = one["securityContext"]
            assert context["capabilities"]["drop"] == ["ALL"]
            assert context["readOnlyRootFilesystem"] is True
            assert context.get("privileged") is not True
            added = {f"CAP_{each}" for each in context["capabilities"]["add"]}
            assert added <= set(unit_files.PLATFORM_CAPABILITIES.split())
            if name == "platform" and one["name"] == "platform":
                assert added == set(unit_files.PLATFORM_CAPABILITIES.split())
                assert {f"CAP_{each}" for each in CAPABILITIES} <= added
            if name != "platform":
                assert added <= set(unit_files.SERVICES_CAPABILITIES.split())


def test_the_image_is_this_version() -> None:
    """It is the image that build.sh makes, and comes from no registry by default."""
    want = f"localhost/kluis:{kluis.__version__}"
    for _, _, pod in pods():
        assert {one["image"] for one in (*pod["containers"], *pod.get("initContainers", ()))} == {want}
    images = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["images"]
    assert images == [{"name": "localhost/kluis", "newTag": kluis.__version__}]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl: apt-get install kubernetes-client")
def test_kustomize_renders_the_folder() -> None:
    """``kubectl kustomize`` puts everything into one namespace, and the result is valid too."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, timeout=120, check=True
    )
    rendered = list(yaml.safe_load_all(done.stdout))
    assert len(rendered) == len(manifests())
    for one in rendered:
        kubernetes_validate.validate(one, VERSIONS[-1], strict=True)
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "kluis"
