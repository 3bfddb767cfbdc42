"""The state machine of an analysis, and what the database refuses whatever the code says."""

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import IntegrityError, transaction
from django.utils import timezone
from pytest_django.fixtures import Settings

from studies.errors import InvalidTransitionError
from studies.models import Analysis, Finding, Image, Patient, Study
from tests.factories import (
    AnalysisFactory,
    DoctorFactory,
    ImageFactory,
    PatientFactory,
    StudyFactory,
    UserFactory,
    answer,
)

pytestmark = pytest.mark.django_db
PICTURES = {"overlay_png": b"overlay", "mask_png": b"mask", "activation_png": b"activation"}


def stored_files() -> set[str]:
    """Return the names of all files in the store."""
    names: set[str] = set()
    folders = [""]
    while folders:
        folder = folders.pop()
        if not default_storage.exists(folder or "."):
            continue
        inner, files = default_storage.listdir(folder or ".")
        folders += [f"{folder}/{name}" if folder else name for name in inner]
        names |= {f"{folder}/{name}" for name in files}
    return names


def expire(analysis: Analysis) -> None:
    """Let the lease of a running analysis have ended a moment ago."""
    Analysis.objects.filter(id=analysis.id).update(lease_expires_at=timezone.now() - datetime.timedelta(seconds=1))


# --- claim ------------------------------------------------------------------------------------------------------------


def test_claim_takes_a_queued_analysis_and_gives_it_a_lease(settings: Settings) -> None:
    settings.ANALYSIS_LEASE_S = 75
    before = timezone.now()
    claimed = Analysis.objects.claim(AnalysisFactory().id)
    assert claimed is not None
    assert claimed.state == Analysis.State.RUNNING
    assert claimed.started_at is not None
    assert claimed.lease_expires_at is not None
    assert claimed.lease_expires_at - claimed.started_at == datetime.timedelta(seconds=75)
    assert claimed.started_at >= before


def test_a_second_claim_gets_nothing() -> None:
    analysis = AnalysisFactory()
    assert Analysis.objects.claim(analysis.id) is not None
    assert Analysis.objects.claim(analysis.id) is None


@pytest.mark.parametrize("how", [{"is_running": True}, {"is_done": True}, {"has_failed": True}])
def test_only_a_queued_analysis_can_be_claimed(how: dict[str, bool]) -> None:
    analysis = AnalysisFactory(**how)
    state = analysis.state
    assert Analysis.objects.claim(analysis.id) is None
    analysis.refresh_from_db()
    assert analysis.state == state


def test_a_cancelled_analysis_cannot_be_claimed() -> None:
    analysis = AnalysisFactory()
    analysis.cancel()
    assert Analysis.objects.claim(analysis.id) is None


# --- succeed, fail, cancel --------------------------------------------------------------------------------------------


def test_succeed_stores_answer_findings_and_pictures() -> None:
    analysis = AnalysisFactory(is_running=True)
    analysis.succeed(answer(), **PICTURES)
    stored = Analysis.objects.get(id=analysis.id)
    assert stored.state == Analysis.State.SUCCEEDED
    assert stored.model_version == "test-1"
    assert stored.probabilities["adenocarcinoma"] == 0.71
    assert stored.malignant_probability == 0.885
    assert stored.thresholds["outline"] == stored.thresholds["peak"] == stored.thresholds["malignant"] == 0.5
    assert stored.finished_at is not None
    assert stored.lease_expires_at is None
    for file, content in ((stored.overlay, b"overlay"), (stored.mask, b"mask"), (stored.activation, b"activation")):
        with file.open("rb") as opened:
            assert opened.read() == content
    (finding,) = stored.findings.all()
    assert (finding.number, finding.box_x, finding.box_height, finding.malignancy) == (1, 40, 12, 0.82)
    assert finding.long_axis_mm is None


def test_fail_stores_the_sentence() -> None:
    analysis = AnalysisFactory(is_running=True)
    analysis.fail("The file is damaged.")
    assert (analysis.state, analysis.error, analysis.lease_expires_at) == ("failed", "The file is damaged.", None)
    assert analysis.finished_at is not None


def test_cancel_takes_a_waiting_analysis_out() -> None:
    analysis = AnalysisFactory()
    analysis.cancel()
    assert analysis.state == Analysis.State.CANCELLED
    assert analysis.finished_at is not None


