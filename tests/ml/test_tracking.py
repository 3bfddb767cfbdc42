"""What a training leaves behind: its table of epochs, its run in MLflow, and the packaged model that MLflow serves."""

import base64
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from ml.errors import DivergedError, TrackingError
from ml.history import History, read_history
from ml.inference import analyse
from ml.metrics import figures_of
from ml.recording import Recorder
from ml.runtime import STARTER_DIRECTORY, load_model, read_card
from tests.tools import ROOT, free_port

pytest.importorskip("mlflow", reason="training packages (requirements/ml.txt) are not installed")

from ml import tracking

SLICE = ROOT / "fixtures/part-solid-nodule.png"


class TestHistory:
    def test_steps_count_on_over_the_phases(self, tmp_path):
        history = History(tmp_path, stage="outline", is_resumed=False)
        for step in (4, 8, 4, 6):
            history.epoch(step, {"loss": 1 / step})
        assert [row["step"] for row in read_history(history.path)] == [4, 8, 12, 14]

    def test_a_resumed_training_goes_on_in_its_table(self, tmp_path):
        History(tmp_path, stage="outline", is_resumed=False).epoch(4, {"loss": 2.0})
        seen = []
        resumed = History(tmp_path, stage="outline", is_resumed=True)
        resumed.follow(lambda step, figures: seen.append(step))
        resumed.epoch(8, {"loss": 1.0, "valid_dice": 0.5})
        assert seen == [8]
        assert [row["loss"] for row in read_history(resumed.path)] == [2.0, 1.0]
        assert "valid_dice" not in read_history(resumed.path)[0]

    def test_a_new_training_begins_a_new_table(self, tmp_path):
        History(tmp_path, stage="outline", is_resumed=False).epoch(4, {"loss": 2.0})
        anew = History(tmp_path, stage="outline", is_resumed=False)
        anew.epoch(4, {"loss": 1.0})
        assert len(read_history(anew.path)) == 1


@pytest.fixture(scope="module")
def var(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("var")


@pytest.fixture
def store(var, monkeypatch):
    """Return a client of the store that a run writes to when nobody names one."""
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("IRA_VAR_DIR", str(var))
    return MlflowClient(f"sqlite:///{var / 'mlflow.db'}")


def package_of(run_id: str, *, store) -> Path:
    """Return the folder of the model that a run has logged."""
    [model] = store.search_logged_models([store.get_run(run_id).info.experiment_id], f"source_run_id='{run_id}'")
    return Path(model.artifact_location.removeprefix("file://"))


class TestRun:
    def test_a_run_keeps_parameters_data_code_epochs_figures_card_and_model(self, store, tmp_path):
        run = tracking.Run(name="all", parameters={"outline": {"phases": [{"side": 48}]}, "levels": (3, 4)})
        with Recorder(tmp_path, is_resumed=False, followers=[run]) as recorder:
            recorder.data(fingerprint="f" * 64)
            on_epoch = recorder.epochs("outline")
            on_epoch(4, {"loss": 2.0, "valid_dice": 0.1})
            on_epoch(8, {"loss": 1.0, "valid_dice": 0.2})
            recorder.model(STARTER_DIRECTORY)
        kept = store.get_run(run.run_id)
        assert kept.info.status == "FINISHED"
        assert kept.data.params == {"outline.phases.0.side": "48", "levels": "(3, 4)"}
        card = read_card(STARTER_DIRECTORY)
        assert kept.data.tags["data_fingerprint"] == card["training"]["fingerprint"]
        assert kept.data.tags["model_version"] == card["version"]
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        assert kept.data.tags.get("git_commit", "") == commit.stdout.strip()
        assert [(one.step, one.value) for one in store.get_metric_history(run.run_id, "outline/loss")] == [
            (4, 2.0),
            (8, 1.0),
        ]
        assert kept.data.metrics["test_unseen_accuracy"] == card["figures"]["test_unseen_accuracy"]["value"]
        files = {one.path for folder in ("card", "curves") for one in store.list_artifacts(run.run_id, folder)}
        assert files == {"card/model.json", "curves/outline-history.csv", "curves/outline-history.png"}
        assert (tmp_path / "outline-history.png").read_bytes().startswith(b"\x89PNG")
        self.check_package(package_of(run.run_id, store=store))
        self.check_evaluation(store, run.run_id, folder=tmp_path / "chest-ctscan", version=card["version"])

    def check_package(self, package) -> None:
        """The model of the run: our code beside it as text, nothing pickled, the serving packages pinned."""
        assert not [path for path in package.rglob("*") if path.suffix in (".pkl", ".pickle")]
        code = {path.name for path in (package / "code/ml").iterdir() if path.suffix == ".py"}
        assert {"inference.py", "dicom.py", "packaged.py"} <= code
        assert not {"tracking.py", "export.py", "evaluation.py"} & code
        required = (package / "requirements.txt").read_text()
        assert "ai-edge-litert==" in required
        assert "tensorflow" not in required

    def check_evaluation(self, store, run_id, *, folder, version) -> None:
        folder.mkdir()
        report = {"test_unseen": {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}, "n": 3}}
        (folder / "report.json").write_text(json.dumps(report))
        assert tracking.add_evaluation(folder, model_version=version) == run_id
        assert store.get_run(run_id).data.metrics["chest-ctscan/test_unseen/accuracy"] == 0.5
        assert tracking.add_evaluation(folder, model_version="another") is None

    def test_a_training_that_fails_is_a_failed_run_with_its_curves(self, store, tmp_path):
        run = tracking.Run(name="outline")

        def diverge() -> None:
            with Recorder(tmp_path, is_resumed=False, followers=[run]) as recorder:
                recorder.epochs("outline")(4, {"loss": 9.0})
                raise DivergedError("The loss is no longer a number.")

        with pytest.raises(DivergedError):
            diverge()
        assert store.get_run(run.run_id).info.status == "FAILED"
        assert len(store.list_artifacts(run.run_id, "curves")) == 2

    def test_a_server_that_is_away_is_told_before_the_training(self, monkeypatch):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9 cannot be used") as caught:
            tracking.Run(name="outline").__enter__()
        assert "--no-mlflow" in str(caught.value)
        assert "secret@" not in str(caught.value).split(" cannot be used")[0]


