"""What the worker does with one analysis, and the sweeper with the rest. The seam is ``studies.tasks.analyse``."""

import datetime
import logging
import uuid
from typing import Any

import pytest
from django.core.management import call_command
from django.db import InterfaceError, OperationalError
from django.utils import timezone
from django_q.exceptions import TimeoutException
from django_q.models import OrmQ, Schedule

from ml.errors import ModelFileError, UnreadableImageError
from ml.registry import serving_model
from studies import tasks
from studies.models import Analysis, Finding
from tests.factories import AnalysisFactory, ImageFactory, PatientFactory, StudyFactory, answer
from tests.studies.test_models import expire, stored_files

pytestmark = pytest.mark.django_db


@pytest.fixture
def analysis() -> Analysis:
    return AnalysisFactory()


def run(analysis: Analysis) -> Analysis:
    """Let the worker do its task, and return what is stored then."""
    tasks.analyse_image(str(analysis.id))
    return Analysis.objects.get(id=analysis.id)


def model_that(monkeypatch: pytest.MonkeyPatch, *, raises: BaseException | None = None, **changes: Any) -> list[Any]:
    """Put a model in place that answers or raises; return the list of its calls."""
    calls: list[Any] = []

    def analyse(content: bytes, **kwargs: Any) -> Any:
        calls.append((content, kwargs))
        if raises is not None:
            raise raises
        return answer(**changes)

    monkeypatch.setattr(tasks, "analyse", analyse)
    return calls