def finished(kind: str) -> Analysis:
    """Return an analysis in the named state."""
    if kind == "cancelled":
        analysis = AnalysisFactory()
        analysis.cancel()
        return analysis
    return AnalysisFactory(**{"queued": {}, "running": {"is_running": True}}.get(kind, {kind: True}))


@pytest.mark.parametrize("kind", ["queued", "is_done", "has_failed", "cancelled"])
@pytest.mark.parametrize(
    "act", [lambda analysis: analysis.succeed(answer(), **PICTURES), lambda analysis: analysis.fail("No.")]
)
def test_only_a_running_analysis_can_succeed_or_fail(kind: str, act: Callable[[Analysis], None]) -> None:
    analysis = finished(kind)
    before, files = Analysis.objects.values().get(id=analysis.id), stored_files()
    with pytest.raises(InvalidTransitionError, match="not running"):
        act(analysis)
    assert Analysis.objects.values().get(id=analysis.id) == before
    assert stored_files() == files


@pytest.mark.parametrize("kind", ["running", "is_done", "has_failed", "cancelled"])
def test_only_a_waiting_analysis_can_be_cancelled(kind: str) -> None:
    analysis = finished(kind)
    before = Analysis.objects.values().get(id=analysis.id)
    with pytest.raises(InvalidTransitionError, match="still waiting"):
        analysis.cancel()
    assert Analysis.objects.values().get(id=analysis.id) == before


def test_a_late_zombie_cannot_overwrite_the_next_attempt_and_leaves_no_files() -> None:
    zombie = AnalysisFactory(is_running=True)
    expire(zombie)
    Analysis.objects.sweep()
    second = Analysis.objects.claim(zombie.id)
    assert second is not None
    files = stored_files()
    with pytest.raises(InvalidTransitionError, match="attempt 1"):
        zombie.succeed(answer(model_version="zombie"), **PICTURES)
    with pytest.raises(InvalidTransitionError, match="attempt 1"):
        zombie.fail("The zombie failed.")
    assert stored_files() == files
    assert not Finding.objects.exists()
    second.succeed(answer(), **PICTURES)
    assert Analysis.objects.get(id=zombie.id).model_version == "test-1"


def test_a_zombie_of_a_requeued_analysis_cannot_finish_it_either() -> None:
    zombie = AnalysisFactory(is_running=True)
    expire(zombie)
    Analysis.objects.sweep()
    with pytest.raises(InvalidTransitionError):
        zombie.succeed(answer(), **PICTURES)
    assert Analysis.objects.get(id=zombie.id).state == Analysis.State.QUEUED


def test_an_answer_that_the_database_refuses_leaves_the_analysis_running_and_no_files() -> None:
    analysis = AnalysisFactory(is_running=True)
    files = stored_files()
    with pytest.raises(IntegrityError), transaction.atomic():
        analysis.succeed(answer(malignant_probability=1.5), **PICTURES)
    assert Analysis.objects.get(id=analysis.id).state == Analysis.State.RUNNING
    assert stored_files() == files


# --- sweep ------------------------------------------------------------------------------------------------------------


def test_sweep_leaves_a_running_analysis_with_a_lease_alone() -> None:
    analysis = AnalysisFactory(is_running=True)
    result = Analysis.objects.sweep()
    assert (result.failed, result.requeued, result.to_enqueue) == (0, 0, ())
    assert Analysis.objects.get(id=analysis.id).state == Analysis.State.RUNNING


def test_sweep_requeues_the_same_row_with_the_next_attempt() -> None:
    analysis = AnalysisFactory(is_running=True, queued_at=timezone.now() - datetime.timedelta(minutes=5))
    expire(analysis)
    result = Analysis.objects.sweep()
    assert (result.failed, result.requeued, result.to_enqueue) == (0, 1, (analysis.id,))
    analysis.refresh_from_db()
    assert (analysis.state, analysis.attempt, analysis.started_at) == ("queued", 2, None)
    assert Analysis.objects.count() == 1


