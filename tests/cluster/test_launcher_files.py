"""cluster/local.yaml, aws.yaml and gcp.yaml: Ray's own checks, the clouds' own descriptions, and what the pages promise."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from iam import allowed
from private_hosts import ROOT, isolated, require

CLUSTER = ROOT / "cluster"
LAUNCHERS = ("local", "aws", "gcp")
CLOUDS = ("aws", "gcp")
INSTANCE = "arn:aws:ec2:us-east-1:123456789012:instance/{}"
SCRIPTS = sorted([*CLUSTER.rglob("*.sh"), *CLUSTER.rglob("*.sbatch")])
PAGES = [CLUSTER / name for name in ("README.md", "local.md", "aws.md", "gcp.md", "slurm.md", "kuberay/README.md")]


def launcher(name: str) -> dict:
    return yaml.safe_load((CLUSTER / f"{name}.yaml").read_text())


def prepared(name: str) -> dict:
    """A launcher file as `ray up` sees it: with Ray's defaults; Google's resources are in the file."""
    from sepsearch.distributed.session import ENVIRONMENT

    os.environ.update(ENVIRONMENT)
    from ray.autoscaler._private.util import prepare_config

    return prepare_config(launcher(name))


def nodes(name: str) -> tuple[dict, dict]:
    """The head's node type, and the only other one."""
    config = launcher(name)
    types = config["available_node_types"]
    (worker,) = (types[kind] for kind in types if kind != config["head_node_type"])
    return types[config["head_node_type"]], worker


@pytest.mark.parametrize("name", LAUNCHERS)
def test_rays_validator_takes_every_launcher_file(name):
    from ray.autoscaler._private.util import validate_config

    assert validate_config(prepared(name)) is None  # it raises an exception otherwise


@pytest.mark.parametrize("name", LAUNCHERS)
@pytest.mark.parametrize(
    ("key", "value"), [("idle_timeout_minute", 5), ("max_workers", "4"), ("setup_commands", "pip install .")]
)
def test_rays_validator_finds_a_misspelt_key_and_a_wrong_value(name, key, value):
    import jsonschema
    from ray.autoscaler._private.util import validate_config

    broken = prepared(name)
    broken[key] = value
    with pytest.raises(jsonschema.ValidationError):
        validate_config(broken)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_what_is_copied_exists_and_the_token_is_copied_from_the_users_own_file(name):
    mounts = launcher(name)["file_mounts"]
    assert mounts.pop("~/.ray/auth_token") == "~/.ray/auth_token"
    for there, here in mounts.items():
        assert (ROOT / here).exists(), here
        assert there == f"~/sepsearch/{here}"


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ray_is_started_with_the_token_and_its_dashboard_on_loopback(name):
    config = launcher(name)
    (head,) = [line for line in config["head_start_ray_commands"] if "ray start" in line]
    (worker,) = [line for line in config["worker_start_ray_commands"] if "ray start" in line]
    assert "cluster/on-node.sh ray start --head" in head
    assert "--dashboard-host=127.0.0.1" in head
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head
    assert "cluster/on-node.sh ray start --address=$RAY_HEAD_IP:6379" in worker


@pytest.mark.parametrize("name", CLOUDS)
def test_gpus_start_at_none_are_limited_and_go_when_idle(name):
    config = launcher(name)
    head, worker = nodes(name)
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert worker["min_workers"] == 0
    assert 1 <= worker["max_workers"] <= config["max_workers"] <= 8
    assert 0 < config["idle_timeout_minutes"] <= 10
    assert config["provider"]["cache_stopped_nodes"] is False


