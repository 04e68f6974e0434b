"""Once per account: what machines of cluster/aws.yaml may do. `aws_roles.py BUCKET`; `--delete` takes it back.

`sepsearch-storage` (workers): read and write the bucket. `sepsearch-head`: that, and start and end workers. Ray's own
default would give the head all of EC2 and all of S3, and could still not hand the workers a role.
"""

import argparse
import json
import re
import sys
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

STORAGE, HEAD = "sepsearch-storage", "sepsearch-head"
CLUSTER = "sepsearch"  # cluster_name in aws.yaml
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


def storage_policy(bucket: str) -> dict[str, Any]:
    """Read and write `bucket`, nothing else."""
    return _policy(
        {"Action": ["s3:ListBucket", "s3:GetBucketLocation"], "Resource": f"arn:aws:s3:::{bucket}"},
        {
            "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
            "Resource": f"arn:aws:s3:::{bucket}/*",
        },
    )


def head_policy(storage_role_arn: str) -> dict[str, Any]:
    """Start workers with the storage role, end machines of this cluster."""
    return _policy(
        {"Action": ["ec2:Describe*", "ec2:RunInstances", "ssm:GetParameters"], "Resource": "*"},
        {"Action": ["ec2:CreateTags"], "Resource": "arn:aws:ec2:*:*:*/*"},
        {
            "Action": ["ec2:TerminateInstances"],
            "Resource": "arn:aws:ec2:*:*:instance/*",
            "Condition": {"StringEquals": {"ec2:ResourceTag/ray-cluster-name": CLUSTER}},
        },
        {"Action": ["iam:PassRole"], "Resource": storage_role_arn},
    )


def create(bucket: str) -> None:
    """Both roles with their instance profiles; what is there already gets the present rights."""
    iam = boto3.client("iam")
    storage = _role(iam, STORAGE, {"storage": storage_policy(bucket)})
    _role(iam, HEAD, {"storage": storage_policy(bucket), "workers": head_policy(storage)})
    _unless("InvalidInput EntityAlreadyExists", iam.create_service_linked_role, AWSServiceName="spot.amazonaws.com")
    print(f"{STORAGE} and {HEAD} are ready for s3://{bucket}")


def delete() -> None:
    """Remove both roles and their instance profiles."""
    iam = boto3.client("iam")
    for name in (HEAD, STORAGE):
        gone = "NoSuchEntity"
        _unless(gone, iam.remove_role_from_instance_profile, InstanceProfileName=name, RoleName=name)
        _unless(gone, iam.delete_instance_profile, InstanceProfileName=name)
        for policy in ("storage", "workers"):
            _unless(gone, iam.delete_role_policy, RoleName=name, PolicyName=policy)
        _unless(gone, iam.delete_role, RoleName=name)
    print(f"{STORAGE} and {HEAD} are gone")


def _policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement} for statement in statements]}


def _role(iam: Any, name: str, policies: dict[str, Any]) -> str:
    exists = "EntityAlreadyExists"
    _unless(exists, iam.create_role, RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
    for policy, document in policies.items():
        iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(document))
    _unless(exists, iam.create_instance_profile, InstanceProfileName=name)
    _unless("LimitExceeded", iam.add_role_to_instance_profile, InstanceProfileName=name, RoleName=name)
    return str(iam.get_role(RoleName=name)["Role"]["Arn"])


def _unless(codes: str, call: Any, **arguments: str) -> None:
    try:
        call(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] not in codes.split():
            raise


def main(argv: list[str] | None = None) -> None:
    """Parse the command line; exits with 2 and one line where AWS refuses."""
    parser = argparse.ArgumentParser(prog="python cluster/aws_roles.py", description=__doc__.splitlines()[0])
    parser.add_argument("bucket", nargs="?", help="the bucket of --storage s3://BUCKET/…")
    parser.add_argument("--delete", action="store_true", help="remove both roles")
    arguments = parser.parse_args(argv)
    if not arguments.delete and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", arguments.bucket or ""):
        parser.error(f"expected a bucket's name, such as my-runs, found {arguments.bucket!r}")
    try:
        delete() if arguments.delete else create(arguments.bucket)
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"AWS: {error}: see that `aws sts get-caller-identity` works and that you may change IAM roles")


if __name__ == "__main__":
    main()
