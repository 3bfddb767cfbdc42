"""The whole circle: doctors correct, the pipeline trains with it, a version is tried, promoted and taken back."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ml.runtime import STARTER_DIRECTORY, read_card
from tests.pipelines.circle_driver import ROOT_EMAIL
from tests.sets import draw_all_layouts
from tests.tools import ROOT

pytest.importorskip("tensorflow", reason="training packages (requirements/ml.txt) are not installed")
pytest.importorskip("dvc", reason="training packages (requirements/ml.txt) are not installed")

LEFT_OUT = shutil.ignore_patterns(
    "var", "data", ".git", ".venv*", "__pycache__", ".*_cache", "mlruns", "node_modules", "tests", "tmp"
)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One portal for all processes: its database, its store and its versions lie in a folder of the test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("IRA_", "MLFLOW_"))}
    return kept | {
        "DJANGO_SETTINGS_MODULE": "portal.settings.test",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'portal.sqlite3'}",
        "IRA_VAR_DIR": str(tmp_path / "var"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What git holds, with the quick parameters, whose data is the export."""
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT, checkout, ignore=LEFT_OUT, symlinks=True)
    subprocess.run(["git", "init", "--quiet"], cwd=checkout, check=True)
    quick = (checkout / "params.quick.yaml").read_text(encoding="utf-8")
    (checkout / "params.yaml").write_text(quick.replace("source: data", "source: datasets/portal/data"))
    draw_all_layouts(tmp_path / "sets", nodule_patients=12, pictures_a_class=3)
    return checkout


@pytest.fixture
def run(checkout: Path, environment: dict[str, str]) -> Callable[..., str]:
    """Run a command in the checkout and return what it said; anything but success fails the test."""

    def run_it(*command: object, cwd: Path = checkout) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    return run_it


@pytest.fixture
def act(run: Callable[..., str]) -> Callable[..., dict[str, Any]]:
    """Have somebody do something in the portal, in a process of its own."""

    def do(action: str, argument: object = "") -> dict[str, Any]:
        said = run("-m", "tests.pipelines.circle_driver", action, argument, cwd=ROOT)
        answer: dict[str, Any] = json.loads(said.splitlines()[-1])
        return answer

    return do


@pytest.fixture
def worker(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Start one worker; it is never started again, whichever version is to answer."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        with (tmp_path / "worker.log").open("wb") as log:
            command = [sys.executable, "manage.py", "qcluster"]
            started.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))

    yield start
    for process in started:
        assert process.poll() is None, (tmp_path / "worker.log").read_text()[-3000:]
        process.terminate()
        process.wait(60)


@pytest.mark.acceptance
@pytest.mark.timeout(3600)
def test_corrections_become_a_version_that_is_tried_promoted_and_taken_back(
    run: Callable[..., str],
    act: Callable[..., dict[str, Any]],
    worker: Callable[[], None],
    checkout: Path,
    tmp_path: Path,
) -> None:
    run("manage.py", "migrate", "-v0")

    # Corrections in the portal become a versioned data set beside the training sets.
    act("correct")
    said = run("manage.py", "export_labels", "--out", "datasets/portal", "--with", tmp_path / "sets", "--dvc")
    assert "4 slices of 4 patients" in said
    labels = json.loads((checkout / "datasets/portal/export.json").read_text())
    assert labels["outlines"] == 4
    assert (checkout / "datasets/portal/data.dvc").is_file()

    # The pipeline trains on it and registers what comes out.
    run("-m", "dvc", "repro")
    card = read_card(checkout / "var/train/model")
    new, old = card["version"], read_card(STARTER_DIRECTORY)["version"]
    manifest = (checkout / "var/train/model/manifest.csv").read_text()
    assert manifest.count("portal-") >= 8
    assert all(",train," in line for line in manifest.splitlines() if "portal-" in line)
    assert new in run("manage.py", "models")

    # In shadow, the champion answers and the challenger's answer is kept apart.
    run("manage.py", "challenge", new, "--share", "1", "--by", ROOT_EMAIL)
    worker()
    first = answered(act, seed=900, waits_for_shadow=True)
    assert (first["version"], first["shadow_version"], first["shadow"]) == (old, new, "answered")

    # Networks a twentieth as wide are worse than the champion: refused, then forced with a reason on record.
    with pytest.raises(AssertionError, match="was not promoted"):
        run("manage.py", "promote", new, "--by", ROOT_EMAIL)
    run("manage.py", "promote", new, "--by", ROOT_EMAIL, "--force", "--reason", "the circle's test")
    assert answered(act, seed=901)["version"] == new

    run("manage.py", "rollback", "--by", ROOT_EMAIL, "--reason", "the circle's test is over")
    assert answered(act, seed=902)["version"] == old

    trail = act("trail")
    # Promoting names what answered until then the first model, so that there is something to go back to.
    kinds = [one[0] for one in trail["deployments"] if one[0] != "challenge_ended"]
    assert kinds == ["challenged", "first", "promoted", "rolled_back"]
    assert [one[1:] for one in trail["deployments"] if one[0] == "promoted"] == [[new, True, ROOT_EMAIL]]
    assert {"ingestion", "base_model", "training", "evaluation", "inference", "deployment"} <= set(trail["events"])
    assert trail["deployed"] >= 3
    assert trail["versions"][old] == "champion"
    assert ["classifier", "finished"] in trail["trainings"]


def answered(act: Callable[..., dict[str, Any]], *, seed: int, waits_for_shadow: bool = False) -> dict[str, Any]:
    """Upload a slice and wait for the worker's answer, at most five minutes."""
    analysis = act("upload", seed)["analysis"]
    until = time.monotonic() + 300
    while time.monotonic() < until:
        seen = act("look", analysis)
        assert seen["state"] != "failed", seen
        if seen["state"] == "succeeded" and (not waits_for_shadow or seen["shadow"] == "answered"):
            return seen
        time.sleep(1)
    pytest.fail(f"No answer: {seen}")
