"""`dvc repro` in an empty checkout, from drawn sets to an evaluated model; and what it leaves alone after that."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from ml.runtime import load_model
from ml.tracking import EXPERIMENT
from pipelines import resume
from tests.sets import draw_all_layouts
from tests.tools import ROOT

pytest.importorskip("tensorflow", reason="training packages (requirements/ml.txt) are not installed")
pytest.importorskip("dvc", reason="training packages (requirements/ml.txt) are not installed")


STAGES = ("ingest", "prepare_base_model", "train", "evaluate")


def dvc(checkout: Path, *arguments: str) -> str:
    """Run DVC as a person would who has the virtual environment active; return what it said."""
    return run(checkout, sys.executable, "-m", "dvc", *arguments)


def run(checkout: Path, *command: str, **settings: str) -> str:
    """Run a command in the virtual environment; return what it said."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "IRA_", "MLFLOW_"))
    }
    environment.pop("DATABASE_URL", None)
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    } | settings
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A checkout with three small sets."""
    folder = tmp_path_factory.mktemp("repro")
    return with_sets(make_checkout(folder / "checkout"), sets=folder / "sets")


def make_checkout(checkout: Path) -> Path:
    """What git holds, and the quick parameters."""
    left_out = shutil.ignore_patterns(
        "var", "data", ".git", ".venv*", "__pycache__", ".*_cache", "mlruns", "node_modules", "tests", "tmp"
    )
    shutil.copytree(ROOT, checkout, ignore=left_out, symlinks=True)
    subprocess.run(["git", "init", "--quiet"], cwd=checkout, check=True)
    shutil.copyfile(checkout / "params.quick.yaml", checkout / "params.yaml")
    return checkout


def with_sets(checkout: Path, *, sets: Path) -> Path:
    """Three small sets behind a link."""
    draw_all_layouts(sets, nodule_patients=12, pictures_a_class=3, has_groups=False)
    (sets / "chest-ctscan-images/Data/test/normal/notes.txt").write_text("not a picture")
    (checkout / "data").symlink_to(sets, target_is_directory=True)
    return checkout


def the_runs_are_in_mlflow(checkout: Path, *, model_version: str, fingerprint: str) -> None:
    """Look into the store that the stages wrote without being asked to."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{checkout / 'var/mlflow.db'}")
    [experiment] = [one for one in client.search_experiments() if one.name == EXPERIMENT]
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {name: run.info.status for name, run in runs.items()} == dict.fromkeys(
        ("outline", "cross-validate", "classifier"), "FINISHED"
    )
    assert {run.data.tags["data_fingerprint"] for run in runs.values()} == {fingerprint}
    assert runs["outline"].data.params["outline.phases.0.name"] == "crops"
    assert [point.step for point in client.get_metric_history(runs["outline"].info.run_id, "outline/loss")] == [4, 8]
    last = runs["classifier"]
    assert last.data.tags["model_version"] == model_version
    assert {"classifier/valid_accuracy", "test_unseen_accuracy", "chest-ctscan/test_unseen/accuracy"} <= set(
        last.data.metrics
    )
    kept = {one.path for folder in ("card", "curves") for one in client.list_artifacts(last.info.run_id, folder)}
    assert {"card/model.json", "curves/classifier-history.png"} <= kept
    evaluated = client.list_artifacts(last.info.run_id, "evaluation/chest-ctscan")
    assert "evaluation/chest-ctscan/test_unseen_confusion.png" in {one.path for one in evaluated}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_way_runs_once_and_then_only_what_changed(checkout):
    said = dvc(checkout, "repro")
    assert [name for name in (*STAGES, "register") if f"Running stage '{name}'" in said] == [*STAGES, "register"]
    assert "not registered, because DATABASE_URL names no portal's database" in said

    ingested = json.loads((checkout / "var/ingest/data_report.json").read_text(encoding="utf-8"))
    assert ingested["class_set"]["pictures"] == 36
    assert "inferred" in ingested["class_set"]["groups_from"]
    assert [one["path"] for one in ingested["set_aside"]] == ["test/normal/notes.txt"]
    model = load_model(checkout / "var/train/model")
    assert {"grouped_cv_macro_f1", "official_test_accuracy"} <= set(model.card["figures"])
    report = json.loads((checkout / "var/evaluation/chest-ctscan/report.json").read_text(encoding="utf-8"))
    assert report["model_version"] == model.version
    assert (checkout / "var/evaluation/lidc-nodules/report.json").is_file()
    assert (checkout / "var/evaluation/whole-slices/report.json").is_file()

    [workspace] = json.loads(dvc(checkout, "metrics", "show", "--json")).values()  # no revision beside it
    figures = workspace["data"]["var/evaluation/metrics.json"]["data"]
    assert figures["chest-ctscan"]["test_unseen/accuracy"] == report["test_unseen"]["accuracy"]["value"]
    shown = dvc(checkout, "plots", "show", "--json")
    for name in ("outline", "classifier", "confusion", "var/evaluation/chest-ctscan/test_unseen_roc.png"):
        assert f'"{name}"' in shown
    the_runs_are_in_mlflow(checkout, model_version=model.version, fingerprint=model.card["training"]["fingerprint"])

    said = dvc(checkout, "repro")
    for name in STAGES:
        assert f"Stage '{name}' didn't change, skipping" in said

    dvc(checkout, "push")
    shutil.rmtree(checkout / ".dvc/cache")
    shutil.rmtree(checkout / "var/train/model")
    dvc(checkout, "pull", "train")
    assert load_model(checkout / "var/train/model").version == model.version
    dvc(checkout, "pull")  # what is not in the cache, `dvc status` calls changed

    parameters = (checkout / "params.yaml").read_text(encoding="utf-8")
    (checkout / "params.yaml").write_text(parameters.replace("dropout: 0.3", "dropout: 0.2"), encoding="utf-8")
    said = dvc(checkout, "status")
    assert "train:" in said
    assert "ingest:" not in said
    assert "prepare_base_model:" not in said