def test_sweep_gives_up_after_the_last_attempt_and_says_so(settings: Settings) -> None:
    settings.ANALYSIS_MAX_ATTEMPTS = 3
    analysis = AnalysisFactory()
    for attempt in (1, 2, 3):
        claimed = Analysis.objects.claim(analysis.id)
        assert claimed is not None
        assert claimed.attempt == attempt
        expire(analysis)
        result = Analysis.objects.sweep()
    assert (result.failed, result.requeued, result.to_enqueue) == (1, 0, ())
    analysis.refresh_from_db()
    assert analysis.state == Analysis.State.FAILED
    assert analysis.attempt == 3
    assert "try again" in analysis.error
    assert Analysis.objects.claim(analysis.id) is None


def test_sweeping_twice_changes_nothing_more() -> None:
    analysis = AnalysisFactory(is_running=True)
    expire(analysis)
    Analysis.objects.sweep()
    assert Analysis.objects.sweep().requeued == 0
    analysis.refresh_from_db()
    assert analysis.attempt == 2


@pytest.mark.parametrize(
    ("queued_s_ago", "enqueued_s_ago", "is_lost"),
    [(1, None, False), (60, None, True), (60, 59, False), (500, 499, True)],
    ids=["just committed", "never enqueued", "message under way", "message too old"],
)
def test_sweep_names_the_waiting_analyses_whose_message_is_lost(
    settings: Settings, queued_s_ago: int, enqueued_s_ago: int | None, is_lost: bool
) -> None:
    settings.ANALYSIS_REQUEUE_AFTER_S = 75
    now = timezone.now()
    analysis = AnalysisFactory(
        queued_at=now - datetime.timedelta(seconds=queued_s_ago),
        enqueued_at=None if enqueued_s_ago is None else now - datetime.timedelta(seconds=enqueued_s_ago),
    )
    assert Analysis.objects.sweep().to_enqueue == ((analysis.id,) if is_lost else ())


# --- what the database refuses ----------------------------------------------------------------------------------------


def refused(name: str, act: Callable[[], Any]) -> None:
    """Hold that the database refuses ``act`` through the constraint ``name`` (SQLite names only checks)."""
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        act()
    text = str(caught.value)
    assert name in text or "UNIQUE constraint failed" in text


def test_a_slice_has_one_active_analysis() -> None:
    analysis = AnalysisFactory()
    refused("a_slice_has_one_active_analysis", lambda: AnalysisFactory(image=analysis.image))
    Analysis.objects.claim(analysis.id)
    refused("a_slice_has_one_active_analysis", lambda: AnalysisFactory(image=analysis.image))


@pytest.mark.parametrize("kind", ["is_done", "has_failed", "cancelled"])
def test_a_finished_analysis_makes_room_for_another(kind: str) -> None:
    analysis = finished(kind)
    AnalysisFactory(image=analysis.image)
    assert analysis.image.analyses.count() == 2


@pytest.mark.parametrize(
    ("kind", "name", "changes"),
    [
        ("is_done", "a_succeeded_analysis_names_model_and_answer", {"model_version": ""}),
        ("is_done", "a_succeeded_analysis_names_model_and_answer", {"malignant_probability": None}),
        ("is_done", "malignant_probability_is_a_probability", {"malignant_probability": 1.01}),
        ("is_done", "malignant_probability_is_a_probability", {"malignant_probability": -0.01}),
        ("is_done", "an_analysis_is_finished_or_active_in_a_known_state", {"finished_at": None}),
        ("has_failed", "a_failed_analysis_says_why", {"error": ""}),
        ("running", "a_running_analysis_has_a_lease", {"lease_expires_at": None}),
        ("queued", "an_analysis_is_finished_or_active_in_a_known_state", {"state": "lost"}),
        ("queued", "an_analysis_is_finished_or_active_in_a_known_state", {"finished_at": timezone.now()}),
        ("queued", "attempts_are_counted_from_one", {"attempt": 0}),
    ],
)
def test_the_database_refuses_an_impossible_analysis(kind: str, name: str, changes: dict[str, Any]) -> None:
    analysis = finished(kind)
    refused(name, lambda: Analysis.objects.filter(id=analysis.id).update(**changes))


def test_the_database_refuses_the_same_number_or_picture_twice_in_a_study() -> None:
    image = ImageFactory()
    refused("a_slice_number_stands_once_in_a_study", lambda: ImageFactory(study=image.study, number=image.number))
    again = ImageFactory(study=image.study)
    refused("a_picture_stands_once_in_a_study", lambda: Image.objects.filter(id=again.id).update(sha256=image.sha256))
    refused("slices_are_numbered_from_one", lambda: Image.objects.filter(id=again.id).update(number=0))


