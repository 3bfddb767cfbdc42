"""Whoever can mend a problem is told of it: at once, once, with counts, and nobody else."""

import smtplib
from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone

from ml import events
from ml.errors import ModelFileError, UnreadableImageError
from ml.models import Event, Problem
from pipelines.ingest import errors as ingest_errors
from portal import problems
from portal.tasks import sweep
from studies import tasks
from studies.errors import StoredPictureError
from studies.models import Analysis
from tests.factories import AdministratorFactory, AnalysisFactory, DoctorFactory, HospitalFactory, answer

pytestmark = pytest.mark.django_db


@pytest.fixture
def analysis() -> Analysis:
    return AnalysisFactory()


@pytest.fixture
def people(analysis: Analysis) -> dict[str, str]:
    """Return the e-mail addresses of those who might be told."""
    hospital = analysis.image.study.patient.hospital
    return {
        "superuser": AdministratorFactory(hospital=None, is_superuser=True).email,
        "administrator": AdministratorFactory(hospital=hospital).email,
        "deactivated": AdministratorFactory(hospital=hospital, is_active=False).email,
        "foreign": AdministratorFactory(hospital=HospitalFactory()).email,
        "doctor": DoctorFactory(hospital=hospital).email,
    }


def analyse_with(monkeypatch: pytest.MonkeyPatch, analysis: Analysis, *, error: BaseException | None) -> Analysis:
    """Let the worker do its task with a model that answers, or that raises."""

    def model(content: bytes, **kwargs: object) -> object:
        if error is not None:
            raise error
        return answer()

    monkeypatch.setattr(tasks, "analyse", model)
    tasks.analyse_image(str(analysis.id))
    return Analysis.objects.get(id=analysis.id)


def recipients() -> list[str]:
    return sorted(address for message in mail.outbox for address in message.to)


def age(*, hours: int) -> None:
    """Let the last word to everybody be so many hours old."""
    Problem.objects.update(told_at=timezone.now() - timedelta(hours=hours))


def test_each_answer_is_an_event_with_its_confidence(analysis: Analysis, monkeypatch: pytest.MonkeyPatch) -> None:
    analyse_with(monkeypatch, analysis, error=None)
    event = Event.objects.get()
    study = analysis.image.study
    assert (event.kind, event.study_id, event.hospital_id) == ("inference", study.id, study.patient.hospital_id)
    assert event.details["confidence"] == pytest.approx(0.71)
    assert event.details["top_class"] == "adenocarcinoma"
    assert event.details["step_ms"]["classify"] == 60.0
    assert event.problem == ""