def answer_of(address: str, *, pictures: list[bytes], process: subprocess.Popen) -> list[dict]:
    """Ask a served model until it is up; at most two minutes."""
    rows = [[base64.b64encode(one).decode()] for one in pictures]
    body = json.dumps({"dataframe_split": {"columns": ["image"], "data": rows}}).encode()
    request = urllib.request.Request(address, data=body, headers={"Content-Type": "application/json"})
    until = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.loads(response.read())["predictions"]
        except urllib.error.URLError as error:
            if isinstance(error, urllib.error.HTTPError) or process.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.3)


@pytest.mark.slow
def test_mlflow_serves_what_the_portal_answers(store, tmp_path):
    with tracking.Run(name="all") as run:
        run.model(STARTER_DIRECTORY)
    package = package_of(run.run_id, store=store)
    port = free_port()
    # Away from the checkout and without its path: what answers is the code in the package.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["mlflow", "models", "serve", "-m", package, "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]
    log = (tmp_path / "serve.log").open("w")
    with log, subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log) as process:
        try:
            answers = answer_of(
                f"http://127.0.0.1:{port}/invocations", pictures=[SLICE.read_bytes(), b"no picture"], process=process
            )
        finally:
            process.terminate()
    expected = analyse(SLICE, model=load_model(STARTER_DIRECTORY)).to_json()
    assert {**answers[0], "duration_ms": 0} == {**expected, "duration_ms": 0}
    assert answers[1]["error"].endswith(".")


def test_figures_of_a_report_are_found_at_any_depth():
    report = {"a": {"b": {"value": 0.5, "low": 0.1}, "c": {"value": None}}, "d": {"value": 1}, "on": "text", "n": 7}
    assert figures_of(report) == {"a/b": 0.5, "d": 1.0}


def test_an_address_is_shown_without_its_password():
    assert tracking.without_password("https://user:token@host/path") == "https://host/path"
    assert tracking.without_password("sqlite:////var/mlflow.db") == "sqlite:////var/mlflow.db"