@pytest.mark.acceptance
@pytest.mark.timeout(3600)
def test_another_machine_fetches_what_one_has_made_and_runs_nothing_again(tmp_path):
    """`.ci/reproduce` on two machines that share a store; the second has no data sets."""
    store = str(tmp_path / "store")
    first = with_sets(make_checkout(tmp_path / "first"), sets=tmp_path / "sets")
    said = run(first, ".ci/reproduce", DVC_REMOTE_URL=store)
    assert [name for name in STAGES if f"Running stage '{name}'" in said] == [*STAGES]
    version = load_model(first / "var/train/model").version
    shutil.move(first, tmp_path / "gone")
    shutil.rmtree(tmp_path / "sets")

    second = make_checkout(tmp_path / "second")
    lock = (tmp_path / "gone/dvc.lock").read_bytes()
    (second / "dvc.lock").write_bytes(lock)
    said = run(second, ".ci/reproduce", DVC_REMOTE_URL=store)
    for name in STAGES:
        assert f"Stage '{name}' didn't change, skipping" in said
    assert (second / "dvc.lock").read_bytes() == lock
    assert load_model(second / "var/train/model").version == version
    assert (second / "var/evaluation/chest-ctscan/report.json").is_file()

    parameters = (second / "params.yaml").read_text(encoding="utf-8")
    (second / "params.yaml").write_text(parameters.replace("dropout: 0.3", "dropout: 0.2"), encoding="utf-8")
    said = dvc(second, "repro", "--dry", "--allow-missing")
    # Dry, so that what follows the training still looks unchanged.
    assert [name for name in STAGES if f"Running stage '{name}'" in said] == ["train"]


class TestCheckpoints:
    @pytest.fixture
    def stage(self, tmp_path, monkeypatch):
        """Ends a stage well, or as a kill would."""
        monkeypatch.setattr(resume, "PARAMS", tmp_path / "params.yaml")
        (tmp_path / "params.yaml").write_text("seed: 0\nclassifier: {dropout: 0.3}\noutline: {width: 1}\n")
        (tmp_path / "manifest.csv").write_text("one")

        def run(*, is_killed: bool) -> bool:
            """Return whether the checkpoint of before was there."""
            checkpoint = tmp_path / "out/small-classifier.npz"
            ending = pytest.raises(KeyboardInterrupt) if is_killed else nullcontext()
            with (
                ending,
                resume.resumable(
                    tmp_path / "out",
                    pattern="*-classifier.npz",
                    sections=("seed", "classifier"),
                    inputs=(tmp_path / "manifest.csv",),
                    record="classifier-history.csv",
                ),
            ):
                was_there = checkpoint.exists()
                checkpoint.write_text("half way")
                if is_killed:
                    raise KeyboardInterrupt
            return was_there

        return run

    def test_a_killed_stage_goes_on(self, stage, tmp_path):
        stage(is_killed=True)
        (tmp_path / "out/crops-outline.npz").write_text("another stage's")
        assert stage(is_killed=True)
        assert (tmp_path / "out/crops-outline.npz").exists()

    def test_a_finished_stage_starts_anew(self, stage):
        stage(is_killed=False)
        assert not stage(is_killed=True)

    @pytest.mark.parametrize(("name", "text"), [("params.yaml", "{seed: 0, classifier: {}}"), ("manifest.csv", "two")])
    def test_other_parameters_or_data_start_anew(self, stage, tmp_path, name, text):
        stage(is_killed=True)
        (tmp_path / name).write_text(text)
        assert not stage(is_killed=True)

    def test_other_parameters_of_another_stage_do_not(self, stage, tmp_path):
        stage(is_killed=True)
        (tmp_path / "params.yaml").write_text("seed: 0\nclassifier: {dropout: 0.3}\noutline: {width: 2}\n")
        assert stage(is_killed=True)


def test_the_quick_parameters_are_read_and_have_the_same_sections():
    from ml.training.parameters import load_parameters

    quick = load_parameters(ROOT / "params.quick.yaml")
    assert quick.outline.width < 0.1
    sections = [yaml.safe_load((ROOT / name).read_text()) for name in ("params.yaml", "params.quick.yaml")]
    assert set(sections[0]) == set(sections[1])
