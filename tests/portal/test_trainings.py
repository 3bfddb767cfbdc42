"""Trainings in the portal: asked for, worked off by a trainer, watched, stopped, lost; and what is worth judging."""

import io
import sys
import uuid
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Role, User
from ml.errors import TrainingRunError
from ml.management.commands import trainer
from ml.models import ModelVersion, TrainingRun
from ml.run_rows import RowFollower, row_of
from ml.runtime import STARTER_DIRECTORY, read_card
from portal.learning.plots import comparison_of, curves_of
from portal.learning.worth_judging import REASONS, most_worth
from portal.tasks import sweep_trainings
from studies.models import InferenceRecord
from tests.factories import DoctorFactory, HospitalFactory, UserFactory
from tests.learning_slices import analysed_study, judge_class

pytestmark = pytest.mark.django_db
State = TrainingRun.State


@pytest.fixture
def owner() -> User:
    return UserFactory(role=Role.ADMINISTRATOR, is_staff=True, is_superuser=True)


@pytest.fixture
def client(owner: User) -> Client:
    client = Client()
    client.force_login(owner)
    return client


def ask(**options: object) -> TrainingRun:
    return TrainingRun.objects.ask(by=None, options=options)


class TestStates:
    def test_one_training_is_asked_for_at_a_time(self):
        first = ask()
        with pytest.raises(TrainingRunError, match="waits or is under way"):
            ask()
        TrainingRun.objects.begin(name="outline")
        first.cancel()
        assert ask().state == State.QUEUED

    def test_of_two_trainers_one_gets_it(self):
        run = ask()
        assert TrainingRun.objects.claim().id == run.id
        assert TrainingRun.objects.claim() is None

    def test_a_trainer_that_died_is_noticed(self):
        ask()
        run = TrainingRun.objects.claim()
        assert sweep_trainings() == {"lost": 0, "asked": 0}
        long_ago = timezone.now() - TrainingRun.LOST_AFTER - timedelta(seconds=1)
        TrainingRun.objects.update(seen_at=long_ago)
        assert sweep_trainings()["lost"] == 1
        # Back from the dead, it neither goes on nor ends well.
        assert not run.beat()
        run.finish()
        assert (run.state, run.error) == (State.FAILED, TrainingRun.LOST)

    def test_stopping_is_a_wish_while_it_runs_and_refused_after(self):
        ask()
        run = TrainingRun.objects.claim()
        run.cancel()
        assert not run.beat()
        run.stopped()
        assert run.state == State.CANCELLED
        with pytest.raises(TrainingRunError, match="ended already"):
            run.cancel()

    def test_the_schedule_asks_when_due_and_only_then(self, settings):
        assert sweep_trainings()["asked"] == 0
        settings.RETRAIN_EVERY_DAYS = 7
        assert sweep_trainings()["asked"] == 1
        assert sweep_trainings()["asked"] == 0
        TrainingRun.objects.get().cancel()
        assert sweep_trainings()["asked"] == 0
        TrainingRun.objects.update(requested_at=timezone.now() - timedelta(days=8))
        assert sweep_trainings()["asked"] == 1
        assert TrainingRun.objects.filter(source="schedule", options={"from_portal": True}).count() == 2


