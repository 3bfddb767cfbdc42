"""Several clusters of workers on one PostgreSQL, killed at random, and the database restarted in the middle.

In the end every slice is analysed exactly once in the books, none is lost and none is stuck. The portal runs as an
installation does (production settings, pool of connections, the real model); only its times are shorter.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.postgres_server import Server, running_server
from tests.tools import ROOT, postgres_bin

pytestmark = [pytest.mark.acceptance, pytest.mark.postgres]

SLICES = int(os.environ.get("IRA_TEST_SLICES", "500"))
KILLS = max(6, SLICES // 10)
CLUSTERS, WORKERS = 3, 2
SEED = int(os.environ.get("IRA_TEST_SEED", "20260309"))
# What is lost is noticed after a lease; longer than that nothing may stand still.
NO_PROGRESS_S = 300
SEEDING = """
import sys

import django

django.setup()
from studies.intake import Upload, submit_study
from tests.factories import BIRTH_DATE, DoctorFactory, PatientFactory, slice_png

doctor = DoctorFactory()
patient = PatientFactory(created_by=doctor)
slices = int(sys.argv[1])
for first in range(0, slices, 25):
    numbers = range(first, min(first + 25, slices))
    uploads = [Upload(content=slice_png(seed=number), name=f"{number}.png") for number in numbers]
    submit_study(doctor, patient=patient, study_date=BIRTH_DATE, uploads=uploads)