def test_an_autoscaler_with_these_settings_goes_from_none_to_two_workers_and_back(tmp_path):
    require("unshare", "ip")
    done = isolated(Path(__file__).parent / "autoscaling.py", tmp_path, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["counts"][0] == 0
    assert max(seen["counts"]) == 2  # three placements were asked for: the limit holds
    assert seen["counts"][-1] == 0
    assert seen["nodes"] == 2


@pytest.fixture
def aws(monkeypatch, tmp_path):
    """An emulated AWS without anything in it but a bucket, the roles of aws-roles.yaml and a default network."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", launcher("aws")["provider"]["region"])
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    import boto3
    from moto import mock_aws

    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="my-runs")
        boto3.client("cloudformation").create_stack(
            StackName="sepsearch-roles",
            TemplateBody=(CLUSTER / "aws-roles.yaml").read_text(),
            Parameters=[{"ParameterKey": "Bucket", "ParameterValue": "my-runs"}],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        yield boto3


def bootstrapped() -> dict:
    from ray.autoscaler._private.aws.config import _get_subnets_or_die
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.aws.utils import resource_cache
    from ray.autoscaler._private.util import validate_config

    _get_subnets_or_die.cache_clear()
    resource_cache.cache_clear()
    config = AWSNodeProvider.fillout_available_node_types_resources(prepared("aws"))
    validate_config(config)
    return AWSNodeProvider.bootstrap_config(config)


def started(boto3, config: dict) -> dict[str, dict]:
    """Both kinds of node, started by Ray as `ray up` and the autoscaler do."""
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for kind, node in config["available_node_types"].items():
        provider.create_node(dict(node["node_config"]), {"ray-user-node-type": kind}, 1)
    instances = [i for r in boto3.client("ec2").describe_instances()["Reservations"] for i in r["Instances"]]
    return {{tag["Key"]: tag["Value"] for tag in i["Tags"]}["ray-user-node-type"]: i for i in instances}


def test_ray_sets_aws_up_and_starts_an_on_demand_head_and_spot_gpus_with_a_role_each(aws):
    config = bootstrapped()
    assert config["available_node_types"]["gpu"]["resources"] | {"memory": 0} == {
        "CPU": 8,
        "GPU": 1,
        "accelerator_type:L4": 1,
        "memory": 0,
    }
    machines = started(aws, config)
    assert "InstanceLifecycle" not in machines["head"]
    assert machines["gpu"]["InstanceLifecycle"] == "spot"
    assert machines["head"]["IamInstanceProfile"]["Arn"].endswith("/sepsearch-head")
    assert machines["gpu"]["IamInstanceProfile"]["Arn"].endswith("/sepsearch-storage")
    assert {m["MetadataOptions"]["HttpTokens"] for m in machines.values()} == {"required"}
    assert {group["GroupName"] for m in machines.values() for group in m["SecurityGroups"]} == {"sepsearch"}


def test_only_ssh_is_open_from_outside_and_everything_within_the_group(aws):
    bootstrapped()
    (group,) = aws.client("ec2").describe_security_groups(GroupNames=["sepsearch"])["SecurityGroups"]
    outside = [(rule.get("FromPort"), rule.get("ToPort")) for rule in group["IpPermissions"] if rule["IpRanges"]]
    assert outside == [(22, 22)]
    inside = [pair["GroupId"] for rule in group["IpPermissions"] for pair in rule["UserIdGroupPairs"]]
    assert inside == [group["GroupId"]]


def test_a_narrower_group_that_is_there_already_is_left_as_it_is(aws):
    ec2 = aws.client("ec2")
    network = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    mine = ec2.create_security_group(GroupName="sepsearch", Description="mine", VpcId=network)["GroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "198.51.100.7/32"}]}
    ec2.authorize_security_group_ingress(GroupId=mine, IpPermissions=[rule])
    bootstrapped()
    (group,) = ec2.describe_security_groups(GroupIds=[mine])["SecurityGroups"]
    assert [r["CidrIp"] for p in group["IpPermissions"] for r in p["IpRanges"]] == ["198.51.100.7/32"]


def asked_of_ec2(boto3, monkeypatch) -> list[tuple[str, str, dict[str, str]]]:
    """What Ray's provider asks of EC2 over the life of a worker: (action, resource, context), as IAM sees each."""
    from botocore.client import BaseClient
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    seen, real = [], BaseClient._make_api_call

    def call(client, operation, parameters):
        if client.meta.service_model.service_name == "ec2":
            seen.extend(requests(operation, parameters))
        return real(client, operation, parameters)

    def tags(of: list[dict[str, str]], kind: str) -> dict[str, str]:
        return {f"aws:{kind}Tag/{tag['Key']}": tag["Value"] for tag in of}

    def requests(operation, parameters):
        if operation == "RunInstances":
            (of,) = [one["Tags"] for one in parameters["TagSpecifications"] if one["ResourceType"] == "instance"]
            assert len(parameters["TagSpecifications"]) == 1
            yield "ec2:RunInstances", INSTANCE.format("new"), tags(of, "Request")
            yield "ec2:CreateTags", INSTANCE.format("new"), {**tags(of, "Request"), "ec2:CreateAction": "RunInstances"}
        elif operation in ("CreateTags", "TerminateInstances"):
            for name in parameters.get("Resources") or parameters["InstanceIds"]:
                (there,) = real(boto3.client("ec2"), "DescribeInstances", {"InstanceIds": [name]})["Reservations"]
                has = tags(there["Instances"][0]["Tags"], "Resource")
                yield f"ec2:{operation}", INSTANCE.format(name), {**has, **tags(parameters.get("Tags", []), "Request")}
        else:
            yield f"ec2:{operation}", "*", {}

    config = bootstrapped()
    monkeypatch.setattr(BaseClient, "_make_api_call", call)
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    worker = dict(config["available_node_types"]["gpu"]["node_config"])
    provider.create_node(worker, {"ray-node-type": "worker", "ray-node-status": "uninitialized"}, 1)
    (node,) = provider.non_terminated_nodes({})
    provider.set_node_tags(node, {"ray-node-status": "up-to-date"})
    provider.terminate_node(node)
    return seen


def test_the_heads_role_allows_all_that_rays_provider_asks_of_ec2(aws, monkeypatch):
    asked = asked_of_ec2(aws, monkeypatch)
    assert {action for action, _, _ in asked} >= {"ec2:RunInstances", "ec2:CreateTags", "ec2:TerminateInstances"}
    assert [request for request in asked if not allowed("HeadRole", *request)] == []


def test_the_template_makes_both_roles_with_the_storages_rights(aws):
    iam = aws.client("iam")
    names = {role["RoleName"] for role in iam.list_roles()["Roles"]}
    assert names >= {"sepsearch-head", "sepsearch-storage"}
    assert iam.list_role_policies(RoleName="sepsearch-storage")["PolicyNames"] == []
    assert iam.list_role_policies(RoleName="sepsearch-head")["PolicyNames"] == ["workers"]
    for name in ("sepsearch-head", "sepsearch-storage"):
        assert len(iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]) == 1


