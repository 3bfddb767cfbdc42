"""`.ci/reproduce` on machines that share nothing but a store; tests/pipelines/test_repro.py has it train for real."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools import ROOT

SCRIPT = ROOT / ".ci/reproduce"
# As ours: data sets that no store holds, a stage that is asked each time.
PIPELINE = """
stages:
  ingest: {cmd: "mkdir -p var && cp data var/ingested", deps: [data], outs: [var/ingested]}
  train: {cmd: "cp params.yaml var/model", deps: [var/ingested], params: [seed], outs: [var/model]}
  register: {cmd: "cat var/model", deps: [var/model], always_changed: true}
"""
# Stands in for DVC where only what it is told matters.
ECHO = '#!/bin/sh\necho "$@"\n'


def reproduce(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(folder), "DVC_NO_ANALYTICS": "1"} | settings
    return subprocess.run([SCRIPT], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def checkout(folder: Path) -> Path:
    """Return what git holds."""
    folder.mkdir()
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=folder, check=True)
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "params.yaml").write_text("seed: 0\n")
    return folder


@pytest.mark.slow
def test_another_machine_without_the_data_sets_fetches_what_was_made_of_them_and_goes_on_from_there(
    tmp_path: Path,
) -> None:
    pytest.importorskip("dvc", reason="training packages (requirements/ml.txt) are not installed")
    store = str(tmp_path / "store")
    first, second = checkout(tmp_path / "first"), checkout(tmp_path / "second")
    (first / "data").write_text("slices")
    done = reproduce(first, DVC_REMOTE_URL=store)
    assert done.returncode == 0, done.stderr
    for name in ("ingest", "train", "register"):
        assert f"Running stage '{name}'" in done.stdout

    lock = (first / "dvc.lock").read_text()
    (second / "dvc.lock").write_text(lock)
    done = reproduce(second, DVC_REMOTE_URL=store)
    assert done.returncode == 0, done.stderr
    for name in ("ingest", "train"):
        assert f"Stage '{name}' didn't change, skipping" in done.stdout
    assert (second / "var/ingested").read_text() == "slices"
    assert (second / "dvc.lock").read_text() == lock

    (second / "params.yaml").write_text("seed: 1\n")
    done = reproduce(second, DVC_REMOTE_URL=store)
    assert done.returncode == 0, done.stderr
    assert "Running stage 'train'" in done.stdout
    assert (second / "var/model").read_text() == "seed: 1\n"


def test_the_store_is_dagshubs_with_a_token_or_the_one_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "dvc").write_text(ECHO)
    (tmp_path / "dvc").chmod(0o755)
    told = {"DVC": str(tmp_path / "dvc")}
    of_dagshub = {"DAGSHUB_REPOSITORY": "hospital/portal"}
    assert reproduce(tmp_path, **told, **of_dagshub, DAGSHUB_USER="ann", DAGSHUB_TOKEN="t").stdout.splitlines() == [
        "remote add --quiet --force --local --default store https://dagshub.com/hospital/portal.dvc",
        "remote modify --local store auth basic",
        "remote modify --local store user ann",
        "remote modify --local store password t",
        "repro --allow-missing",
        "push",
    ]
    named = reproduce(tmp_path, **told, **of_dagshub, DVC_REMOTE_URL="/mnt/share").stdout.splitlines()
    assert named[0].endswith(" store /mnt/share")
    nobody = reproduce(tmp_path, **told, **of_dagshub, DAGSHUB_TOKEN="t")
    assert (nobody.returncode, "DAGSHUB_TOKEN is set, but DAGSHUB_USER is not." in nobody.stderr) == (1, True)
    nowhere = reproduce(tmp_path, **told)
    assert (nowhere.returncode, nowhere.stdout) == (2, "")
    assert "No store is named. Please set DAGSHUB_REPOSITORY" in nowhere.stderr
