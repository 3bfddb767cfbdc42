"""The event log: one line and one row for each event, nothing in it that names anybody, and never an error."""

import json
import logging
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from ml import events
from ml.errors import NotANumberError
from ml.models import Event, Problem
from ml.models.event import Level, Stage
from portal.tasks import sweep

ROOT = Path(__file__).resolve().parents[2]
STUDY, HOSPITAL = uuid.uuid4(), uuid.uuid4()


class Lines(logging.Handler):
    """Keeps what was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record.getMessage())


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Return the lines of the event log, as they come."""
    handler = Lines()
    events.logger.addHandler(handler)
    yield handler.kept
    events.logger.removeHandler(handler)


@pytest.mark.django_db
def test_an_event_is_one_line_of_json_and_one_row(lines: list[str]) -> None:
    events.record(
        "inference",
        message="A slice was analysed.",
        run_id="run-7",
        study_id=str(STUDY),
        hospital_id=HOSPITAL,
        confidence=np.float32(0.5),
        step_ms={"read": 4.0},
        is_first=True,
        model_version="2026.11.24.0210",
    )
    row = Event.objects.get()
    assert (row.kind, row.level, row.run_id, row.study_id, row.hospital_id) == (
        "inference",
        "info",
        "run-7",
        STUDY,
        HOSPITAL,
    )
    assert row.details == {
        "confidence": 0.5,
        "step_ms": {"read": 4.0},
        "is_first": True,
        "model_version": "2026.11.24.0210",
    }
    (line,) = lines
    assert "\n" not in line
    said = json.loads(line)
    assert said["message"] == row.message
    assert said["details"] == row.details
    assert said["study_id"] == str(STUDY)
    assert "problem" not in said


@pytest.mark.django_db
def test_details_hold_no_file_path_address_or_pixels(lines: list[str]) -> None:
    events.record(
        "ingestion",
        message="Read.",
        file="Quetzalcoatl.dcm",
        path="/home/someone/data",
        mail="someone@example.org",
        windows="C:\\data",
        pixels=np.zeros((4, 4), np.uint8),
        content=b"\x89PNG",
        nested={"deep": {"deeper": {"deepest": 1}}, "scan.png": 1},
        words="x" * 1000,
        not_a_number=float("nan"),
        listed=["ok", "a/b"],
    )
    details = Event.objects.get().details
    left = events.LEFT_OUT
    assert all(details[name] == left for name in ("file", "path", "mail", "windows", "pixels", "content"))
    assert details["nested"] == {"deep": {"deeper": left}, left: 1}
    assert len(details["words"]) == events.LONGEST_TEXT
    assert details["listed"] == ["ok", left]
    assert details["not_a_number"] == "nan"
    assert "Quetzalcoatl" not in lines[0]


@pytest.mark.django_db
def test_a_problem_is_named_by_its_class(lines: list[str]) -> None:
    events.record_problem("training", error=ZeroDivisionError("secret"), message="Training stopped.", run_id="r")
    row = Event.objects.get()
    assert (row.level, row.problem) == ("error", "ZeroDivisionError")
    assert "secret" not in lines[0]


def test_without_a_database_the_line_is_written_and_nothing_is_raised(lines: list[str]) -> None:
    events.record("training", message="Without a table.")  # this test may not touch the database
    assert json.loads(lines[0])["message"] == "Without a table."