def test_success_stores_the_answer_with_pictures_of_the_slice(
    analysis: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = model_that(monkeypatch)
    done = run(analysis)
    assert done.state == Analysis.State.SUCCEEDED
    assert done.findings.count() == 1
    for file in (done.overlay, done.mask, done.activation):
        with file.open("rb") as stored:
            assert stored.read(8) == b"\x89PNG\r\n\x1a\n"
    ((content, kwargs),) = calls
    with analysis.image.file.open("rb") as stored:
        assert content == stored.read()
    assert kwargs == {"pixel_spacing_mm": None, "load": serving_model}


def test_the_model_is_told_the_pixel_spacing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = model_that(monkeypatch)
    run(AnalysisFactory(image=ImageFactory(row_spacing_mm=0.7, column_spacing_mm=0.6)))
    assert calls[0][1] == {"pixel_spacing_mm": (0.7, 0.6), "load": serving_model}


def test_a_reason_of_the_model_reaches_the_user_as_it_stands(
    analysis: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_that(monkeypatch, raises=UnreadableImageError("The file is damaged. Please upload it again."))
    failed = run(analysis)
    assert (failed.state, failed.error) == ("failed", "The file is damaged. Please upload it again.")


@pytest.mark.parametrize(
    "surprise", [ZeroDivisionError("secret detail"), MemoryError("secret detail"), KeyError("secret detail")]
)
def test_a_surprise_becomes_one_fixed_sentence_and_a_logged_traceback(
    analysis: Analysis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, surprise: Exception
) -> None:
    model_that(monkeypatch, raises=surprise)
    failed = run(analysis)
    assert (failed.state, failed.error) == ("failed", tasks.SURPRISE)
    assert "Traceback" in caplog.text
    assert str(analysis.id) in caplog.text


def test_a_missing_model_is_told_without_folder_names(
    analysis: Analysis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model_that(monkeypatch, raises=ModelFileError("/srv/models/model.json is missing."))
    failed = run(analysis)
    assert failed.error == tasks.NO_MODEL
    assert "/srv/models" in caplog.text


def test_a_lost_file_is_a_failure_not_a_crash(analysis: Analysis, monkeypatch: pytest.MonkeyPatch) -> None:
    model_that(monkeypatch)
    analysis.image.file.storage.delete(analysis.image.file.name)
    assert run(analysis).error == tasks.SURPRISE


def test_an_impossible_answer_is_a_failure_and_leaves_nothing(
    analysis: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = stored_files()
    model_that(monkeypatch, malignant_probability=float("nan"), model_version="")
    failed = run(analysis)
    assert (failed.state, failed.error, failed.model_version) == ("failed", tasks.SURPRISE, "")
    assert stored_files() == files
    assert not Finding.objects.exists()


@pytest.mark.parametrize("end", [TimeoutException("60 seconds"), SystemExit(1), KeyboardInterrupt()])
def test_a_time_out_is_left_running_for_the_sweeper(
    analysis: Analysis, monkeypatch: pytest.MonkeyPatch, end: BaseException
) -> None:
    model_that(monkeypatch, raises=end)
    with pytest.raises(type(end)):
        tasks.analyse_image(str(analysis.id))
    assert Analysis.objects.get(id=analysis.id).state == Analysis.State.RUNNING


def test_running_the_task_twice_analyses_once(analysis: Analysis, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = model_that(monkeypatch)
    first = run(analysis)
    second = run(analysis)
    assert len(calls) == 1
    assert first.finished_at == second.finished_at


@pytest.mark.parametrize("how", [{"is_running": True}, {"is_done": True}, {"has_failed": True}])
def test_what_does_not_wait_is_left_alone(monkeypatch: pytest.MonkeyPatch, how: dict[str, bool]) -> None:
    analysis = AnalysisFactory(**how)
    calls = model_that(monkeypatch)
    run(analysis)
    assert calls == []
    assert Analysis.objects.get(id=analysis.id).state == analysis.state


def test_a_cancelled_or_unknown_analysis_is_left_alone(analysis: Analysis, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = model_that(monkeypatch)
    analysis.cancel()
    run(analysis)
    tasks.analyse_image(str(uuid.uuid4()))
    assert calls == []


def test_a_worker_that_lost_its_attempt_throws_its_answer_away_quietly(
    analysis: Analysis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def analyse(content: bytes, **kwargs: Any) -> Any:
        expire(analysis)
        Analysis.objects.sweep()
        return answer()

    monkeypatch.setattr(tasks, "analyse", analyse)
    stored = run(analysis)
    assert (stored.state, stored.attempt) == ("queued", 2)
    assert "given up" in caplog.text


def test_a_worker_that_lost_its_attempt_and_then_fails_does_not_fail_the_next(
    analysis: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def analyse(content: bytes, **kwargs: Any) -> Any:
        expire(analysis)
        Analysis.objects.sweep()
        raise UnreadableImageError("Too late.")

    monkeypatch.setattr(tasks, "analyse", analyse)
    assert run(analysis).state == Analysis.State.QUEUED


def test_logs_hold_identifiers_and_counts_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    patient = PatientFactory(given_name="Wilhelmine", family_name="Zwetschgenbaum", record_number="SECRET-9")
    image = ImageFactory(
        study=StudyFactory(patient=patient, created_by=patient.created_by), original_name="wilhelmine.png"
    )
    caplog.set_level(logging.DEBUG)
    model_that(monkeypatch)
    run(AnalysisFactory(image=image))
    model_that(monkeypatch, raises=ValueError("broken"))
    run(AnalysisFactory(image=image))
    tasks.sweep()
    assert str(image.analyses.first().id) in caplog.text
    for word in ("wilhelmine", "zwetschgenbaum", "secret-9"):
        assert word not in caplog.text.lower()


@pytest.mark.parametrize("error", [OperationalError("gone"), InterfaceError("closed")])
def test_what_is_out_of_reach_is_not_the_slice_s_fault(
    analysis: Analysis, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    model_that(monkeypatch)
    monkeypatch.setattr(Analysis, "succeed", lambda *args, **kwargs: (_ for _ in ()).throw(error))
    with pytest.raises(type(error)):
        run(analysis)
    analysis.refresh_from_db()
    assert (analysis.state, analysis.error) == ("running", ""), "the sweeper gives it another attempt"


def test_files_stay_where_nobody_knows_whether_their_rows_were_committed(
    analysis: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(self: Analysis, **values: Any) -> None:
        raise OperationalError("the connection broke while COMMIT was on its way")

    before = set(stored_files())
    model_that(monkeypatch)
    monkeypatch.setattr(Analysis, "_leave_running", vanish)
    with pytest.raises(OperationalError):
        run(analysis)
    assert len(set(stored_files()) - before) == 3


# --- the sweeper ------------------------------------------------------------------------------------------------------


def test_the_sweeper_enqueues_what_has_no_message() -> None:
    analysis = AnalysisFactory(queued_at=timezone.now() - datetime.timedelta(minutes=1))
    assert tasks.sweep() == {"failed": 0, "requeued": 0, "enqueued": 1}
    assert OrmQ.objects.count() == 1
    analysis.refresh_from_db()
    assert analysis.enqueued_at is not None
    assert tasks.sweep() == {"failed": 0, "requeued": 0, "enqueued": 0}


def test_the_sweeper_does_not_fill_a_long_queue_with_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """While older messages wait, the worker is merely busy: only what never got a message gets one."""
    long_ago = timezone.now() - datetime.timedelta(hours=1)
    waiting = [AnalysisFactory(queued_at=long_ago) for _ in range(3)]
    with monkeypatch.context() as clock:
        clock.setattr(timezone, "now", lambda: long_ago)
        for analysis in waiting:
            analysis.enqueue()
    AnalysisFactory(queued_at=long_ago)
    assert tasks.sweep()["enqueued"] == 1
    assert OrmQ.objects.count() == 4


def test_a_lost_message_is_sent_again_in_a_queue_that_is_never_empty() -> None:
    long_ago = timezone.now() - datetime.timedelta(hours=1)
    AnalysisFactory().enqueue()
    lost = AnalysisFactory(queued_at=long_ago, enqueued_at=long_ago)
    assert tasks.sweep()["enqueued"] == 1
    assert OrmQ.objects.last().task["args"] == (str(lost.id),)


def test_the_sweeper_sends_old_messages_again_once_the_queue_is_empty() -> None:
    long_ago = timezone.now() - datetime.timedelta(hours=1)
    AnalysisFactory(queued_at=long_ago, enqueued_at=long_ago)
    assert tasks.sweep()["enqueued"] == 1


def test_the_sweeper_brings_a_dead_worker_s_analysis_back_to_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    analysis = AnalysisFactory(is_running=True, queued_at=timezone.now() - datetime.timedelta(minutes=5))
    expire(analysis)
    assert tasks.sweep() == {"failed": 0, "requeued": 1, "enqueued": 1}
    model_that(monkeypatch)
    assert (run(analysis).state, run(analysis).attempt) == ("succeeded", 2)


def test_there_is_one_schedule_of_the_sweeper_however_often_it_is_ensured(settings) -> None:
    call_command("ensure_schedules", verbosity=0)
    first = Schedule.objects.get(func="studies.tasks.sweep")
    Schedule.objects.create(func="studies.tasks.sweep", schedule_type=Schedule.DAILY)
    Schedule.objects.create(func="somebody.else", schedule_type=Schedule.DAILY)
    Schedule.objects.filter(id=first.id).update(minutes=500, repeats=0)
    call_command("ensure_schedules", verbosity=0)
    schedule = Schedule.objects.get(func="studies.tasks.sweep")
    assert (schedule.id, schedule.schedule_type, schedule.minutes, schedule.repeats) == (first.id, "I", 1, -1)
    assert Schedule.objects.count() == len(settings.SWEEPERS) + 1
