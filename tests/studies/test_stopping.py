"""A worker that is told to stop: real clusters on a real database file finish what they have, or hand it back."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from studies import stopping
from studies.errors import InvalidTransitionError
from studies.models import Analysis
from studies.tasks import analyse_image
from tests.factories import AnalysisFactory
from tests.studies.test_queue import Portal
from tests.tools import ROOT, wait_for

Starter = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Portal:
    """A database with three queued analyses, two of them with a message."""
    tmp_path = tmp_path_factory.mktemp("stopping")
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.studies.queue_settings",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'portal.sqlite3'}",
        "IRA_VAR_DIR": str(tmp_path),
        "IRA_TEST_MEDIA_ROOT": str(tmp_path / "media"),
        "IRA_WORKERS": "1",
        "IRA_HEARTBEAT_FILE": str(tmp_path / "heartbeat"),
    }
    made = Portal(folder=tmp_path, environment=environment)
    made.run("manage.py", "migrate", "-v0")
    (tmp_path / "ids").write_text(json.dumps(list(json.loads(made.act("seed")).values())[:2]))
    return made


@pytest.fixture
def start(portal: Portal) -> Iterator[Starter]:
    """Start a cluster whose model takes so many seconds; it is in the model when this returns."""
    running: list[subprocess.Popen[bytes]] = []

    def started(*, seconds: float, grace_s: int) -> subprocess.Popen[bytes]:
        more = {"IRA_TEST_MODEL_SECONDS": str(seconds), "IRA_STOP_GRACE_S": str(grace_s)}
        calls = portal.folder / "slow-calls"
        calls.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.studies.queue_driver", "slow", str(portal.folder)]
        with (portal.folder / "cluster.log").open("a") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=portal.environment | more,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running.append(process)
        wait_for(calls.exists, within_s=60, what="a worker in the model")
        return process

    yield started
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def states(portal: Portal) -> list[tuple[str, int]]:
    """State and attempt of the two analyses that have a message."""
    return [portal.analysis(hex_id) for hex_id in json.loads((portal.folder / "ids").read_text())]


def test_a_worker_that_is_told_to_stop_hands_back_at_once_what_takes_too_long(portal: Portal, start: Starter) -> None:
    cluster = start(seconds=4.5, grace_s=0)
    told_at = time.monotonic()
    cluster.send_signal(signal.SIGTERM)
    assert cluster.wait(timeout=30) == 0
    took_s = time.monotonic() - told_at
    # Nothing failed, so no attempt is counted; both wait, and messages for both can be taken now.
    assert states(portal) == [("queued", 1), ("queued", 1)]
    assert took_s < 4.5
    assert portal.count("django_q_ormq", "lock <= datetime('now')") == 2
    # Its heart beat for the container's health check as long as it lived.
    assert time.time() - (portal.folder / "heartbeat").stat().st_mtime < 60


def test_another_worker_finishes_what_it_has_when_it_is_told_to_stop(portal: Portal, start: Starter) -> None:
    cluster = start(seconds=1.5, grace_s=30)
    cluster.send_signal(signal.SIGTERM)
    assert cluster.wait(timeout=30) == 0
    # The one in hand is done, and so is the other if the cluster had fetched it already.
    ended = [state for state, _ in states(portal)]
    assert "succeeded" in ended
    assert set(ended) <= {"succeeded", "queued"}
    assert portal.count("django_q_ormq") == ended.count("queued")


@pytest.mark.django_db
class TestHandingBack:
    def test_puts_the_same_attempt_back_into_the_queue(self) -> None:
        analysis = AnalysisFactory()
        running = Analysis.objects.claim(analysis.id)
        assert running is not None
        running.hand_back()
        assert (running.state, running.attempt, running.lease_expires_at) == ("queued", 1, None)
        assert running.study.state == "queued"
        assert Analysis.objects.claim(analysis.id) is not None

    def test_is_for_the_attempt_that_is_running_only(self) -> None:
        analysis = AnalysisFactory()
        with pytest.raises(InvalidTransitionError, match="attempt 1"):
            analysis.hand_back()
        running = Analysis.objects.claim(analysis.id)
        assert running is not None
        Analysis.objects.filter(id=analysis.id).update(attempt=2)
        with pytest.raises(InvalidTransitionError, match="attempt 1"):
            running.hand_back()
        analysis.refresh_from_db()
        assert (analysis.state, analysis.attempt) == ("running", 2)


@pytest.mark.django_db(transaction=True)
def test_a_message_that_comes_after_the_end_is_sent_to_another_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(Analysis, "enqueue", lambda analysis: sent.append(analysis.id))
    monkeypatch.setattr(stopping, "_stop", None)
    stopping.prepare().give_up()
    analysis = AnalysisFactory()
    analyse_image(str(analysis.id))
    analysis.refresh_from_db()
    assert (analysis.state, sent) == ("queued", [analysis.id])