class TestTheRow:
    def test_it_holds_parameters_data_curves_figures_and_version(self):
        row = row_of(None, name="all")
        parameters = {"outline": {"levels": (3, 4), "rate": 0.1}}
        with RowFollower(row, parameters=parameters, mlflow_run=None, is_ended_here=True) as follower:
            follower.data(fingerprint="f" * 64, labels_version="2026.11.28-aa")
            follower.epochs("outline")(4, {"loss": 2.0})
            follower.epochs("outline")(8, {"loss": np.float32(1.5)})
            follower.model(STARTER_DIRECTORY)
        row.refresh_from_db()
        card = read_card(STARTER_DIRECTORY)
        assert row.state == State.FINISHED
        assert row.parameters == {"outline.levels": "(3, 4)", "outline.rate": 0.1}
        assert (row.data_fingerprint, row.labels_version) == ("f" * 64, "2026.11.28-aa")
        assert row.curves == {"outline": [{"step": 4, "loss": 2.0}, {"step": 8, "loss": 1.5}]}
        assert row.figures["lidc_dice"] == round(card["figures"]["lidc_dice"]["value"], 6)
        assert row.model_version == card["version"]
        [plot] = curves_of(row)
        assert plot.summary == "outline: loss: 2.000 → 1.500 (1.500–2.000)"

    def test_an_error_is_kept(self):
        row = row_of(None, name="all")
        follower = RowFollower(row, parameters={}, mlflow_run=None, is_ended_here=True)
        with pytest.raises(ZeroDivisionError), follower:
            raise ZeroDivisionError("no")
        row.refresh_from_db()
        assert (row.state, row.error) == (State.FAILED, "no")


@pytest.fixture
def work(monkeypatch, settings, tmp_path):
    """Let the trainer run a small program instead of hours of training: what it says and leaves is given."""
    settings.VAR_DIR, settings.MODELS_DIR = tmp_path, tmp_path / "models"
    monkeypatch.setattr(trainer, "BEAT_S", 0.05)

    def set_up(program: str) -> None:
        def command(row: TrainingRun, *, folder: Path) -> list[str]:
            return [sys.executable, "-c", program, str(folder), str(STARTER_DIRECTORY)]

        monkeypatch.setattr(trainer, "command_of", command)

    return set_up


def is_alive(number: int) -> bool:
    """Whether a process still does something: one that is gone, or that nobody has buried yet, does not."""
    stat = Path(f"/proc/{number}/stat")
    return stat.is_file() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def work_off() -> str:
    said = io.StringIO()
    call_command("trainer", "--once", stdout=said, stderr=said)
    return said.getvalue()


class TestTrainer:
    def test_a_training_becomes_a_registered_version_that_answers_nobody(self, work):
        work("import sys, shutil; print('24/24 loss'); shutil.copytree(sys.argv[2], sys.argv[1] + '/model')")
        run = ask(from_portal=True)
        said = work_off()
        run.refresh_from_db()
        assert run.state == State.FINISHED, said
        version = ModelVersion.objects.get(version=run.model_version)
        assert not version.is_champion
        assert str(run.id) in version.note

    def test_a_failed_training_says_why(self, work):
        work("import sys; print('step 4'); sys.exit('CommandError: The loss is no longer a number.')")
        run = ask()
        work_off()
        run.refresh_from_db()
        assert run.state == State.FAILED
        assert run.error == "The loss is no longer a number."

    def test_a_stopped_one_ends_with_all_it_started_and_leaves_no_pictures(self, work, tmp_path):
        work(
            "import sys, time, subprocess, pathlib\n"
            "folder = pathlib.Path(sys.argv[1]); (folder / 'labels').mkdir()\n"
            "child = subprocess.Popen(['sleep', '300']); (folder / 'child').write_text(str(child.pid))\n"
            "print('at it', flush=True); time.sleep(300)"
        )
        run = ask()
        original, folder = TrainingRun.beat, tmp_path / "trainings" / str(run.id)

        def beat(row: TrainingRun, *, progress: str | None = None) -> bool:
            if progress == "at it":
                TrainingRun.objects.get(id=row.id).cancel()
            return original(row, progress=progress)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TrainingRun, "beat", beat)
            work_off()
        run.refresh_from_db()
        assert run.state == State.CANCELLED
        assert not (folder / "labels").exists()
        assert not is_alive(int((folder / "child").read_text()))

    def test_the_command_names_the_row_and_the_parameters(self, monkeypatch, tmp_path):
        monkeypatch.setenv("IRA_TRAINING_PARAMS", "quick.yaml")
        run = ask(from_portal=True)
        command = trainer.command_of(run, folder=tmp_path)
        assert command[command.index("--run") + 1] == str(run.id)
        assert "--from-portal" in command
        assert command[-2:] == ["--params", "quick.yaml"]


