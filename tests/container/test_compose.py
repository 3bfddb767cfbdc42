"""Dockerfile, compose.yaml and what belongs to them, as far as they can be checked without starting anything."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from container.make_env import environment
from container.prune import share_equal_files
from tests.container.engine import ROOT, compose, filled_in

DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES: dict[str, Any] = compose()["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert service["tmpfs"], "a read-only container needs somewhere to put what lasts no longer than itself"


@pytest.mark.parametrize("name", OURS)
def test_every_image_of_ours_is_a_target_of_the_dockerfile_and_adds_no_capability(name: str) -> None:
    target = SERVICES[name]["build"]["target"]
    assert re.search(rf"^FROM \S+ AS {target}$", DOCKERFILE, re.MULTILINE)
    assert "cap_add" not in SERVICES[name]


def test_only_the_proxy_is_reached_from_elsewhere() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"proxy", "mlflow"}
    assert all(port.startswith("127.0.0.1:") for port in published["mlflow"])
    assert compose()["networks"]["database"] == {"internal": True}
    assert SERVICES["database"]["networks"] == ["database"]


def test_services_wait_for_what_they_need_and_get_longer_to_stop_than_they_take() -> None:
    for name in ("web", "worker", "scheduler"):
        assert SERVICES[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert SERVICES["migrate"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    grace_s = int(re.search(r"`IRA_STOP_GRACE_S` \| `(\d+)`", (ROOT / "docs/configuration.md").read_text())[1])  # type: ignore[index]
    assert int(SERVICES["worker"]["stop_grace_period"].rstrip("s")) >= grace_s + 10
    graceful_s = int(re.search(r"graceful_timeout = (\d+)", (ROOT / "portal/webserver.py").read_text())[1])  # type: ignore[index]
    assert int(SERVICES["web"]["stop_grace_period"].rstrip("s")) >= graceful_s + 10


def test_what_make_env_prints_fills_in_everything_and_is_new_each_time() -> None:
    first, second = environment("radiology.example.org"), environment("radiology.example.org")
    values = dict(line.split("=", 1) for line in first.splitlines() if line and not line.startswith("#"))
    assert filled_in((ROOT / "compose.yaml").read_text(), values=values)
    assert len(values["DJANGO_SECRET_KEY"]) >= 50
    assert len(values["IRA_AUDIT_KEY"]) >= 50
    assert Fernet(values["IRA_PICTURE_KEYS"])
    assert values["DJANGO_ALLOWED_HOSTS"] == "radiology.example.org"
    secret = [line for line in first.splitlines() if re.match(r"\w*(KEY|KEYS|PASSWORD|TOKEN)=", line)]
    assert len(secret) == 6
    assert not set(secret) & set(second.splitlines())
    with pytest.raises(ValueError, match="POSTGRES_PASSWORD is not set: Make"):
        filled_in((ROOT / "compose.yaml").read_text(), values={})


@pytest.mark.parametrize("arguments", [[], ["a b"], ["x\nDEBUG=1"], ["one", "two"], [""]])
def test_make_env_refuses_what_is_no_host_name(arguments: list[str]) -> None:
    command = [sys.executable, str(ROOT / "container/make_env.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Please name the host" in done.stderr


def test_a_setting_that_compose_gives_exists() -> None:
    documented = set(re.findall(r"^\| `([A-Z_0-9]+)` \|", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE))
    for name in ("migrate", "web", "worker", "scheduler"):
        assert set(SERVICES[name]["environment"]) <= documented
    printed = {line.partition("=")[0] for line in environment("x").splitlines() if line and not line.startswith("#")}
    assert printed - documented == {"PORTAL_HOST", "PORTAL_TLS", "POSTGRES_PASSWORD", "MLFLOW_PASSWORD", "WORKERS"}


def test_the_build_is_given_nothing_but_what_the_dockerfile_copies() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule.removeprefix("!").split("/")[0] for rule in rules if rule.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    copied = {word.split("/")[0] for words in copies for word in words.split()}
    assert copied == allowed


def test_copies_of_a_library_become_links(tmp_path: Path) -> None:
    for name in ("a.so", "a.so.1", "folder/a.so"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 20_000)
    (tmp_path / "other.so").write_bytes(b"y" * 20_000)
    (tmp_path / "small").write_bytes(b"x")
    assert share_equal_files(tmp_path) == 40_000
    assert {path.name for path in tmp_path.rglob("*") if path.is_symlink()} == {"a.so.1", "a.so"}
    assert (tmp_path / "folder/a.so").read_bytes() == (tmp_path / "a.so").read_bytes() == b"x" * 20_000
