"""The manifests in cluster/kuberay against Kubernetes' schemas and KubeRay's fields, as kustomize renders them."""

import copy
import json
import subprocess
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

KUBERAY = Path(__file__).resolve().parents[2] / "cluster" / "kuberay"
FIELDS = json.loads((Path(__file__).parent / "kuberay_fields.json").read_text())
VERSIONS = ("1.28", "1.37")
KUSTOMIZATIONS = ("platform", "search", "cluster")


def rendered(name: str) -> list[dict]:
    command = ["kubectl", "kustomize", str(KUBERAY / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def manifests() -> dict[str, list[dict]]:
    return {name: rendered(name) for name in KUSTOMIZATIONS}


@pytest.fixture(scope="module")
def job(manifests) -> dict:
    return manifests["search"][0]


@pytest.fixture(scope="module")
def cluster(manifests) -> dict:
    return manifests["cluster"][0]


def check_ray(manifest: dict) -> None:
    """Raises `jsonschema.ValidationError`: KubeRay has no such field, or not with such a value."""
    jsonschema.validate(manifest, {**FIELDS, "oneOf": [{"$ref": f"#/$defs/{manifest['kind']}"}]})


def pod_templates(manifest: dict) -> dict[str, dict]:
    spec = manifest["spec"].get("rayClusterSpec", manifest["spec"])
    templates = {"head": spec["headGroupSpec"]["template"], "worker": spec["workerGroupSpecs"][0]["template"]}
    if "submitterPodTemplate" in manifest["spec"]:
        templates["submitter"] = manifest["spec"]["submitterPodTemplate"]
    return templates


def all_pods(manifests: dict[str, list[dict]]) -> dict[str, dict]:
    pods = {"mlflow": next(m for m in manifests["platform"] if m["kind"] == "Deployment")["spec"]["template"]}
    for name in ("search", "cluster"):
        pods |= {f"{name}/{pod}": template for pod, template in pod_templates(manifests[name][0]).items()}
    return pods


def check_pod(template: dict, version: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x"} | template.get("metadata", {}),
        "spec": template["spec"],
    }
    kubernetes_validate.validate(pod, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_of_kubernetes_own_kinds_is_valid_strictly(manifests, version):
    kinds = []
    for manifest in manifests["platform"]:
        kubernetes_validate.validate(manifest, version, strict=True)
        kinds.append(manifest["kind"])
    assert sorted(set(kinds)) == ["Deployment", "Namespace", "NetworkPolicy", "PersistentVolumeClaim", "Service"]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_pod_template_is_a_valid_pod(manifests, version):
    pods = all_pods(manifests)
    assert len(pods) == 6
    for template in pods.values():
        check_pod(template, version)


@pytest.mark.parametrize("name", ["search", "cluster"])
def test_rays_kinds_have_only_fields_that_kuberay_has(manifests, name):
    (manifest,) = manifests[name]
    check_ray(manifest)


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (["shutdownAfterJobFinish"], True),
        (["submissionMode"], "k8sjobmode"),
        (["rayClusterSpec", "enableInTreeAutoscalling"], True),
        (["rayClusterSpec", "authOptions", "mode"], "tokens"),
        (["rayClusterSpec", "autoscalerOptions", "idleTimeoutSecond"], 60),
        (["rayClusterSpec", "workerGroupSpecs", 0, "minReplica"], 0),
        (["rayClusterSpec", "workerGroupSpecs", 0, "maxReplicas"], "4"),
        (["rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"], 0),
    ],
)
def test_a_misspelt_field_or_a_wrong_value_is_found(job, path, wrong):
    broken = copy.deepcopy(job)
    place = broken["spec"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = wrong
    with pytest.raises(jsonschema.ValidationError):
        check_ray(broken)


def test_a_misspelt_field_of_a_pod_is_found(job):
    broken = copy.deepcopy(pod_templates(job)["worker"])
    broken["spec"]["containers"][0]["resource"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        check_pod(broken, VERSIONS[-1])


def test_the_searchs_cluster_is_the_one_that_stays(job, cluster):
    assert job["spec"]["rayClusterSpec"] == cluster["spec"]


def test_gpus_start_at_none_are_limited_and_go_when_idle(cluster):
    spec = cluster["spec"]
    (group,) = spec["workerGroupSpecs"]
    assert spec["enableInTreeAutoscaling"] is True
    assert (group["replicas"], group["minReplicas"]) == (0, 0)
    assert 1 <= group["maxReplicas"] <= 8
    assert 0 < spec["autoscalerOptions"]["idleTimeoutSeconds"] <= 300
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in json.dumps(spec["headGroupSpec"])
    assert spec["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}


def test_a_search_takes_its_cluster_with_it_and_ends_in_any_case(job):
    spec = job["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] <= 600
    assert spec["backoffLimit"] == 0
    assert spec["activeDeadlineSeconds"]
    assert spec["preRunningDeadlineSeconds"]


def test_ray_asks_for_a_token_and_no_secret_is_in_a_manifest(manifests, cluster):
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    assert not [m for rows in manifests.values() for m in rows if m["kind"] == "Secret"]
    for template in all_pods(manifests).values():
        for container in template["spec"]["containers"]:
            for variable in container.get("env", []):
                if any(word in variable["name"] for word in ("PASSWORD", "TOKEN", "USERNAME", "KEY")):
                    assert "secretKeyRef" in variable["valueFrom"]


def test_no_pod_runs_as_root_or_gains_rights(manifests):
    for name, template in all_pods(manifests).items():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }, name


def test_every_container_states_what_it_needs_and_lasting_ones_are_probed(manifests):
    for name, template in all_pods(manifests).items():
        for container in template["spec"]["containers"]:
            assert (
                {"cpu", "memory"}
                <= set(container["resources"]["requests"])
                <= set(container["resources"]["limits"]) | {"cpu"}
            )
            if not name.endswith("submitter"):
                assert {"readinessProbe", "livenessProbe"} <= set(container), name


def test_services_stay_inside_and_only_the_namespace_and_the_operator_come_in(manifests, cluster):
    assert cluster["spec"]["headGroupSpec"]["serviceType"] == "ClusterIP"
    (service,) = [m for m in manifests["platform"] if m["kind"] == "Service"]
    assert service["spec"].get("type", "ClusterIP") == "ClusterIP"
    policies = {m["metadata"]["name"]: m["spec"] for m in manifests["platform"] if m["kind"] == "NetworkPolicy"}
    inside = policies["inside-only"]
    assert inside["podSelector"] == {}
    assert inside["ingress"] == [{"from": [{"podSelector": {}}]}]
    assert policies["operator-to-dashboard"]["ingress"][0]["ports"] == [{"port": 8265, "protocol": "TCP"}]


def test_claims_that_pods_mount_exist_and_runs_can_be_shared(manifests):
    claims = {
        m["metadata"]["name"]: m["spec"]["accessModes"]
        for m in manifests["platform"]
        if m["kind"] == "PersistentVolumeClaim"
    }
    mounted = {
        volume["persistentVolumeClaim"]["claimName"]
        for template in all_pods(manifests).values()
        for volume in template["spec"].get("volumes", [])
        if "persistentVolumeClaim" in volume
    }
    assert mounted == set(claims)
    assert claims["runs"] == ["ReadWriteMany"]


def test_recordings_are_mounted_where_the_driver_is_and_nowhere_else(cluster):
    claims = {name: json.dumps(template["spec"]["volumes"]) for name, template in pod_templates(cluster).items()}
    assert "recordings" in claims["head"]
    assert "recordings" not in claims["worker"]


def test_shared_memory_is_larger_than_the_64_mb_of_a_container(cluster):
    for template in pod_templates(cluster).values():
        memory = {volume["name"]: volume.get("emptyDir") for volume in template["spec"]["volumes"]}["shared-memory"]
        assert memory == {"medium": "Memory", "sizeLimit": "6Gi"}
        assert {"name": "shared-memory", "mountPath": "/dev/shm"} in template["spec"]["containers"][0]["volumeMounts"]


def test_one_line_each_names_the_image_of_all_pods(tmp_path):
    for name in KUSTOMIZATIONS:
        folder = tmp_path / name
        folder.mkdir()
        for file in (KUBERAY / name).iterdir():
            (folder / file.name).write_text(
                file.read_text().replace("newName: registry.example.com/sepsearch", "newName: ghcr.io/me/sepsearch")
            )
        text = subprocess.run(
            ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=True
        ).stdout
        images = [line.split("image:")[1].strip() for line in text.splitlines() if " image:" in line]
        assert images
        assert all(image.startswith("ghcr.io/me/sepsearch:0.1.0-") for image in images)
