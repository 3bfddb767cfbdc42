"""Production starts with secrets from the environment or not at all; the demo's log-ins exist in the demo only."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command

from portal import checks

ROOT = Path(__file__).resolve().parent.parent.parent
COMPLETE = {
    "DJANGO_SETTINGS_MODULE": "portal.settings.production",
    "DJANGO_SECRET_KEY": "s3cret-" + "kq8Zr2" * 10,
    "IRA_AUDIT_KEY": "a-key-" + "m4Tx9p" * 10,
    "DJANGO_ALLOWED_HOSTS": "radiology.example.org",
    "DATABASE_URL": "sqlite:////nonexistent/portal.sqlite3",
    "EMAIL_URL": "smtp://localhost:25",
}


def run_manage(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_production_starts_with_a_complete_environment(tmp_path: Path) -> None:
    done = run_manage(COMPLETE | {"IRA_VAR_DIR": str(tmp_path)}, "check", "--deploy", "--fail-level", "WARNING")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "missing", ["DJANGO_SECRET_KEY", "IRA_AUDIT_KEY", "DJANGO_ALLOWED_HOSTS", "DATABASE_URL", "EMAIL_URL"]
)
def test_production_refuses_to_start_without_a_secret(missing: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in COMPLETE.items() if name != missing}
    done = run_manage(environment | {"IRA_VAR_DIR": str(tmp_path)}, "check")
    assert done.returncode != 0
    assert missing in done.stderr


@pytest.mark.parametrize("layer", ["production", "dev", "test"])
def test_only_the_demo_settings_know_the_demo_log_ins(layer: str, tmp_path: Path) -> None:
    code = "from django.conf import settings as s; print(s.IS_DEMO, bool(s.DEMO_LOGINS or s.DEMO_PASSWORD))"
    environment = COMPLETE | {"DJANGO_SETTINGS_MODULE": f"portal.settings.{layer}", "IRA_VAR_DIR": str(tmp_path)}
    done = run_manage(environment, "shell", "--no-imports", "-c", code)
    assert done.stdout.strip() == "False False", done.stderr


def test_the_demo_command_refuses_other_settings() -> None:
    with pytest.raises(CommandError, match="make demo"):
        call_command("demo")


def test_demo_settings_fail_the_deployment_check(settings) -> None:
    assert checks.check_no_demo_in_production(None) == []
    settings.IS_DEMO = True
    assert [message.id for message in checks.check_no_demo_in_production(None)] == ["portal.E002"]


@pytest.mark.parametrize(
    ("timeout", "lease", "retry", "is_fine"),
    [(60, 75, 90, True), (60, 63, 90, False), (60, 75, 75, False), (60, 100, 90, False)],
)
def test_queue_times_must_fit_together(settings, timeout: int, lease: int, retry: int, is_fine: bool) -> None:
    settings.ANALYSIS_LEASE_S = lease
    settings.Q_CLUSTER = settings.Q_CLUSTER | {"timeout": timeout, "retry": retry}
    found = [message.id for message in run_checks() if message.id == "portal.E001"]
    assert found == ([] if is_fine else ["portal.E001"])
