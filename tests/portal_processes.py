"""A portal of its own for a test: an empty database, web and worker as real processes, people with tokens."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.tools import ROOT

UP_WITHIN_S = 120
PEOPLE = """
import json
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
print(json.dumps({
    who.role: ApiToken.issue(who, name="test", scopes=Scope.values, days=1)[1] for who in (doctor, patient)
}))
"""


@dataclass(frozen=True, kw_only=True)
class RunningPortal:
    """Where a portal answers, and the tokens of its people by role."""

    address: str
    tokens: dict[str, str]
    environment: dict[str, str]

    def manage(self, *arguments: str) -> str:
        """Run a command of the portal to its end and return what it printed."""
        return _manage(self.environment, *arguments)


@contextmanager
def running_portal(folder: Path, *, has_worker: bool = True, **settings: str) -> Iterator[RunningPortal]:
    """Run web and worker on a database in ``folder``; both are ended afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "portal.settings.demo", "IRA_VAR_DIR": str(folder)} | settings
    _manage(environment, "migrate", "-v0")
    _manage(environment, "create_roles", "-v0")
    tokens = json.loads(_manage(environment, "shell", "-v0", "-c", PEOPLE).strip().splitlines()[-1])
    port = _free_port()
    web = [sys.executable, "-m", "gunicorn", "portal.wsgi", "--bind", f"127.0.0.1:{port}", "--threads", "4"]
    commands = {"web": web} | ({"worker": [sys.executable, "manage.py", "qcluster"]} if has_worker else {})
    processes = {}
    try:
        for name, command in commands.items():
            with (folder / f"{name}.log").open("w") as log:
                processes[name] = subprocess.Popen(
                    command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
        address = f"http://127.0.0.1:{port}"
        _wait_for(address, process=processes["web"], log=folder / "web.log")
        yield RunningPortal(address=address, tokens=tokens, environment=environment)
    finally:
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        for process in processes.values():
            try:
                process.wait(20)
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