@pytest.mark.parametrize("bucket", ["s3://my-runs", "My_Runs"])
def test_a_name_that_no_bucket_has_does_not_fit_the_template(bucket):
    parameter = yaml.safe_load((CLUSTER / "aws-roles.yaml").read_text())["Parameters"]["Bucket"]
    assert not re.fullmatch(parameter["AllowedPattern"], bucket)
    assert re.fullmatch(parameter["AllowedPattern"], "my-runs")


def google_errors(value, schema: dict, schemas: dict, where: str) -> list[str]:
    """What Google's published description of the Compute API has against a value."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"]]
    if schema.get("type") == "object" and "properties" in schema:
        if not isinstance(value, dict):
            return [f"{where}: expected an object"]
        unknown = [f"{where}: no field {key}" for key in value if key not in schema["properties"]]
        known = {key: part for key, part in value.items() if key in schema["properties"]}
        return unknown + [
            e
            for k, part in known.items()
            for e in google_errors(part, schema["properties"][k], schemas, f"{where}.{k}")
        ]
    if schema.get("type") == "array":
        if not isinstance(value, list):
            return [f"{where}: expected a list"]
        return [
            e for n, part in enumerate(value) for e in google_errors(part, schema["items"], schemas, f"{where}[{n}]")
        ]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: {value!r} is none of {', '.join(schema['enum'])}"]
    kind = {"boolean": bool, "integer": int}.get(schema.get("type", ""))
    number = schema.get("format") == "int64" and isinstance(
        value, int
    )  # JSON has them as strings, and numbers are taken
    right = number or (isinstance(value, kind) if kind else isinstance(value, str))
    return [] if right else [f"{where}: {value!r} is no {schema.get('type')}"]


@pytest.fixture(scope="module")
def compute() -> dict:
    """Types of Google's Compute API, from its discovery document."""
    document = files("googleapiclient") / "discovery_cache" / "documents" / "compute.v1.json"
    return json.loads(document.read_text())["schemas"]


def test_googles_description_of_a_machine_has_every_field_of_both_node_types(compute):
    for node in nodes("gcp"):
        assert google_errors(node["node_config"], {"$ref": "Instance"}, compute, "node") == []