class TestPages:
    def test_an_administrator_asks_watches_and_stops(self, client):
        page = client.post(reverse("training_ask"), follow=True).content.decode()
        run = TrainingRun.objects.get()
        assert "No trainer has taken it yet" in page
        assert client.post(reverse("training_ask"), follow=True).content.decode().count("waits or is under way") == 1
        TrainingRun.objects.claim().beat(progress="outline ███ 40/450")
        part = client.get(reverse("training_progress", args=[run.id])).content.decode()
        assert "40/450" in part
        assert "hx-trigger" in part
        client.post(reverse("training_stop", args=[run.id]))
        assert "It is being stopped." in client.get(reverse("training", args=[run.id])).content.decode()
        run.stopped()
        assert "hx-trigger" not in client.get(reverse("training_progress", args=[run.id])).content.decode()

    def test_the_list_compares_what_has_ended(self, client):
        for place, value in enumerate((0.5, 0.6)):
            run = TrainingRun.objects.begin(name="all")
            run.note(model_version=f"v{place}", figures={"lidc_dice": value}, mlflow_url="https://mlflow.example/run")
            run.finish()
        page = client.get(reverse("training_list")).content.decode()
        assert "0.600" in page
        assert 'href="https://mlflow.example/run"' in page
        assert "lidc dice: 0.500 → 0.600" in page
        assert len(list(comparison_of(TrainingRun.objects.order_by("requested_at")))) == 1

    @pytest.mark.parametrize("name", ["training", "training_progress"])
    def test_an_unknown_training_does_not_exist(self, client, name):
        assert client.get(reverse(name, args=[uuid.uuid4()])).status_code == 404


class TestWorthJudging:
    def test_the_unsure_one_comes_first_and_the_judged_one_not_at_all(self):
        doctor = DoctorFactory()
        even = dict.fromkeys(("adenocarcinoma", "large_cell_carcinoma", "normal", "squamous_cell_carcinoma"), 0.25)
        sure = {"adenocarcinoma": 0.97, "large_cell_carcinoma": 0.01, "normal": 0.01, "squamous_cell_carcinoma": 0.01}
        known = analysed_study(doctor, seed=1, probabilities=even)
        judge_class(known, diagnosis="normal")
        dull = analysed_study(doctor, seed=2, probabilities=sure, findings=())
        unsure = analysed_study(doctor, seed=3, probabilities=even, findings=())
        torn = analysed_study(doctor, seed=4, probabilities={**sure, "adenocarcinoma": 0.03, "normal": 0.95})
        stranger = DoctorFactory(hospital=doctor.hospital)
        assert [one.study for one in most_worth(doctor)] == [unsure, torn, dull]
        assert [one.reason for one in most_worth(doctor)][:2] == [REASONS["unsure"], REASONS["contradiction"]]
        assert most_worth(stranger) == []

    def test_a_slice_unlike_the_judged_ones(self):
        doctor = DoctorFactory()
        sure = {"adenocarcinoma": 0.999, "large_cell_carcinoma": 0.0, "normal": 0.001, "squamous_cell_carcinoma": 0.0}
        judge_class(analysed_study(doctor, seed=1, probabilities=sure, findings=()), diagnosis="normal")
        new = analysed_study(doctor, seed=2, probabilities=sure, findings=())
        there = np.ones(8, np.float32)
        InferenceRecord.objects.update(embedding=there.tobytes())
        InferenceRecord.objects.filter(analysis__image__study=new).update(embedding=(-there).tobytes())
        [worth] = most_worth(doctor)
        assert worth.reason == REASONS["novelty"]
        assert worth.score > 0.9

    def test_what_is_hidden_is_not_told_by_the_reason(self):
        doctor = DoctorFactory(hospital=HospitalFactory(reads_first=True))
        analysed_study(doctor)
        [worth] = most_worth(doctor)
        assert worth.reason == REASONS["hidden"]
        client = Client()
        client.force_login(doctor)
        page = client.get(reverse("worth_judging")).content.decode()
        assert "Note your first impression" in page
        assert "does not let judgements teach" in page
