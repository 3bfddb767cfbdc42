"""What the templates make: nothing open, nothing unencrypted, no right too many. moto executes what it can."""

import base64
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.infrastructure import templates
from tests.infrastructure.templates import OLD, resources
from tests.tools import ROOT

ALL = ("foundation", "base", "portal")
# What knows no narrower resource than all (Service Authorization Reference).
WITHOUT_RESOURCE = {
    "ecr:GetAuthorizationToken",
    "autoscaling:Describe*",
    "ec2:Describe*",
    "elasticloadbalancing:Describe*",
}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement that gives a role something."""
    for name, role in resources(*ALL, kind="AWS::IAM::Role").items():
        for policy in role["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                yield name, statement


def test_every_template_is_looked_at() -> None:
    assert {path.stem for path in templates.all_templates()} == set(ALL)
    assert "cfn-lint infrastructure/*.yaml" in (ROOT / "Makefile").read_text()


class TestRights:
    def test_no_role_may_do_everything_with_anything(self) -> None:
        found = list(statements())
        assert len(found) > 15
        for role, statement in found:
            actions = listed(statement["Action"])
            assert not any(re.fullmatch(r"\*|\w+:\*", action) for action in actions), (role, actions)
            if statement["Resource"] == "*":
                assert set(actions) <= WITHOUT_RESOURCE, (role, actions)

    def test_what_a_machine_may_do(self) -> None:
        allowed = {action for role, one in statements() if role == "InstanceRole" for action in listed(one["Action"])}
        assert allowed == {
            "ecr:GetAuthorizationToken",
            "ecr:BatchGetImage",
            "ecr:GetDownloadUrlForLayer",
            "secretsmanager:GetSecretValue",
            "s3:GetObject",
            "s3:PutObject",
            "s3:DeleteObject",
            "s3:ListBucket",
            "kms:Decrypt",
            "kms:GenerateDataKey",
            "logs:CreateLogStream",
            "logs:PutLogEvents",
            "cloudformation:SignalResource",
            "ssm:GetParameter",
        }

    def test_workflows_enter_by_oidc_from_one_repository_and_there_are_no_keys(self) -> None:
        assert not resources(*ALL, kind="AWS::IAM::User")
        assert not resources(*ALL, kind="AWS::IAM::AccessKey")
        roles = resources("foundation", kind="AWS::IAM::Role")
        subjects = {}
        for name in ("PushRole", "DeployRole"):
            (trust,) = roles[name]["AssumeRolePolicyDocument"]["Statement"]
            condition = trust["Condition"]
            assert condition["StringEquals"]["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"
            key = "token.actions.githubusercontent.com:sub"
            subjects[name] = condition["StringEquals"].get(key) or condition["StringLike"][key]
        assert subjects["DeployRole"] == {"Fn::Sub": "repo:${GitHubRepository}:environment:production"}
        assert all("${GitHubRepository}:ref:refs/" in one["Fn::Sub"] for one in subjects["PushRole"])

    def test_a_deployment_changes_one_stack_and_only_by_the_stacks_own_role(self) -> None:
        given = [one for role, one in statements() if role == "DeployRole"]
        (update,) = [one for one in given if one["Action"] == "cloudformation:UpdateStack"]
        assert update["Resource"]["Fn::Sub"].endswith(":stack/${PortalStack}/*")
        assert update["Condition"] == {"ArnEquals": {"cloudformation:RoleArn": {"Fn::GetAtt": ["StackRole", "Arn"]}}}
        (passed,) = [one for one in given if one["Action"] == "iam:PassRole"]
        assert passed["Resource"] == {"Fn::GetAtt": ["StackRole", "Arn"]}


class TestNothingIsOpen:
    def test_only_the_load_balancer_is_reached_from_outside_and_nothing_by_ssh(self) -> None:
        groups = resources("base", kind="AWS::EC2::SecurityGroup")
        assert len(groups) == 5
        for name, group in groups.items():
            for rule in group.get("SecurityGroupIngress", []):
                assert not rule["FromPort"] <= 22 <= rule["ToPort"]
                assert ("CidrIp" in rule) == (name == "BalancerGroup"), (name, rule)

    def test_machines_have_no_address_no_ssh_key_and_give_credentials_to_token_holders_only(self) -> None:
        machines = resources("portal", kind="AWS::EC2::LaunchTemplate")
        assert len(machines) == 3
        for machine in machines.values():
            data = machine["LaunchTemplateData"]
            assert data["MetadataOptions"]["HttpTokens"] == "required"
            assert all(disk["Ebs"]["Encrypted"] for disk in data["BlockDeviceMappings"])
            assert "KeyName" not in data
            assert "NetworkInterfaces" not in data

    def test_the_database_is_encrypted_hidden_and_backed_up(self) -> None:
        database = resources("base")["Database"]
        assert database["StorageEncrypted"] is True
        assert database["PubliclyAccessible"] is False
        assert database["DeletionProtection"] is True
        assert "resolve:secretsmanager" in str(database["MasterUserPassword"])
        assert template_parameter("base", "BackupDays")["MinValue"] >= 7
        assert resources("base")["DatabaseParameters"]["Parameters"]["rds.force_ssl"] == "1"
        assert templates.template("base")["Resources"]["Database"]["DeletionPolicy"] == "Snapshot"

    def test_the_bucket_is_private_versioned_encrypted_and_speaks_tls_only(self) -> None:
        bucket = resources("base")["Pictures"]
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
        assert bucket["VersioningConfiguration"]["Status"] == "Enabled"
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
        (deny,) = resources("base")["PicturesPolicy"]["PolicyDocument"]["Statement"]
        assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})

    def test_the_shared_folder_is_encrypted_and_mounted_by_tls(self) -> None:
        assert resources("base")["Files"]["Encrypted"] is True
        assert "mount -t efs -o tls" in resources("portal")["StartScript"]["Value"]["Fn::Sub"][0]

    def test_the_load_balancer_speaks_modern_tls_and_sends_the_rest_there(self) -> None:
        secure, plain = resources("portal", kind="AWS::ElasticLoadBalancingV2::Listener").values()
        assert secure["SslPolicy"].startswith("ELBSecurityPolicy-TLS13-1-2")
        assert plain["DefaultActions"][0]["RedirectConfig"]["Protocol"] == "HTTPS"

    def test_secrets_are_made_not_written(self) -> None:
        secrets = resources("base", kind="AWS::SecretsManager::Secret")
        assert len(secrets) == 3
        for secret in secrets.values():
            assert secret["GenerateSecretString"]["PasswordLength"] >= 40
            assert "SecretString" not in secret


def template_parameter(name: str, parameter: str) -> dict[str, Any]:
    return templates.template(name)["Parameters"][parameter]  # type: ignore[no-any-return]


class TestStart:
    @pytest.fixture
    def script(self) -> str:
        return str(resources("portal")["StartScript"]["Value"]["Fn::Sub"][0])

    def test_it_is_a_shell_script(self, script: str) -> None:
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_it_sets_settings_that_exist_and_all_that_production_asks_for(self, script: str) -> None:
        given = set(re.findall(r"^([A-Z_0-9]+)=", script, re.MULTILINE))
        documented = set(re.findall(r"^\| `([A-Z_0-9]+)` \|", (ROOT / "docs/configuration.md").read_text(), re.M))
        assert given <= documented
        assert given >= {"DJANGO_SECRET_KEY", "IRA_AUDIT_KEY", "DJANGO_ALLOWED_HOSTS", "DATABASE_URL", "EMAIL_URL"}

    def test_every_value_that_it_is_given_exists(self, script: str) -> None:
        asked = set(re.findall(r"\$\{([A-Z][\w:]*)\}", script))
        known = set(templates.template("portal")["Parameters"]) | set(
            resources("portal")["StartScript"]["Value"]["Fn::Sub"][1]
        )
        assert {name for name in asked if not name.startswith("AWS::")} <= known


def test_what_is_imported_is_exported() -> None:
    exported = {
        one["Export"]["Name"]["Fn::Sub"].split("-")[-1] for one in templates.template("base")["Outputs"].values()
    }
    imported = set(re.findall(r"\$\{BaseStack\}-(\w+)", (templates.FOLDER / "portal.yaml").read_text()))
    assert imported
    assert imported <= exported


@pytest.fixture(scope="module")
def account() -> Iterator[None]:
    """An account of moto's with the three stacks in it."""
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        for name, value in templates.CREDENTIALS.items():
            patch.setenv(name, value)
        templates.make_stacks()
        yield


