"""cluster/aws-roles.yaml: what a machine of the cluster may do in an account, and above all what it may not."""

import pytest
import yaml
from iam import FILE, STORAGE, TEMPLATE, allowed, listed, statements

INSTANCE, VOLUME = "arn:aws:ec2:us-east-1:123456789012:instance/i-1", "arn:aws:ec2:us-east-1:123456789012:volume/vol-1"
ASKED, HAS = "aws:RequestTag/ray-cluster-name", "aws:ResourceTag/ray-cluster-name"
AT_START = {"ec2:CreateAction": "RunInstances"}
TO_MACHINES, TO_OTHERS = ({"iam:PassedToService": f"{service}.amazonaws.com"} for service in ("ec2", "lambda"))


@pytest.mark.parametrize("context", [{}, {ASKED: "sepsearch"}, {HAS: "other"}, {HAS: "other", ASKED: "sepsearch"}])
@pytest.mark.parametrize("resource", [INSTANCE, VOLUME])
def test_the_head_may_not_tag_what_is_not_its_own(context, resource):
    assert not allowed("HeadRole", "ec2:CreateTags", resource, context)


@pytest.mark.parametrize("context", [{}, {HAS: "other"}, {ASKED: "sepsearch"}])
def test_the_head_may_not_end_machines_that_are_not_its_own(context):
    assert not allowed("HeadRole", "ec2:TerminateInstances", INSTANCE, context)


def test_the_head_may_do_what_rays_autoscaler_does():
    assert allowed("HeadRole", "ec2:DescribeInstances", "*")
    assert allowed("HeadRole", "ec2:RunInstances", INSTANCE, {ASKED: "sepsearch"})
    assert allowed("HeadRole", "ec2:RunInstances", VOLUME)
    assert allowed("HeadRole", "ec2:RunInstances", "arn:aws:ec2:us-east-1::image/ami-1")
    assert allowed("HeadRole", "ec2:CreateTags", INSTANCE, {**AT_START, ASKED: "sepsearch"})
    assert allowed("HeadRole", "ec2:CreateTags", INSTANCE, {HAS: "sepsearch"})
    assert allowed("HeadRole", "ec2:TerminateInstances", INSTANCE, {HAS: "sepsearch"})
    assert allowed("HeadRole", "iam:PassRole", STORAGE, TO_MACHINES)


def test_machines_cannot_be_started_in_another_clusters_name_or_given_to_it_later():
    assert not allowed("HeadRole", "ec2:RunInstances", INSTANCE)
    assert not allowed("HeadRole", "ec2:RunInstances", INSTANCE, {ASKED: "other"})
    assert not allowed("HeadRole", "ec2:CreateTags", INSTANCE, {**AT_START, ASKED: "other"})
    assert not allowed("HeadRole", "ec2:CreateTags", INSTANCE, {HAS: "sepsearch", ASKED: "other"})


def test_the_head_hands_on_no_role_but_that_of_the_storage():
    assert not allowed("HeadRole", "iam:PassRole", STORAGE.replace("sepsearch-storage", "admin"), TO_MACHINES)
    assert not allowed("HeadRole", "iam:PassRole", STORAGE, TO_OTHERS)


@pytest.mark.parametrize("role", ["HeadRole", "StorageRole"])
def test_both_roles_read_and_write_one_bucket_and_no_other(role):
    for action, what in (("s3:ListBucket", ""), ("s3:GetObject", "/runs/x"), ("s3:PutObject", "/runs/x")):
        assert allowed(role, action, f"arn:aws:s3:::my-runs{what}")
        assert not allowed(role, action, f"arn:aws:s3:::my-runs-too{what}")
    assert not allowed(role, "s3:PutBucketPolicy", "arn:aws:s3:::my-runs")


def test_workers_may_do_nothing_but_use_the_bucket():
    actions = {action for statement in statements("StorageRole") for action in listed(statement["Action"])}
    assert {action.partition(":")[0] for action in actions} == {"s3"}


def test_only_machines_take_the_roles_on():
    for role in ("HeadRole", "StorageRole"):
        (trust,) = TEMPLATE["Resources"][role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        assert trust == {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}


def test_the_template_means_the_cluster_and_the_roles_of_aws_yaml():
    launcher = yaml.safe_load((FILE.parent / "aws.yaml").read_text())
    assert TEMPLATE["Parameters"]["Cluster"]["Default"] == launcher["cluster_name"]
    profiles = {
        part["Properties"]["InstanceProfileName"]
        for part in TEMPLATE["Resources"].values()
        if part["Type"] == "AWS::IAM::InstanceProfile"
    }
    kinds = launcher["available_node_types"].values()
    assert {kind["node_config"]["IamInstanceProfile"]["Name"] for kind in kinds} == profiles
