"""The demo as a program: starts, says so, keeps its data, ends without leftovers, explains a taken port."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import answers, processes_of, start_demo, stop_demo
from tests.tools import ROOT, free_port

pytestmark = pytest.mark.slow


def reports_by_state(var_dir: Path) -> dict[str, int]:
    with sqlite3.connect(var_dir / "demo" / "demo.sqlite3") as database:
        return dict(database.execute("SELECT state, COUNT(*) FROM reports_report GROUP BY state"))


@pytest.fixture
def used_var_dir(seeded_var_dir: Path, tmp_path: Path) -> Path:
    """A copy of the data of a demo that was started and stopped once."""
    shutil.copytree(seeded_var_dir, tmp_path / "var")
    return tmp_path / "var"


def test_the_first_start_fills_the_hospital_and_ctrl_c_leaves_no_process(used_var_dir: Path) -> None:
    states = reports_by_state(used_var_dir)
    assert set(states) == {"draft", "signed", "released"}
    with sqlite3.connect(used_var_dir / "demo" / "demo.sqlite3") as database:
        analyses = dict(database.execute("SELECT state, COUNT(*) FROM studies_analysis GROUP BY state"))
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert set(analyses) == {"succeeded"}
    assert processes_of(used_var_dir) == []


def test_the_second_start_keeps_the_data(used_var_dir: Path) -> None:
    before = reports_by_state(used_var_dir)
    with sqlite3.connect(used_var_dir / "demo" / "demo.sqlite3") as database:
        database.execute("UPDATE reports_report SET impression = 'kept by the second start' WHERE state = 'draft'")
    demo = start_demo(used_var_dir)
    assert stop_demo(demo) == 0
    assert reports_by_state(used_var_dir) == before
    with sqlite3.connect(used_var_dir / "demo" / "demo.sqlite3") as database:
        kept = database.execute("SELECT COUNT(*) FROM reports_report WHERE impression = 'kept by the second start'")
        assert kept.fetchone() == (before["draft"],)


def test_a_killed_terminal_ends_both_processes(used_var_dir: Path) -> None:
    demo = start_demo(used_var_dir)
    assert answers(demo.address)
    demo.process.send_signal(signal.SIGHUP)
    demo.process.wait(20)
    give_up_at = time.monotonic() + 10
    while processes_of(used_var_dir) and time.monotonic() < give_up_at:
        time.sleep(0.2)
    assert processes_of(used_var_dir) == []
    assert not answers(demo.address)


@pytest.mark.parametrize("port", ["taken", "0", "70000"])
def test_a_port_that_cannot_be_used_gets_a_sentence(tmp_path: Path, port: str) -> None:
    with socket.socket() as holder:
        if port == "taken":
            holder.bind(("127.0.0.1", free_port()))
            holder.listen()
            port = str(holder.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "manage.py", "demo", "--port", port],
            cwd=ROOT,
            env=os.environ | {"DJANGO_SETTINGS_MODULE": "portal.settings.demo", "IRA_VAR_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "PORT=" in done.stderr
    assert not (tmp_path / "demo" / "demo.sqlite3").exists()