"""


@dataclass
class Portal:
    """The machines of a portal: a database, a store, clusters of workers, and a log of each."""

    server: Server
    folder: Path
    clusters: dict[Path, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Production, with times so short that one can wait for them."""
        return os.environ | {
            "DJANGO_SETTINGS_MODULE": "portal.settings.production",
            "DJANGO_SECRET_KEY": "tests-only-" + "0" * 54,
            "IRA_AUDIT_KEY": "tests-only-" + "1" * 54,
            "DJANGO_ALLOWED_HOSTS": "testserver",
            "EMAIL_URL": "consolemail://",
            "DATABASE_URL": self.server.url("portal"),
            "IRA_VAR_DIR": str(self.folder),
            "IRA_WORKERS": str(WORKERS),
            "IRA_MODEL_THREADS": "1",
            "IRA_ANALYSIS_TIMEOUT_S": "30",
            # A slice that is unlucky three times in a row is given up in a hospital; here bad luck is the point.
            "IRA_ANALYSIS_MAX_ATTEMPTS": "10",
            "IRA_DB_POOL_SIZE": "2",
        }

    def run(self, *arguments: str) -> None:
        """Run a process of the portal to its end."""
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]

    def start_cluster(self) -> None:
        """Start one machine with workers."""
        log = self.folder / f"cluster-{len(list(self.folder.glob('cluster-*.log')))}.log"
        with log.open("wb") as stream:
            self.clusters[log] = subprocess.Popen(
                [sys.executable, "manage.py", "qcluster"],
                cwd=ROOT,
                env=self.environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def lose_cluster(self, log: Path) -> None:
        """Lose a machine with everything that runs on it."""
        process = self.clusters.pop(log)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def living(self, what: str) -> list[int]:
        """The processes that live, by what they say of themselves when they begin."""
        found = []
        for log in self.clusters:
            numbers = re.findall(rf"{what} at (\d+)", log.read_text(errors="replace"))
            found += [int(number) for number in numbers if Path(f"/proc/{number}").exists()]
        return found

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the database, past Django; nothing where it is away."""
        try:
            with psycopg.connect(self.server.url("portal"), connect_timeout=3) as connection:
                return connection.execute(sql).fetchall()
        except psycopg.OperationalError:
            return []

    def done(self) -> int:
        """How many slices have an answer."""
        rows = self.ask("SELECT count(*) FROM studies_analysis WHERE state = 'succeeded'")
        return int(rows[0][0]) if rows else 0

    def sweep(self) -> None:
        """Make the sweepers due, as they are once a minute in an installation."""
        self.ask("UPDATE django_q_schedule SET next_run = now() RETURNING id")


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[Portal]:
    with running_server(postgres_bin(), "max_connections=60", "fsync=off") as server:
        server.make_database("portal")
        made = Portal(server=server, folder=tmp_path)
        made.run("manage.py", "migrate", "-v0")
        made.run("manage.py", "create_roles", "-v0")
        made.run("manage.py", "ensure_schedules", "-v0")
        made.run("-c", SEEDING, str(SLICES))
        yield made
        for log in list(made.clusters):
            made.lose_cluster(log)


def test_every_slice_is_analysed_once_whatever_is_killed(portal: Portal, capfd: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(SEED)  # noqa: S311 - the same accidents each time
    kills = sorted(chance.sample(range(2, SLICES - 5), KILLS))
    kinds = {at: "ready for work" for at in kills}
    # Also those that fetch messages and note results, whole machines, and the database: once as in a crash.
    others = chance.sample(kills, 6)
    kinds |= dict.fromkeys(others[:2], "pushing tasks") | dict.fromkeys(others[2:4], "monitoring")
    kinds |= dict.fromkeys(others[4:], "machine")
    restarts = {SLICES // 3: "immediate", 2 * SLICES // 3: "fast"}
    killed: Counter[str] = Counter()
    for _ in range(CLUSTERS):
        portal.start_cluster()
    started = moved = swept = time.monotonic()
    seen = 0
    while True:
        done, now = portal.done(), time.monotonic()
        if done > seen:
            seen, moved = done, now
        if done >= SLICES:
            break
        assert now - moved < NO_PROGRESS_S, state_of(portal, killed=killed)
        while restarts and min(restarts) <= done:
            portal.server.stop(mode=restarts.pop(min(restarts)))
            time.sleep(chance.uniform(0.5, 3))
            portal.server.start()
            killed["database"] += 1
        while kills and kills[0] <= done:
            kind = kinds[kills.pop(0)]
            if kind == "machine":
                portal.lose_cluster(chance.choice(sorted(portal.clusters)))
                portal.start_cluster()
            else:
                while not (victims := portal.living(kind)):
                    time.sleep(0.5)
                os.kill(chance.choice(sorted(victims)), signal.SIGKILL)
            killed[kind] += 1
        if now - swept > 10:
            portal.sweep()
            swept = now
        time.sleep(chance.uniform(0.1, 0.5))
    took_s = time.monotonic() - started
    settle(portal)
    figures = check_books(portal) | {"seconds": round(took_s), "killed": dict(killed), "slices": SLICES}
    assert sum(killed.values()) >= KILLS
    with capfd.disabled():
        sys.stdout.write(f"\n{json.dumps(figures)}\n")


def settle(portal: Portal) -> None:
    """Wait until no message is left: those of the dead come back once, find nothing to do, and go."""
    end = time.monotonic() + 300
    while True:
        left = portal.ask("SELECT count(*) FROM django_q_ormq")
        if left and not left[0][0]:
            return
        assert time.monotonic() < end, f"Messages are left: {left}"
        time.sleep(1)


def check_books(portal: Portal) -> dict[str, Any]:
    """Check what is written about each slice; return figures."""
    ask = portal.ask
    assert ask("SELECT count(*) FROM studies_image") == [(SLICES,)]
    assert ask("SELECT state, count(*) FROM studies_analysis GROUP BY state") == [("succeeded", SLICES)]
    assert ask("SELECT count(DISTINCT image_id) FROM studies_analysis") == [(SLICES,)]
    assert ask("SELECT count(*) FROM studies_inferencerecord") == [(SLICES,)]
    twice = "SELECT analysis_id, number FROM studies_finding GROUP BY 1, 2 HAVING count(*) > 1"
    assert ask(twice) == []
    assert ask("SELECT DISTINCT state FROM studies_study") == [("succeeded",)]
    named = {name for row in ask("SELECT mask, overlay, activation FROM studies_analysis") for name in row} | {
        row[0] for row in ask("SELECT file FROM studies_image")
    }
    store = portal.folder / "media"
    stored = {path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file()}
    assert named <= stored, "a row names a file that is not there"
    tables = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^(studies|ml|django_q|portal)_'"
    (size,) = ask(f"SELECT sum(pg_total_relation_size(relname::regclass)) FROM ({tables}) AS tables")[0]
    (wal,) = ask("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")[0]
    attempts = dict(ask("SELECT attempt, count(*) FROM studies_analysis GROUP BY 1 ORDER BY 1"))
    return {
        "attempts": attempts,
        "files without a row": len(stored - named),
        "database_kb_per_slice": round(float(size) / 1024 / SLICES, 1),
        "wal_mb": round(float(wal) / 1024**2),
    }


def state_of(portal: Portal, *, killed: Counter[str]) -> str:
    """What there is to know about a portal that stands still."""
    rows = portal.ask("SELECT state, attempt, count(*), min(lease_expires_at) FROM studies_analysis GROUP BY 1, 2")
    queue = portal.ask("SELECT count(*), min(lock), now() FROM django_q_ormq")
    tails = "\n".join(f"{log.name}:\n{log.read_text(errors='replace')[-1500:]}" for log in portal.clusters)
    return f"Nothing has moved for {NO_PROGRESS_S} s. {rows} {queue} {dict(killed)}\n{tails}"
