"""The model in use with real processes on a real database file: a running worker, and processes that are killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with all tables and no rows, to be copied."""
    folder = tmp_path_factory.mktemp("migrated")
    run(folder, "manage.py", "migrate", "-v0")
    return folder


@pytest.fixture(scope="module")
def folder(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(migrated, tmp_path_factory.mktemp("models") / "var"))


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "portal.settings.test",
        "DATABASE_URL": f"sqlite:///{folder / 'portal.sqlite3'}",
        "IRA_VAR_DIR": str(folder),
    }


def run(folder: Path, *arguments: str) -> str:
    """Run a process to its end and return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def act(folder: Path, action: str) -> dict[str, Any]:
    return json.loads(run(folder, "-m", "tests.studies.model_driver", action, str(folder)))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def played(folder: Path) -> Iterator[dict[str, Any]]:
    """What each analysis was answered by, while a worker ran from the beginning to the end."""
    log = (folder / "cluster.log").open("w")
    command = [sys.executable, "-m", "tests.studies.model_driver", "cluster", str(folder)]
    worker = subprocess.Popen(
        command, cwd=ROOT, env=environment(folder), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield act(folder, "play")
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        log.close()


def test_a_running_worker_answers_with_what_was_promoted(played: dict[str, Any]) -> None:
    assert played["before"] == [["succeeded", "first"]]
    assert played["after"] == [["succeeded", "v2"]]
    assert played["rolled back"] == [["succeeded", "first"]]


def test_no_analysis_fails_while_the_model_changes(played: dict[str, Any]) -> None:
    assert {state for state, _version in played["during"]} == {"succeeded"}
    versions = [version for _state, version in played["during"]]
    assert versions == sorted(versions), "An older version answered after a newer one."
    assert set(versions) == {"first", "v2"}


def test_the_worker_is_the_same_process_throughout(played: dict[str, Any]) -> None:
    assert played["processes"] == 1


def test_the_challenger_answers_in_shadow_and_the_champion_is_shown(played: dict[str, Any]) -> None:
    assert played["beside"] == [["succeeded", "v2"]] * 2
    assert played["shadows"] == 1.0


@pytest.fixture(scope="module")
def killed(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was left after each of the processes that were killed."""
    return act(Path(shutil.copytree(migrated, tmp_path_factory.mktemp("killed") / "var")), "kills")


def test_a_kill_leaves_exactly_one_champion_that_is_whole(killed: dict[str, Any]) -> None:
    outcomes = {name: one for name, one in killed.items() if isinstance(one, dict)}
    assert len(outcomes) == 15
    for name, one in outcomes.items():
        assert one["exit"] == -signal.SIGKILL, name
        assert len(one["champions"]) == 1, name
        assert one["champions"] == [one["in force"]], name


def test_before_the_commit_the_old_one_answers_and_after_it_the_new_one(killed: dict[str, Any]) -> None:
    answers = {name.removeprefix("promote_dying_"): one["champions"] for name, one in killed.items() if "dying" in name}
    assert answers["before_the_change"] == ["killed-0"]
    assert answers["between_old_and_new"] == ["killed-0"]
    assert answers["before_the_commit"] == ["killed-0"]
    assert answers["after_the_commit"] == ["killed-1"]


def test_a_version_is_registered_whole_or_not_at_all(killed: dict[str, Any]) -> None:
    copied = {
        name.removeprefix("register_dying_"): (one["whole"], one["registered"])
        for name, one in killed.items()
        if name.startswith("register") and isinstance(one, dict)
    }
    assert copied == {
        "in_the_copy": (False, False),
        "before_the_rename": (False, False),
        "before_the_row": (True, False),
    }
    assert killed["registered afterwards"] == "killed-2"
