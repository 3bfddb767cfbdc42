"""A portal of its own for a test: an empty database, web and worker as real processes, people with tokens."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.tools import ROOT, free_port

UP_WITHIN_S = 120
PEOPLE = """
import json
from allauth.account.models import EmailAddress
from django.utils import timezone
from accounts.models import ApiToken, Hospital, Role, Scope, User
hospital = Hospital.objects.create(name="Hospital", department="Radiology")
doctor = User.objects.create_user(
    email="doctor@example.org", password="a-long-password", given_name="Dora", family_name="Doctor",
    role=Role.DOCTOR, licence_number="L-1", hospital=hospital, approved_at=timezone.now(),
)
patient = User.objects.create_user(
    email="ann@example.org", password="a-long-password", given_name="Ann", family_name="Example", role=Role.PATIENT
)
EmailAddress.objects.create(user=patient, email=patient.email, verified=True, primary=True)
print(json.dumps({
    who.role: ApiToken.issue(who, name="test", scopes=Scope.values, days=1)[1] for who in (doctor, patient)
}))
"""


@dataclass(frozen=True, kw_only=True)
class RunningPortal:
    """Where a portal answers, and the tokens of its people by role."""

    address: str
    folder: Path
    tokens: dict[str, str]
    environment: dict[str, str]

    @contextmanager
    def another_web(self, **settings: str) -> Iterator[str]:
        """Run one more web process on the same database, with other settings; yield its address."""
        with _web(self.environment | settings, folder=self.folder) as address:
            yield address


@contextmanager
def running_portal(folder: Path) -> Iterator[RunningPortal]:
    """Run web and worker on a new database in ``folder``; both are ended afterwards."""
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "portal.settings.demo", "IRA_VAR_DIR": str(folder)}
    _manage(environment, "upgrade")
    tokens = json.loads(_manage(environment, "shell", "-v0", "-c", PEOPLE).strip().splitlines()[-1])
    worker = [sys.executable, "manage.py", "qcluster"]
    with _process(worker, environment, log=folder / "worker.log"), _web(environment, folder=folder) as address:
        yield RunningPortal(address=address, folder=folder, tokens=tokens, environment=environment)


@contextmanager
def _web(environment: dict[str, str], *, folder: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "portal.wsgi", "--bind", f"127.0.0.1:{port}", "--threads", "4"]
    log = folder / f"web-{port}.log"
    with _process(command, environment, log=log) as process:
        _wait_for(f"http://127.0.0.1:{port}", process=process, log=log)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _process(command: list[str], environment: dict[str, str], *, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)


def _manage(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _wait_for(address: str, *, process: "subprocess.Popen[bytes]", log: Path) -> None:
    give_up_at = time.monotonic() + UP_WITHIN_S
    while time.monotonic() < give_up_at and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/healthz", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError("The portal did not come up:\n" + log.read_text()[-3000:])