def test_a_problem_is_mailed_to_whom_it_concerns(
    analysis: Analysis, people: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    analyse_with(monkeypatch, analysis, error=ModelFileError("The folder /srv/model is empty."))
    assert sweep()["mails"] == 2
    assert recipients() == sorted([people["superuser"], people["administrator"]])
    assert "The model cannot be loaded (ModelFileError)" in mail.outbox[0].body
    assert "1 time, last on" in mail.outbox[0].body
    assert "/srv" not in mail.outbox[0].body


def test_what_goes_on_is_mailed_again_after_a_while_with_its_count(people: dict[str, str]) -> None:
    for _ in range(50):
        events.record("training", message="It diverged.", level="error", problem="NotANumberError")
        sweep()
    assert recipients() == [people["superuser"]]
    age(hours=7)
    sweep()
    assert len(mail.outbox) == 2
    assert "49 times, last on" in mail.outbox[1].body
    age(hours=7)
    sweep()
    assert len(mail.outbox) == 2, "nothing new, and yet a mail"


def test_several_kinds_are_one_mail(people: dict[str, str]) -> None:
    for name in ("NotANumberError", "NoImprovementError"):
        events.record("training", message="It went wrong.", level="error", problem=name)
    sweep()
    assert recipients() == [people["superuser"]]
    assert all(name in mail.outbox[0].body for name in ("NotANumberError", "NoImprovementError"))


def test_of_two_processes_one_tells(people: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have read the same row before either has noted anything."""
    events.record("training", message="It diverged.", level="error", problem="NotANumberError")
    stale = list(Problem.objects.all())
    assert len(Problem.objects.claim_news(every=timedelta(hours=6))) == 1
    problem = stale[0]
    mine = Problem.objects.filter(pk=problem.pk, told_at=problem.told_at, told_count=problem.told_count)
    assert mine.update(told_at=timezone.now()) == 0
    assert Problem.objects.claim_news(every=timedelta(hours=6)) == []


def test_when_the_post_fails_it_is_tried_again(people: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    events.record("training", message="It diverged.", level="error", problem="NotANumberError")

    def refuse(**message: object) -> None:
        raise smtplib.SMTPServerDisconnected

    with monkeypatch.context() as broken:
        broken.setattr(problems, "send_mail", refuse)
        assert sweep()["mails"] == 0
    assert sweep()["mails"] == 1


def test_mails_can_be_switched_off(people: dict[str, str], settings) -> None:
    settings.PROBLEM_MAIL_HOURS = 0
    events.record("training", message="It diverged.", level="error", problem="NotANumberError")
    assert sweep()["mails"] == 0
    assert mail.outbox == []


def test_a_bad_slice_is_logged_and_nobody_is_mailed(
    analysis: Analysis, people: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    analyse_with(monkeypatch, analysis, error=UnreadableImageError("The file is damaged. Please upload it again."))
    assert Event.objects.get().problem == "UnreadableImageError"
    assert sweep()["mails"] == 0


def test_a_store_that_is_away_is_asked_again_with_growing_pauses(
    analysis: Analysis, people: dict[str, str], monkeypatch: pytest.MonkeyPatch, settings
) -> None:
    settings.ANALYSIS_MAX_ATTEMPTS = 3
    for attempt, pause_s in ((1, 20), (2, 40)):
        left = analyse_with(monkeypatch, analysis, error=ConnectionError("The store is away."))
        assert (left.state, left.attempt) == ("running", attempt)
        assert left.lease_expires_at is not None
        assert left.lease_expires_at - timezone.now() == pytest.approx(
            timedelta(seconds=pause_s), abs=timedelta(seconds=5)
        )
        assert Analysis.objects.sweep().requeued == 0, "not before the pause is over"
        Analysis.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
        assert Analysis.objects.sweep().requeued == 1
    assert sweep()["mails"] == 0, "as long as it may still come right nobody is mailed"
    failed = analyse_with(monkeypatch, analysis, error=ConnectionError("The store is away."))
    assert (failed.state, failed.error) == ("failed", tasks.NO_STORE)
    assert list(Event.objects.order_by("id").values_list("level", "problem")) == [
        ("warning", "StoredPictureError"),
        ("warning", "StoredPictureError"),
        ("error", "StoredPictureError"),
    ]


def test_a_store_that_comes_back_is_no_failure(analysis: Analysis, monkeypatch: pytest.MonkeyPatch) -> None:
    analyse_with(monkeypatch, analysis, error=TimeoutError())
    Analysis.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    Analysis.objects.sweep()
    assert analyse_with(monkeypatch, analysis, error=None).state == "succeeded"


def test_what_never_finishes_is_a_problem_of_its_hospital(analysis: Analysis, settings) -> None:
    settings.ANALYSIS_MAX_ATTEMPTS = 1
    assert Analysis.objects.claim(analysis.id) is not None
    Analysis.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    tasks.sweep()
    event = Event.objects.get(problem="AbandonedAnalysisError")
    assert event.hospital_id == analysis.image.study.patient.hospital_id


def test_every_kind_that_is_named_is_the_name_of_a_class() -> None:
    """The catalogue names the pipeline's errors as text, because the portal does not import the pipeline."""
    own = {"IngestError", "ArchiveError", "DownloadError", "BusyError"}
    assert all(issubclass(getattr(ingest_errors, name), Exception) for name in own)
    assert own < set(problems.KINDS)
    assert problems.kind_of(StoredPictureError.__name__) is not problems.UNKNOWN
    assert problems.kind_of("Nonsense") is problems.UNKNOWN
