"""The queue with real processes on a real database file: workers that die, hang, race, and messages that get lost."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tools import ROOT, wait_for


@dataclass(frozen=True, kw_only=True)
class Portal:
    """A database and a store of their own, and the processes that work on them."""

    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str) -> str:
        """Run a process to its end and return what it printed."""
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def act(self, action: str) -> str:
        """Run one action of the driver."""
        return self.run("-m", "tests.studies.queue_driver", action, str(self.folder))

    def analysis(self, hex_id: str) -> tuple[str, int]:
        """Return state and attempt, read past Django."""
        row = self._query("SELECT state, attempt FROM studies_analysis WHERE id = ?", hex_id)
        return row[0], row[1]

    def count(self, table: str, condition: str = "1") -> int:
        """Return how many rows a table has."""
        return self._query(f"SELECT count(*) FROM {table} WHERE {condition}")[0]

    def _query(self, sql: str, *values: str) -> tuple:
        connection = sqlite3.connect(self.folder / "portal.sqlite3", timeout=20)
        try:
            return connection.execute(sql, values).fetchone()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Portal:
    folder = tmp_path_factory.mktemp("queue")
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.studies.queue_settings",
        "DATABASE_URL": f"sqlite:///{folder / 'portal.sqlite3'}",
        "IRA_VAR_DIR": str(folder),
        "IRA_TEST_MEDIA_ROOT": str(folder / "media"),
    }
    made = Portal(folder=folder, environment=environment)
    made.run("manage.py", "migrate", "-v0")
    return made


@dataclass(frozen=True, kw_only=True)
class Accident:
    """What became of three analyses: one whose worker was killed, one that hung, one without a message."""

    after_the_kill: tuple[str, int]
    after_the_timeout: tuple[str, int]
    killed: tuple[str, int]
    hung: tuple[str, int]
    lost: tuple[str, int]
    calls: list[list[str]]
    messages_left: int
    findings: int


@pytest.fixture(scope="module")
def accident(portal: Portal) -> Iterator[Accident]:
    """Two workers hang in the model; one is killed, the other is left to its time-out; then the sweeper comes."""
    ids = json.loads(portal.act("seed"))
    log = (portal.folder / "cluster.log").open("w")
    command = [sys.executable, "-m", "tests.studies.queue_driver", "cluster", str(portal.folder)]
    cluster = subprocess.Popen(
        command, cwd=ROOT, env=portal.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    calls_file = portal.folder / "calls"
    try:
        wait_for(
            lambda: calls_file.exists() and len(calls_file.read_text().splitlines()) >= 2,
            within_s=120,
            what="two workers in the model",
        )
        (killed_pid, killed_slice), (_, hung_slice) = (line.split() for line in calls_file.read_text().splitlines()[:2])
        os.kill(int(killed_pid), signal.SIGKILL)
        killed, hung = ids.pop(killed_slice), ids.pop(hung_slice)
        (lost,) = ids.values()
        after_the_kill = portal.analysis(killed)
        wait_for(lambda: portal.count("django_q_task", "success = 0") == 1, within_s=60, what="the broker's time-out")
        after_the_timeout = portal.analysis(hung)
        portal.act("pester")
        wait_for(lambda: portal.count("django_q_ormq") == 0, within_s=60, what="an empty queue")
        yield Accident(
            after_the_kill=after_the_kill,
            after_the_timeout=after_the_timeout,
            killed=portal.analysis(killed),
            hung=portal.analysis(hung),
            lost=portal.analysis(lost),
            calls=[line.split() for line in calls_file.read_text().splitlines()],
            messages_left=portal.count("django_q_ormq"),
            findings=portal.count("studies_finding"),
        )
    finally:
        os.killpg(cluster.pid, signal.SIGKILL)
        cluster.wait()
        log.close()


def test_an_analysis_stays_running_when_its_worker_is_killed(accident: Accident) -> None:
    assert accident.after_the_kill == ("running", 1)


def test_an_analysis_stays_running_after_the_broker_s_time_out(accident: Accident) -> None:
    assert accident.after_the_timeout == ("running", 1)


def test_the_sweeper_recovers_a_killed_worker_with_the_next_attempt(accident: Accident) -> None:
    assert accident.killed == ("succeeded", 2)


def test_the_sweeper_recovers_a_time_out_with_the_next_attempt(accident: Accident) -> None:
    assert accident.hung == ("succeeded", 2)


def test_the_sweeper_sends_a_lost_message_again_and_it_is_the_same_attempt(accident: Accident) -> None:
    assert accident.lost == ("succeeded", 1)


def test_a_message_that_the_broker_delivers_again_does_no_work_twice(accident: Accident) -> None:
    """The killed worker's message comes back after ``retry`` seconds; the sweeper's many messages come too."""
    assert len(accident.calls) == 5
    assert accident.findings == 3


def test_no_message_is_left_to_come_back_for_ever(accident: Accident) -> None:
    assert accident.messages_left == 0


def test_of_eight_processes_that_claim_at_once_exactly_one_wins(portal: Portal) -> None:
    assert json.loads(portal.act("race")) == {"won": 1, "failed": 0}
