"""The demo as a program: starts, says so, keeps its data, ends without leftovers, explains a taken port."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import answers, free_port, start_demo, stop_demo
from tests.tools import ROOT

pytestmark = pytest.mark.slow


def processes_of(var_dir: Path) -> list[str]:
    """Return the command lines of all living processes that were started for this demo's folder."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            environment = (folder / "environ").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if f"IRA_VAR_DIR={var_dir}".encode() in environment.split(b"\0") and state != "Z":
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def reports_by_state(var_dir: Path) -> dict[str, int]:
    with sqlite3.connect(var_dir / "demo" / "demo.sqlite3") as database:
        return dict(database.execute("SELECT state, COUNT(*) FROM reports_report GROUP BY state"))


@pytest.fixture
def seeded_var_dir(tmp_path: Path) -> Path:
    """A demo that was started and stopped once."""
    demo = start_demo(tmp_path)
    assert stop_demo(demo) == 0
    return tmp_path


def test_the_first_start_fills_the_hospital_and_ctrl_c_leaves_no_process(seeded_var_dir: Path) -> None:
    states = reports_by_state(seeded_var_dir)
    assert set(states) == {"draft", "signed", "released"}
    with sqlite3.connect(seeded_var_dir / "demo" / "demo.sqlite3") as database:
        analyses = dict(database.execute("SELECT state, COUNT(*) FROM studies_analysis GROUP BY state"))
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert set(analyses) == {"succeeded"}
    assert processes_of(seeded_var_dir) == []


def test_the_second_start_keeps_the_data(seeded_var_dir: Path) -> None:
    before = reports_by_state(seeded_var_dir)
    with sqlite3.connect(seeded_var_dir / "demo" / "demo.sqlite3") as database:
        database.execute("UPDATE reports_report SET impression = 'kept by the second start' WHERE state = 'draft'")
    demo = start_demo(seeded_var_dir)
    assert stop_demo(demo) == 0
    assert reports_by_state(seeded_var_dir) == before
    with sqlite3.connect(seeded_var_dir / "demo" / "demo.sqlite3") as database:
        kept = database.execute("SELECT COUNT(*) FROM reports_report WHERE impression = 'kept by the second start'")
        assert kept.fetchone() == (before["draft"],)


def test_a_killed_terminal_ends_both_processes(tmp_path: Path) -> None:
    demo = start_demo(tmp_path)
    assert answers(demo.address)
    demo.process.send_signal(signal.SIGHUP)
    demo.process.wait(20)
    give_up_at = time.monotonic() + 10
    while processes_of(tmp_path) and time.monotonic() < give_up_at:
        time.sleep(0.2)
    assert processes_of(tmp_path) == []
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
