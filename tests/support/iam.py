"""What the roles of cluster/aws-roles.yaml may do, by IAM's rules as far as the template uses them."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parents[2] / "cluster" / "aws-roles.yaml"
TEMPLATE = yaml.safe_load(FILE.read_text())
STORAGE = "arn:aws:iam::123456789012:role/sepsearch-storage"
REFERENCES = {"Bucket": "my-runs", "Cluster": "sepsearch", "StorageRole.Arn": STORAGE}


def resolved(part: Any) -> Any:
    """A part of the template with its references replaced."""
    if isinstance(part, list):
        return [resolved(one) for one in part]
    if not isinstance(part, dict):
        return part
    if "Fn::Sub" in part:
        return part["Fn::Sub"].replace("${Bucket}", REFERENCES["Bucket"])
    if "Ref" in part:
        return REFERENCES.get(part["Ref"], part["Ref"])
    if "Fn::GetAtt" in part:
        return REFERENCES[".".join(part["Fn::GetAtt"])]
    return {key: resolved(value) for key, value in part.items()}


def statements(role: str) -> list[dict[str, Any]]:
    """All statements of a role: its own policies', and those of the managed policies that it has."""
    documents = [policy["PolicyDocument"] for policy in TEMPLATE["Resources"][role]["Properties"].get("Policies", [])]
    for part in TEMPLATE["Resources"].values():
        if part["Type"] == "AWS::IAM::ManagedPolicy" and {"Ref": role} in part["Properties"]["Roles"]:
            documents.append(part["Properties"]["PolicyDocument"])
    return [statement for document in documents for statement in resolved(document)["Statement"]]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def holds(condition: Mapping[str, Mapping[str, str]], context: Mapping[str, str]) -> bool:
    """Whether all of a statement's conditions hold; a key that is not there equals nothing."""
    for operator, pairs in condition.items():
        assert operator in ("StringEquals", "Null")
        for key, wanted in pairs.items():
            if operator == "StringEquals" and context.get(key) not in listed(wanted):
                return False
            if operator == "Null" and (key not in context) != (wanted == "true"):
                return False
    return True


def allowed(role: str, action: str, resource: str, context: Mapping[str, str] | None = None) -> bool:
    """Whether a role ("HeadRole") may do something; the template has no Deny."""
    for statement in statements(role):
        assert statement["Effect"] == "Allow"
        named = listed(statement.get("Resource", statement.get("NotResource")))
        matches = any(fnmatchcase(resource, pattern) for pattern in named) == ("Resource" in statement)
        known = any(fnmatchcase(action, pattern) for pattern in listed(statement["Action"]))
        if known and matches and holds(statement.get("Condition", {}), context or {}):
            return True
    return False
