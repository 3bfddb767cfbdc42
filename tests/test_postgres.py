"""The database-bound suite on a real PostgreSQL server, which is what hospitals run."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from portal.management.commands.upgrade import LOCK as UPGRADES
from tests.postgres_server import Server, running_server
from tests.tools import ROOT, postgres_bin

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

# The browser has a demo of its own, and servers are not started from within a test on a server.
WITHOUT = "not browser and not postgres and not acceptance"
ALSO_BOUND = ["tests/portal", "tests/ml", "tests/hostile", "tests/test_administration.py"]
DATABASE_BOUND = ["tests/accounts", "tests/studies", "tests/reports", "tests/test_permission_matrix.py"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A throw-away server; removed afterwards."""
    with running_server(postgres_bin(), "fsync=off") as running:
        yield running


@pytest.fixture(scope="module")
def database_url(server: Server) -> str:
    """Its address."""
    return server.url()


def pass_on(database_url: str, folder: Path, *tests: str) -> int:
    """Run tests on the server, one process, none of them in a browser; return how many passed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-x", "-m", WITHOUT, *tests],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": database_url, "IRA_VAR_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    return int(passed.group(1))


@pytest.mark.timeout(2400)
def test_the_database_bound_suite_passes_on_postgresql(database_url: str, tmp_path: Path) -> None:
    assert pass_on(database_url, tmp_path, *DATABASE_BOUND) > 50


@pytest.mark.acceptance
@pytest.mark.timeout(3600)
def test_whatever_else_uses_a_database_passes_on_postgresql(database_url: str, tmp_path: Path) -> None:
    """The rooms that make test leaves to SQLite, because they ask the database for little."""
    assert pass_on(database_url, tmp_path, *ALSO_BOUND) > 50


def test_migrations_run_forwards_and_back_on_postgresql(database_url: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "IRA_VAR_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "portal.settings.test",
    }
    for arguments in (["migrate"], ["migrate", "reports", "zero"], ["migrate", "studies", "zero"], ["migrate"]):
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments, "--verbosity", "0"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]


FORKS = """
import multiprocessing

import django

django.setup()
from django.db import connection


def line() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


def child(answers):
    answers.put([line() for _ in range(50)])


before = line()
connection.close()  # into the pool, as the queue does before it forks
context = multiprocessing.get_context("fork")
answers = context.Queue()
children = [context.Process(target=child, args=(answers,)) for _ in range(3)]
[one.start() for one in children]
lines = [answers.get(timeout=30) for _ in children]
[one.join(30) for one in children]
assert [one.exitcode for one in children] == [0, 0, 0]
of_children = {number for one in lines for number in one}
assert len(of_children) == 3, lines
assert before not in of_children, "a child talks on the parent's line"
assert line() not in of_children, "the parent talks on a child's line"
print("apart")
"""


def production(database_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of an installation."""
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "portal.settings.production",
        "DJANGO_SECRET_KEY": "tests-only-" + "0" * 54,
        "IRA_AUDIT_KEY": "tests-only-" + "1" * 54,
        "DJANGO_ALLOWED_HOSTS": "testserver",
        "EMAIL_URL": "consolemail://",
        "DATABASE_URL": database_url,
        "IRA_VAR_DIR": str(tmp_path),
    }


def test_forked_processes_do_not_share_the_pool_of_their_parent(database_url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS],
        cwd=ROOT,
        env=production(database_url, tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "apart\n", done.stderr[-3000:]


def test_a_migration_gives_up_when_a_table_is_in_use_and_changes_nothing(server: Server, tmp_path: Path) -> None:
    database_url = server.make_database("in_use")
    environment = production(database_url, tmp_path) | {"IRA_MIGRATE_LOCK_TIMEOUT_S": "1"}

    def migrate(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "manage.py", "migrate", "-v0", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert migrate("studies", "0008").returncode == 0
    with psycopg.connect(database_url) as somebody:
        somebody.execute("LOCK TABLE studies_study IN ACCESS SHARE MODE")
        somebody.execute("LOCK TABLE accounts_user, studies_patient IN ACCESS EXCLUSIVE MODE")
        stuck = migrate()
        assert stuck.returncode == 1
        assert "A table is in use for longer than this may wait" in stuck.stderr
        assert "Traceback" not in stuck.stderr
        known = somebody.execute("SELECT name FROM django_migrations WHERE app = 'studies' ORDER BY id").fetchall()
        assert known[-1][0].startswith("0008"), "what could not be had in time was not begun"
    done = migrate()
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_database_that_cannot_hold_every_name_is_refused_before_it_is_used(server: Server, tmp_path: Path) -> None:
    database_url = server.make_database("ascii", encoding="SQL_ASCII")
    done = subprocess.run(
        [sys.executable, "manage.py", "upgrade"],
        cwd=ROOT,
        env=production(database_url, tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "The database's encoding is SQL_ASCII, which cannot hold every name." in done.stderr
    assert "Traceback" not in done.stderr
    with psycopg.connect(database_url) as anybody:
        assert anybody.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


@pytest.mark.timeout(600)
def test_two_machines_that_upgrade_an_empty_database_at_the_same_moment_both_end_well(
    server: Server, tmp_path: Path
) -> None:
    database_url = server.make_database("two_at_once")
    environment = production(database_url, tmp_path)
    command = [sys.executable, "manage.py", "upgrade", "-v2"]
    with psycopg.connect(database_url, autocommit=True) as referee:
        # Held until both wait for it, so that they start together however long each took to load.
        referee.execute("SELECT pg_advisory_lock(%s)", [UPGRADES])
        machines = [
            subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        # Of the referee's own line, this question is the query.
        asking = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_try_advisory_lock%'"
        end = time.monotonic() + 240
        while referee.execute(asking).fetchone() != (2,) and time.monotonic() < end:
            time.sleep(0.1)
        assert [one.poll() for one in machines] == [None, None], "both are still waiting"
        assert referee.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        referee.execute("SELECT pg_advisory_unlock(%s)", [UPGRADES])
        outputs = [one.communicate(timeout=240) for one in machines]

        assert [one.returncode for one in machines] == [0, 0], outputs
        assert [said.splitlines()[-1] for said, _problems in outputs] == ["The database is up to date."] * 2
        applied = sorted(said.count("Applying ") for said, _problems in outputs)
        assert applied[0] == 0, "whoever came second found nothing to do"
        known = referee.execute("SELECT count(*), count(DISTINCT (app, name)) FROM django_migrations").fetchone()
        assert known == (applied[1], applied[1])
        for table, column in (("auth_group", "name"), ("django_q_schedule", "name"), ("ml_modelversion", "version")):
            rows = [name for (name,) in referee.execute(f"SELECT {column} FROM {table}")]
            assert rows, table
            assert len(rows) == len(set(rows)), rows
