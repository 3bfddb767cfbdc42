"""The CloudFormation templates as plain values, and an account of moto's in which they are executed."""

import json
from pathlib import Path
from typing import Any

import boto3
from cfnlint.decode import cfn_yaml

from tests.tools import ROOT

FOLDER = ROOT / "infrastructure"
REGION = "eu-central-1"
IMAGE = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/radiology-portal@sha256:"
# What boto3 wants to see before it asks anybody; set these inside ``mock_aws`` only.
CREDENTIALS = {"AWS_DEFAULT_REGION": REGION, "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nobody"}
OLD, NEW = IMAGE + "a" * 64, IMAGE + "b" * 64
# moto makes none of these; where one is referred to, its ARN is given instead.
UNKNOWN_TO_MOTO = {
    "AWS::SecretsManager::Secret": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:{name}",
    "AWS::IAM::OIDCProvider": "",
    "AWS::S3::BucketPolicy": "",
    "AWS::AutoScaling::ScalingPolicy": "",
    "AWS::CloudWatch::Alarm": "",
}


def template(name: str) -> dict[str, Any]:
    """Return a template with its short tags written out."""
    return json.loads(json.dumps(cfn_yaml.load(str(FOLDER / f"{name}.yaml")), default=str))  # type: ignore[no-any-return]


def resources(*names: str, kind: str = "") -> dict[str, dict[str, Any]]:
    """Return the properties of all resources of these templates, or of those of one kind."""
    return {
        key: one.get("Properties", {})
        for name in names
        for key, one in template(name)["Resources"].items()
        if not kind or one["Type"] == kind
    }


def executable(name: str) -> str:
    """Return a template as far as moto executes it."""
    body = template(name)
    for key, one in list(body["Resources"].items()):
        if one["Type"] in UNKNOWN_TO_MOTO:
            del body["Resources"][key]
            if arn := UNKNOWN_TO_MOTO[one["Type"]]:
                body["Parameters"][key] = {"Type": "String", "Default": arn.format(name=key)}
    if "Database" in body["Resources"]:
        # moto stumbles over a reference to a parameter group.
        del body["Resources"]["Database"]["Properties"]["DBParameterGroupName"]
    return json.dumps(body)


def make_stacks() -> None:
    """Make the three stacks, in their order, with the old image on blue."""
    certificate = boto3.client("acm").request_certificate(DomainName="portal.example.org")["CertificateArn"]
    make("radiology-foundation", "foundation", GitHubRepository="hospital/portal")
    (repository,) = boto3.client("ecr").describe_repositories()["repositories"]
    mail = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:mail"
    make("radiology-base", "base", MailSecretArn=mail, RepositoryArn=repository["repositoryArn"])
    make(
        "radiology-portal",
        "portal",
        HostName="portal.example.org",
        CertificateArn=certificate,
        MailSecretArn=mail,
        SenderAddress="portal@example.org",
        AlarmAddress="it@example.org",
        BlueImage=OLD,
        WorkerImage=OLD,
    )


def make(stack: str, name: str, **parameters: str) -> None:
    """Make one stack; every default is named, because moto forgets those when a stack is updated."""
    client = boto3.client("cloudformation")
    defaults = {key: one["Default"] for key, one in template(name)["Parameters"].items() if "Default" in one}
    given = {key: str(value) for key, value in (defaults | parameters).items()}
    client.create_stack(
        StackName=stack,
        TemplateBody=executable(name),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    (made,) = client.describe_stacks(StackName=stack)["Stacks"]
    assert made["StackStatus"] == "CREATE_COMPLETE", made


def all_templates() -> list[Path]:
    """Return the files."""
    return sorted(FOLDER.glob("*.yaml"))
