"""A process of a cluster that is killed takes nobody along, whatever it held: real processes, a real database file."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools import ROOT

# Whatever an idle process waits for, it holds a lock while it waits.
VICTIMS = {"worker": r"ready for work at (\d+)", "monitor": r"monitoring at (\d+)", "pusher": r"pushing tasks at (\d+)"}


class Cluster:
    """One cluster with two workers, and its log."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        self.environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "tests.studies.queue_settings",
            "DATABASE_URL": f"sqlite:///{folder / 'portal.sqlite3'}",
            "IRA_VAR_DIR": str(folder),
        }
        self.manage("migrate", "-v0")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "qcluster"],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def manage(self, *arguments: str) -> None:
        """Run a command of the portal."""
        command = [sys.executable, "manage.py", *arguments]
        subprocess.run(command, cwd=ROOT, env=self.environment, check=True, capture_output=True, timeout=180)

    def send(self, note: str) -> None:
        """Send a message whose task leaves a file behind."""
        code = f"from django_q.tasks import async_task; async_task('os.mkdir', {note!r})"
        self.manage("shell", "-v0", "-c", code)

    def living(self, kind: str) -> list[int]:
        """The processes of a kind that live."""
        numbers = map(int, re.findall(VICTIMS[kind], self.log.read_text()))
        return [number for number in numbers if Path(f"/proc/{number}").exists()]

    def does(self, note: Path, *, within_s: float) -> bool:
        """Whether the message is worked off in time."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            if note.exists():
                return True
            time.sleep(0.1)
        return False

    def end(self) -> None:
        """End it."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("sentinel"))
    yield made
    made.end()


@pytest.mark.slow
@pytest.mark.parametrize("kind", VICTIMS)
def test_after_a_kill_the_cluster_goes_on_working(cluster: Cluster, kind: str) -> None:
    before, after = cluster.folder / f"before-{kind}", cluster.folder / f"after-{kind}"
    cluster.send(str(before))
    assert cluster.does(before, within_s=60)
    for victim in cluster.living(kind):
        os.kill(victim, signal.SIGKILL)
    cluster.send(str(after))
    assert cluster.does(after, within_s=60), cluster.log.read_text()[-3000:]
