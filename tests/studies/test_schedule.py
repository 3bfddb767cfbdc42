"""The schedule: whatever runs it, and however many at once, a due task is sent once."""

import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from django_q.models import OrmQ, Schedule
from django_q.scheduler import scheduler

from tests.studies.test_queue import ROOT, Portal
from tests.tools import skip_where_threads_share_the_database, wait_for


@pytest.mark.django_db(transaction=True)
def test_of_six_clusters_that_look_at_once_one_sends_each_due_task() -> None:
    skip_where_threads_share_the_database()
    call_command("ensure_schedules", verbosity=0)
    Schedule.objects.update(next_run=timezone.now() - timedelta(seconds=1))
    due = Schedule.objects.count()
    start = threading.Barrier(6)

    def look() -> None:
        connection.ensure_connection()
        start.wait()
        scheduler()
        connection.close()

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert due >= 2
    assert OrmQ.objects.count() == due


def test_a_scheduler_of_its_own_sends_what_is_due_until_it_is_told_to_stop(tmp_path: Path) -> None:
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "portal.settings.test",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'portal.sqlite3'}",
        "IRA_VAR_DIR": str(tmp_path),
        "IRA_HEARTBEAT_FILE": str(tmp_path / "heartbeat"),
    }
    # The tables of the queue are all that it needs.
    for command in (["migrate", "django_q", "-v0"], ["ensure_schedules", "-v0"]):
        subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=environment, check=True)
    process = subprocess.Popen(
        [sys.executable, "manage.py", "run_schedule"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        portal = Portal(folder=tmp_path, environment=environment)
        wait_for(lambda: portal.count("django_q_ormq") >= 2, within_s=60, what="a message of each sweeper")
    finally:
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert (tmp_path / "heartbeat").exists()
    assert "has stopped" in said