class TestExecuted:
    def test_the_database_and_the_bucket_are_what_the_templates_say(self, account: None) -> None:
        (database,) = boto3.client("rds").describe_db_instances()["DBInstances"]
        assert database["StorageEncrypted"]
        assert not database["PubliclyAccessible"]
        assert database["BackupRetentionPeriod"] == 14
        s3 = boto3.client("s3")
        (bucket,) = s3.list_buckets()["Buckets"]
        encryption = s3.get_bucket_encryption(Bucket=bucket["Name"])["ServerSideEncryptionConfiguration"]["Rules"][0]
        assert encryption["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"

    def test_machines_stand_in_the_subnets_for_them_in_two_zones(self, account: None) -> None:
        (base,) = boto3.client("cloudformation").describe_stacks(StackName="radiology-base")["Stacks"]
        made = {one["OutputKey"]: one["OutputValue"] for one in base["Outputs"]}
        groups = boto3.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        assert {one["AutoScalingGroupName"] for one in groups} == {"radiology-portal-blue", "radiology-portal-workers"}
        for group in groups:
            subnets = set(group["VPCZoneIdentifier"].split(","))
            assert subnets == {made["MachineSubnetA"], made["MachineSubnetB"]}
            assert len(group["AvailabilityZones"]) == 2

    def test_the_machines_start_the_image_that_was_named(self, account: None) -> None:
        ec2 = boto3.client("ec2")
        scripts = [
            base64.b64decode(version["LaunchTemplateData"]["UserData"]).decode()
            for made in ec2.describe_launch_templates()["LaunchTemplates"]
            for version in ec2.describe_launch_template_versions(LaunchTemplateId=made["LaunchTemplateId"])[
                "LaunchTemplateVersions"
            ]
        ]
        assert len(scripts) == 2
        assert all(OLD in script for script in scripts)
        start = boto3.client("ssm").get_parameter(Name="/radiology-portal/start")["Parameter"]["Value"]
        assert "${image%%/*}" in start
        assert "rds.amazonaws.com:5432/portal?sslmode=require" in start
