"""The database-bound suite on a real PostgreSQL server, which is what hospitals run."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools import ROOT, postgres_bin

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

DATABASE_BOUND = ["tests/accounts", "tests/studies", "tests/reports", "tests/test_permission_matrix.py"]


def _as_server(*command: str | Path) -> list[str]:
    """PostgreSQL refuses to run as root, so root hands the command to the user that the package made."""
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    return [*prefix, *map(str, command)]


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    """A throw-away server on a free port of the loopback address; removed afterwards."""
    binaries = postgres_bin()
    folder = Path(tempfile.mkdtemp(prefix="ira-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"
    subprocess.run(
        _as_server(binaries / "initdb", "-D", data, "-U", "portal", "-A", "trust", "-E", "UTF8", "--no-sync"),
        check=True,
        capture_output=True,
        cwd=folder,
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    subprocess.run(
        _as_server(binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"),
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=folder,
    )
    yield f"postgres://portal@127.0.0.1:{port}/postgres"
    subprocess.run(
        _as_server(binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop"),
        check=False,
        capture_output=True,
        cwd=folder,
    )
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(900)
def test_the_database_bound_suite_passes_on_postgresql(database_url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-x", "-m", "not browser", *DATABASE_BOUND],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": database_url, "IRA_VAR_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed.group(1)) > 50


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
