"""What tests of several rooms use. A missing tool: a skip with the reason, or a failure where ``REQUIRE_ALL=1``."""

import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from django.db import connection

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the running test, or fail it where every tool is required. ``reason`` is one line."""
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"REQUIRE_ALL=1 and {reason}", pytrace=False)
    pytest.skip(reason)


def free_port() -> int:
    """Return a port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(
    condition: Callable[[], object], *, within_s: float, what: str | Callable[[], str], every_s: float = 0.1
) -> None:
    """Return as soon as the condition holds; fail with ``what`` otherwise (a function is asked then)."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"Waited {within_s} s in vain for: {what if isinstance(what, str) else what()}")
        time.sleep(every_s)


def chromium() -> str:
    """Return the path of the system's Chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    skip_or_fail("no Chromium is installed (apt-get install chromium)")


def find_postgres() -> Path | None:
    """Return the folder of PostgreSQL's server programs, or None where there are none."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    path = shutil.which("initdb")
    return Path(path).parent if path else None


def postgres_bin() -> Path:
    """Return the folder of PostgreSQL's server programs."""
    return find_postgres() or skip_or_fail("no PostgreSQL server is installed (apt-get install postgresql)")


def shared_data(*parts: str) -> Path:
    """Return a file or folder of the real CT data. Not a tool: where the data is absent, the test is skipped."""
    path = SHARED_DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip("the real CT data (../shared/data) is not on this machine")
    return path


def skip_where_threads_share_the_database() -> None:
    """Leave a test of two people at the same moment to the run on PostgreSQL (tests/test_postgres.py).

    SQLite in memory has one cache for all threads: whoever comes second gets an error at once instead of waiting.
    """
    if connection.vendor == "sqlite":
        pytest.skip("two writers at the same moment: runs on PostgreSQL, see tests/test_postgres.py")