@pytest.mark.parametrize("spacing", [(0.5, None), (None, 0.5), (0.0, 0.5), (-1.0, -1.0)])
def test_the_database_refuses_half_a_pixel_spacing(spacing: tuple[float | None, float | None]) -> None:
    image = ImageFactory()
    row, column = spacing
    refused(
        "pixel_spacing_is_known_in_both_directions_or_not_at_all",
        lambda: Image.objects.filter(id=image.id).update(row_spacing_mm=row, column_spacing_mm=column),
    )


def test_a_record_number_stands_once_in_a_hospital_whatever_its_case() -> None:
    doctor = DoctorFactory()
    PatientFactory(created_by=doctor, record_number="ab-1")
    refused(
        "a_record_number_stands_once_in_a_hospital", lambda: PatientFactory(created_by=doctor, record_number="AB-1")
    )
    PatientFactory(record_number="ab-1")  # another hospital has numbers of its own


def test_a_person_has_one_record_in_a_hospital_and_may_have_one_in_another() -> None:
    doctor, person = DoctorFactory(), UserFactory()
    PatientFactory(created_by=doctor, user=person)
    refused("a_person_has_one_record_in_a_hospital", lambda: PatientFactory(created_by=doctor, user=person))
    PatientFactory(user=person)


def test_a_malignancy_is_a_probability() -> None:
    finding = AnalysisFactory(is_done=True).findings.get()
    refused("malignancy_is_a_probability", lambda: Finding.objects.filter(id=finding.id).update(malignancy=1.2))


def test_people_with_work_cannot_be_deleted() -> None:
    study = StudyFactory()
    with pytest.raises(IntegrityError):
        study.created_by.delete()


# --- what pages read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "state"),
    [
        ([], ""),
        (["is_done"], "succeeded"),
        (["is_done", "cancelled"], "cancelled"),
        (["is_done", "cancelled", "has_failed"], "failed"),
        (["is_done", "has_failed", "queued"], "queued"),
        (["queued", "running", "has_failed"], "running"),
    ],
)
def test_the_state_of_a_study_is_the_most_urgent_of_its_slices(kinds: list[str], state: str) -> None:
    study = StudyFactory()
    for kind in kinds:
        Image.objects.filter(id=finished(kind).image_id).update(study=study, number=study.images.count() + 1)
    study.refresh_triage()
    study.refresh_from_db()
    assert study.state == state


def test_an_old_failure_does_not_count_once_the_slice_is_done() -> None:
    first = AnalysisFactory(has_failed=True, queued_at=timezone.now() - datetime.timedelta(hours=1))
    second = AnalysisFactory(image=first.image, is_done=True)
    assert Study.objects.get(id=first.image.study_id).state == "succeeded"
    assert first.image.latest_analysis == second
    assert Image.objects.with_state().get(id=first.image_id).newest_analysis_id == second.id


def test_the_latest_success_outlives_a_newer_failure() -> None:
    first = AnalysisFactory(is_done=True, queued_at=timezone.now() - datetime.timedelta(hours=1))
    AnalysisFactory(image=first.image, has_failed=True)
    assert first.image.latest_success == first


def test_classes_come_most_probable_first_with_names_for_people() -> None:
    analysis = AnalysisFactory(is_done=True)
    classes = analysis.class_probabilities
    assert [str(entry.label) for entry in classes] == [
        "Adenocarcinoma",
        "Large cell carcinoma",
        "Squamous cell carcinoma",
        "Normal",
    ]
    assert [entry.is_top for entry in classes] == [True, False, False, False]
    assert analysis.top_class == "adenocarcinoma"
    assert AnalysisFactory().top_class is None


def test_words_of_a_search_stand_in_name_or_number_in_any_order() -> None:
    doctor = DoctorFactory()
    wanted = PatientFactory(created_by=doctor, given_name="Maria", family_name="Muster", record_number="X-77")
    PatientFactory(created_by=doctor, given_name="Maria", family_name="Other")
    assert list(Patient.objects.matching("muster mar")) == [wanted]
    assert list(Patient.objects.matching("x-7")) == [wanted]
    assert list(Patient.objects.matching("nobody")) == []
    assert Patient.objects.matching("  ").count() == 2
    assert list(Patient.objects.matching("100%_")) == []