def test_googles_description_finds_a_misspelt_field_and_a_wrong_value(compute):
    _, worker = nodes("gcp")
    broken = json.loads(json.dumps(worker["node_config"]))
    broken["scheduling"]["provisioningModel"] = "CHEAP"
    broken["disks"][0]["autoDeleted"] = True
    broken["serviceAccounts"][0]["scopes"] = "all"
    assert google_errors(broken, {"$ref": "Instance"}, compute, "node") == [
        "node.disks[0]: no field autoDeleted",
        "node.scheduling.provisioningModel: 'CHEAP' is none of FLEX_START, RESERVATION_BOUND, SPOT, STANDARD",
        "node.serviceAccounts[0].scopes: expected a list",
    ]


def test_googles_head_is_on_demand_and_workers_are_spot_and_leave_no_disk():
    head, worker = nodes("gcp")
    assert "scheduling" not in head["node_config"]
    assert worker["node_config"]["scheduling"]["provisioningModel"] == "SPOT"
    assert worker["node_config"]["scheduling"]["instanceTerminationAction"] == "DELETE"
    assert all(disk["autoDelete"] for node in (head, worker) for disk in node["node_config"]["disks"])


def test_shellcheck_has_nothing_against_scripts_and_commands_in_launcher_files(tmp_path):
    require("shellcheck")
    scripts = list(SCRIPTS)
    for name in LAUNCHERS:
        config = launcher(name)
        lines = [line for key, commands in config.items() if key.endswith("_commands") for line in commands]
        assert len(lines) >= 5
        script = tmp_path / f"{name}.sh"
        # `~` in an option is opened by Ray itself; $RAY_HEAD_IP is an address; Ray reads the line for ~/.bashrc as it is.
        script.write_text(
            "#!/usr/bin/env bash\n# shellcheck disable=SC2016,SC2086\nRAY_HEAD_IP=$1\n" + "\n".join(lines) + "\n"
        )
        scripts.append(script)
    assert len(scripts) >= 6
    for script in scripts:
        for command in (["shellcheck", "--severity=style", "--shell=bash", str(script)], ["bash", "-n", str(script)]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stdout + done.stderr


def node_folder(folder: Path) -> Path:
    (folder / "cluster").mkdir()
    for name in ("on-node.sh", "setup-node.sh"):
        shutil.copy(CLUSTER / name, folder / "cluster")
    for name in ("constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def on_node(folder: Path, *command: str, **more: str) -> subprocess.CompletedProcess:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **more}
    return subprocess.run(
        ["bash", *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_node_without_environment_or_token_says_so_in_one_line(tmp_path):
    folder = node_folder(tmp_path)
    done = on_node(folder, "cluster/on-node.sh", "true")
    assert done.returncode == 2
    assert re.fullmatch(r"on-node.sh: \S+: no \S+/.venv: run cluster/setup-node.sh, or ray up again\n", done.stderr)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    done = on_node(folder, "cluster/on-node.sh", "true")
    assert done.returncode == 2
    assert re.fullmatch(
        r"on-node.sh: \S+: no token in \S+/.ray/auth_token: see the first step in cluster/README.md\n", done.stderr
    )


def test_a_token_that_others_can_read_is_closed_before_ray_sees_it(tmp_path):
    folder = node_folder(tmp_path)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    (folder / ".ray").mkdir()
    token = folder / ".ray" / "auth_token"
    token.write_text("x" * 64)
    token.chmod(0o644)
    done = on_node(
        folder, "cluster/on-node.sh", "bash", "-c", "echo $RAY_AUTH_MODE $MALLOC_TRIM_THRESHOLD_; command -v ray"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"token {2**30}\n{folder.resolve()}/.venv/bin/ray\n"
    assert token.stat().st_mode & 0o777 == 0o600


def test_a_command_gets_mlflows_password_from_a_file_that_only_its_user_can_read(tmp_path):
    folder = node_folder(tmp_path)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    (folder / ".sepsearch.env").write_text("MLFLOW_TRACKING_USERNAME=search\nMLFLOW_TRACKING_PASSWORD='a b$c'\n")
    (folder / ".sepsearch.env").chmod(0o644)
    show = 'printf \'%s\n\' "$MLFLOW_TRACKING_USERNAME" "$MLFLOW_TRACKING_PASSWORD"'
    done = on_node(folder, "cluster/on-node.sh", "bash", "-c", show, RAY_AUTH_TOKEN="x")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "search\na b$c\n"
    assert (folder / ".sepsearch.env").stat().st_mode & 0o777 == 0o600


def test_a_node_that_is_set_up_is_left_alone_until_versions_change(tmp_path):
    import hashlib

    folder = node_folder(tmp_path)
    (folder / ".venv").mkdir()
    names = ("constraints.txt", "pyproject.toml", "cluster/setup-node.sh")
    content = b"".join((folder / name).read_bytes() for name in names) + b"boto3==1\n"
    (folder / ".venv" / ".node").write_text(hashlib.sha256(content).hexdigest() + "\n")
    assert on_node(folder, "cluster/setup-node.sh", "boto3==1").returncode == 0
    (folder / "constraints.txt").write_text("ray==0\n")
    # A Python that cannot install anything: it is asked only now.
    (folder / "bin").mkdir()
    (folder / "bin" / "python3").write_text("#!/bin/sh\nexit 1\n")
    (folder / "bin" / "python3").chmod(0o755)
    done = on_node(folder, "cluster/setup-node.sh", "boto3==1", PATH=f"{folder}/bin:{os.environ['PATH']}")
    assert done.returncode == 2
    assert "pip could not install uv" in done.stderr
    assert not (folder / ".venv" / ".node").exists()


def texts() -> list[tuple[Path, str]]:
    kept = [path for path in sorted(CLUSTER.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    return [(path.relative_to(CLUSTER), path.read_text()) for path in kept]


SECRETS = r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|\b[0-9a-f]{64}\b|ghp_[0-9A-Za-z]{36}|\bglpat-|postgres(?:ql)?://[^@\s/:]+:(?!PASSWORD@)[^@\s]+@"


def test_no_file_holds_a_secret_or_an_image_without_a_version():
    assert len(texts()) > 15
    for path, text in texts():
        assert not re.search(SECRETS, text), path
        assert not re.search(r":latest\b", text), path
        for image in re.findall(r"^\s*(?:FROM|- ?image:|image:)\s+(\S+)", text, re.M):
            tagged = (
                ":" in image or image == "${BASE}" or image == "registry.example.com/sepsearch"
            )  # kustomize adds its tag
            assert tagged, f"{path}: {image}"


def test_nothing_is_told_to_listen_on_every_address():
    for path, text in texts():
        if path.suffix in (".yaml", ".yml", ".sh", ".sbatch", "") and "grafana" not in path.parts:
            assert "0.0.0.0" not in text, path
            assert "--dashboard-host=127.0.0.1" in text or "--dashboard-host" not in text, path


def commands(page: Path) -> list[list[str]]:
    """Words of every command in a page's indented blocks, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", page.read_text())
    return [line.split() for line in joined.splitlines() if line.startswith("    ")] + [
        words.split() for words in re.findall(r"`((?:python|ray|sbatch|kubectl) [^`]*)`", joined)
    ]


PROGRAMS = {
    "sepsearch.run": [sys.executable, "-m", "sepsearch.run", "--help"],
    "sepsearch.watch": [sys.executable, "-m", "sepsearch.watch", "--help"],
    **{
        f"ray {word}": [str(ROOT / ".venv/bin/ray"), word, "--help"]
        for word in ("up", "down", "exec", "attach", "monitor", "dashboard", "rsync-up", "get-auth-token")
    },
}


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    helps = {}
    for name, command in PROGRAMS.items():
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
        helps[name] = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", done.stdout))
    return helps


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CLUSTER)))
def test_every_option_in_a_page_is_one_of_its_program(page, options):
    checked = 0
    for words in commands(page):
        text = " ".join(words)
        # A command that is handed to another one has options of its own.
        outer = re.sub(r"'[^']*'", "", text)
        for name, known in options.items():
            for part in re.findall(
                rf"(?:^|[ '(]){re.escape(name)}( [^'|;&#)]*)", text if name.startswith("sepsearch") else outer
            ):
                given = set(re.findall(r"(?<= )--?[a-z][a-z-]*", part))
                assert given <= known, f"{text}: {name} has no {', '.join(sorted(given - known))}"
                checked += 1
    assert checked or page.parent.name == "kuberay"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CLUSTER)))
def test_a_page_fits_two_screens_and_its_links_lead_somewhere(page):
    text = page.read_text()
    assert len(text.splitlines()) <= 90
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target


def test_the_first_page_names_every_way_with_its_page_and_commands():
    rows = [line for line in (CLUSTER / "README.md").read_text().splitlines() if line.startswith("|")]
    for word in ("local.md", "aws.md", "gcp.md", "kuberay/README.md", "slurm.md"):
        assert len([row for row in rows if word in row]) == 1, word