def test_without_django_the_line_is_written() -> None:
    code = (
        "import logging; logging.basicConfig(level=20, format='%(message)s')\n"
        "from ml import events; events.record('ingestion', message='Alone.', pictures=3)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env={})
    assert json.loads(done.stderr)["details"] == {"pictures": 3}


@pytest.mark.django_db
def test_an_event_that_cannot_be_stored_spoils_no_transaction(
    monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    def refuse(**values: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM no_such_table")

    monkeypatch.setattr(Event.objects, "create", refuse)
    with transaction.atomic():
        events.record("training", message="Not storable.")
        assert Event.objects.count() == 0  # on PostgreSQL a spoilt transaction would refuse this
    assert len(lines) == 1


@pytest.mark.django_db
def test_an_unknown_kind_is_told_to_developers_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    events.record("cooking", message="What?")
    assert "could not be recorded" in caplog.text
    assert Event.objects.count() == 0


@pytest.mark.django_db
def test_the_log_knows_the_stages_and_levels_of_the_table() -> None:
    assert tuple(Stage.values) == events.KINDS
    assert set(Level.values) == set(events.LEVELS)
    with pytest.raises(DatabaseError):
        Event.objects.create(kind="cooking", message="What?")


@pytest.mark.django_db
def test_an_administrator_reads_the_own_hospitals_events_and_those_of_no_study() -> None:
    own = Event.objects.create(kind="inference", message="own", study_id=STUDY, hospital_id=HOSPITAL)
    of_all = Event.objects.create(kind="deployment", message="promoted")
    Event.objects.create(kind="inference", message="elsewhere", study_id=STUDY, hospital_id=uuid.uuid4())
    Event.objects.create(kind="inference", message="a patient's own upload", study_id=STUDY)
    assert set(Event.objects.of_hospital(HOSPITAL)) == {own, of_all}
    assert not Event.objects.of_hospital(None).exists()


@pytest.mark.django_db
@pytest.mark.parametrize(("days", "left"), [(30, {"young"}), (0, {"young", "old"})])
def test_rows_go_when_their_time_is_over(settings, days: int, left: set[str]) -> None:
    settings.EVENT_DAYS = days
    Event.objects.create(kind="training", message="young")
    Event.objects.create(kind="training", message="old", at=timezone.now() - timedelta(days=31))
    assert sweep()["deleted"] == 2 - len(left)
    assert set(Event.objects.values_list("message", flat=True)) == left


@pytest.mark.django_db
def test_what_is_watched_tells_of_begin_and_end(lines: list[str]) -> None:
    with events.watched("training", what="The training", stage="all") as run_id:
        pass
    first, last = (json.loads(line) for line in lines)
    assert (first["message"], last["message"]) == ("The training began.", "The training ended well.")
    assert first["run_id"] == last["run_id"] == run_id
    assert last["details"]["seconds"] >= 0


@pytest.mark.django_db
def test_what_is_watched_tells_why_it_failed_without_naming_files() -> None:
    with (
        pytest.raises(NotANumberError),
        events.watched("training", what="The training", run_id="r-1"),
    ):
        raise NotANumberError("The loss is no longer a number. Lower the rate in params.yaml, see /home/someone.")
    failed = Event.objects.get(problem="NotANumberError")
    assert failed.message == "The training failed. The loss is no longer a number. Lower the rate in … see …"
    assert (failed.level, failed.run_id) == ("error", "r-1")


@pytest.mark.django_db
def test_what_is_watched_keeps_the_words_of_foreign_errors_to_itself() -> None:
    with pytest.raises(KeyError), events.watched("training", what="The training"):
        raise KeyError("Quetzalcoatl")
    assert "Quetzalcoatl" not in Event.objects.get(problem="KeyError").message


@pytest.mark.django_db
def test_an_interrupted_run_is_no_problem() -> None:
    with pytest.raises(KeyboardInterrupt), events.watched("training", what="The training"):
        raise KeyboardInterrupt
    assert Event.objects.get(level="warning").message == "The training was interrupted."
    assert not Problem.objects.exists()


@pytest.mark.django_db
def test_problems_are_counted_for_the_installation_and_for_the_hospital() -> None:
    for hospital in (HOSPITAL, HOSPITAL, None):
        events.record("inference", message="No model.", level="error", problem="ModelFileError", hospital_id=hospital)
    events.record("inference", message="A bad slice.", level="warning", problem="ImageError", hospital_id=HOSPITAL)
    counted = {(problem.name, problem.audience): problem.count for problem in Problem.objects.all()}
    assert counted == {("ModelFileError", ""): 3, ("ModelFileError", str(HOSPITAL)): 2}
