"""Runs and episodes: one run a day and hospital, one mail an episode, and no hospital sees another's."""

import datetime
import smtplib
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core import mail
from django.db import connection
from django.utils import timezone

from ml.drift import Answer, Sample
from ml.models import Event
from ml.reference import REFERENCE_NAME, Reference, write_reference
from studies import monitoring
from studies.models import (
    InferenceRecord,
    MonitoringBaseline,
    MonitoringEpisode,
    MonitoringRun,
    Patient,
    hospitals_watched_by,
)
from tests.factories import AdministratorFactory, DoctorFactory, HospitalFactory, OwnStudyFactory, UserFactory
from tests.ml.test_drift import an_answer
from tests.studies.monitored import DAY, START, WorkingHospital
from tests.tools import skip_where_threads_share_the_database

pytestmark = pytest.mark.django_db
POOL = [an_answer(np.random.default_rng(seed)) for seed in range(60)]
EVENING = datetime.timedelta(hours=9)


def brighter(answer: Answer) -> Answer:
    """The same answer about a picture of which all greys are turned round: another window, another network's look."""
    statistics = replace(answer.statistics, histogram=answer.statistics.histogram[::-1], noise_grey=9.0)
    return replace(answer, statistics=statistics, embedding=answer.embedding + np.float32(1.5))


CHANGED = [brighter(answer) for answer in POOL]


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder whose reference looks like the usual answers, with fewer tumours in it."""
    usual = [an_answer(np.random.default_rng(1000 + seed)) for seed in range(60)]
    healthy = tuple(replace(answer, top_class="normal", malignant_probability=0.01) for answer in usual)
    sample = Sample(answers=healthy, agreement=(1.0, 0.0, 1.0, 1.0, 1.0) * 8)
    write_reference(Reference(model_version="test-1", sample=sample, taken_from="a test"), directory=tmp_path)
    monkeypatch.setenv("IRA_MODEL_DIR", str(tmp_path))
    return tmp_path


def run_days(place: WorkingHospital, days: range) -> list[MonitoringRun]:
    runs = [monitoring.monitor(place.hospital, now=START + day * DAY + EVENING) for day in days]
    assert None not in runs
    return [run for run in runs if run is not None]


def levels_of(run: MonitoringRun, compared: str) -> dict[str, str]:
    return {one.signal: one.level for one in run.comparisons(compared)}


# --- which reference speaks when --------------------------------------------------------------------------------------


def test_until_the_baseline_is_complete_only_the_training_data_is_asked(training: Path) -> None:
    place = WorkingHospital.opened(seed=1)
    place.work(POOL, days=range(40), patients_a_day=8)
    early, late = run_days(place, range(20, 21))[0], run_days(place, range(36, 37))[0]
    assert early.training
    assert (early.baseline, early.baseline_from) == ([], None)
    assert (late.baseline_from, late.baseline_until) == (START, START + 28 * DAY)
    assert levels_of(late, "baseline").keys() == levels_of(late, "training").keys()
    assert (late.window_days, late.model_version, late.note) == (7, "test-1", "")
    assert late.answers > late.patients > 20


def test_a_small_hospital_gets_longer_windows_and_a_longer_baseline(training: Path) -> None:
    place = WorkingHospital.opened(seed=2)
    place.work(POOL, days=range(90), patients_a_day=2)
    (run,) = run_days(place, range(89, 90))
    assert run.window_days in (14, 28)
    assert run.patients >= 20
    assert run.baseline_from == START
    assert run.baseline_until is not None
    assert run.baseline_until - START > 28 * DAY
    assert run.comparisons("baseline")[0].reference_patients >= 60


def test_what_differs_between_any_teaching_collection_and_any_hospital_opens_nothing(training: Path) -> None:
    """The reference is all healthy, the hospital is not: shown, and no reason to wake anybody."""
    place = WorkingHospital.opened(seed=3)
    place.work(POOL, days=range(20), patients_a_day=8)
    runs = run_days(place, range(10, 20))
    assert levels_of(runs[-1], "training")["classes"] == "alarm"
    assert levels_of(runs[-1], "training")["malignancy"] == "alarm"
    assert levels_of(runs[-1], "training")["histogram"] == "quiet"
    assert not MonitoringEpisode.objects.exists()


def test_a_wrong_window_from_the_first_day_is_found_by_the_training_data(training: Path) -> None:
    AdministratorFactory(hospital=(place := WorkingHospital.opened(seed=4)).hospital)
    place.work(CHANGED, days=range(16), patients_a_day=8)
    run_days(place, range(7, 16))
    (episode,) = MonitoringEpisode.objects.all()
    assert (episode.compared, episode.family, episode.level) == ("training", "input", "alarm")
    assert episode.signals == ["embedding", "histogram"]
    assert len(mail.outbox) == 1


# --- episodes ---------------------------------------------------------------------------------------------------------


def test_an_episode_opens_once_is_mailed_once_and_closes_when_it_is_quiet(training: Path) -> None:
    place = WorkingHospital.opened(seed=5)
    administrator = AdministratorFactory(hospital=place.hospital)
    AdministratorFactory()  # of another hospital
    AdministratorFactory(hospital=place.hospital, is_active=False)
    place.work(POOL, days=range(40), patients_a_day=8)
    place.work(CHANGED, days=range(40, 54), patients_a_day=8)
    place.work(POOL, days=range(54, 80), patients_a_day=8)
    run_days(place, range(36, 80))
    of_baseline = MonitoringEpisode.objects.filter(compared="baseline")
    (episode,) = of_baseline
    assert (episode.family, episode.level, episode.ending) == ("input", "alarm", "quiet")
    assert {"histogram", "noise", "embedding"} <= set(episode.signals)
    assert START + 40 * DAY < episode.opened_at <= START + 47 * DAY
    assert episode.closed_at is not None
    assert START + 61 * DAY < episode.closed_at < START + 75 * DAY
    assert MonitoringEpisode.objects.filter(compared="training").count() == 1
    assert [message.to for message in mail.outbox] == [[administrator.email]] * 2
    for message in mail.outbox:
        assert "Monitoring" in message.body
        assert not any(patient.record_number in message.body for patient in Patient.objects.all()[:20])
    opened = Event.objects.filter(kind="monitoring", message__contains="opened")
    assert {event.hospital_id for event in opened} == {place.hospital.pk}
    assert opened.count() == 2


def test_doctors_who_disagree_more_than_before_open_an_episode_of_their_own(training: Path) -> None:
    place = WorkingHospital.opened(seed=6)
    AdministratorFactory(hospital=place.hospital)
    place.work(POOL, days=range(36), patients_a_day=6, agreement=0.9)
    place.work(POOL, days=range(36, 70), patients_a_day=6, agreement=0.3)
    runs = run_days(place, range(36, 70))
    assert levels_of(runs[-1], "baseline")["agreement"] == "alarm"
    assert set(MonitoringEpisode.objects.values_list("family", flat=True)) == {"agreement"}
    (episode,) = MonitoringEpisode.objects.filter(compared="baseline")
    assert episode.is_open


def test_another_model_closes_what_was_open_and_begins_anew(training: Path) -> None:
    place = WorkingHospital.opened(seed=7)
    place.work(CHANGED, days=range(16), patients_a_day=8)
    run_days(place, range(7, 16))
    assert MonitoringEpisode.objects.get().is_open
    later = replace(place, version="test-2")
    later.work(CHANGED, days=range(16, 18), patients_a_day=8)
    (run,) = run_days(later, range(18, 19))
    assert MonitoringEpisode.objects.get().ending == "replaced"
    assert (run.model_version, run.training, run.baseline) == ("test-2", [], [])
    assert run.note == monitoring.NO_REFERENCE


def test_a_new_baseline_accepts_the_present(training: Path) -> None:
    place = WorkingHospital.opened(seed=8)
    administrator = AdministratorFactory(hospital=place.hospital)
    place.work(POOL, days=range(36), patients_a_day=8)
    place.work(CHANGED, days=range(36, 90), patients_a_day=8)
    run_days(place, range(35, 50))
    assert MonitoringEpisode.objects.get(compared="baseline").is_open
    baseline = monitoring.set_baseline(place.hospital, by=administrator, reason="A new scanner", now=START + 50 * DAY)
    assert baseline is not None
    assert MonitoringEpisode.objects.get(compared="baseline").ending == "accepted"
    runs = run_days(place, range(50, 90))
    assert runs[0].baseline == []
    assert runs[-1].baseline_from == START + 50 * DAY
    assert set(levels_of(runs[-1], "baseline").values()) <= {"quiet", "unknown"}
    assert MonitoringEpisode.objects.filter(compared="baseline").count() == 1


def test_a_mail_that_cannot_leave_is_tried_again_the_next_day(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = WorkingHospital.opened(seed=9)
    AdministratorFactory(hospital=place.hospital)
    place.work(CHANGED, days=range(16), patients_a_day=8)
    post = monitoring.send_mail

    def fail(**_kwargs: Any) -> int:
        raise smtplib.SMTPException("no post today")

    monkeypatch.setattr(monitoring, "send_mail", fail)
    run_days(place, range(7, 12))
    assert MonitoringEpisode.objects.get().mailed_at is None
    monkeypatch.setattr(monitoring, "send_mail", post)
    run_days(place, range(12, 16))
    assert MonitoringEpisode.objects.get().mailed_at is not None
    assert len(mail.outbox) == 1


def test_a_hospital_without_administrator_is_looked_after_by_the_superusers(training: Path) -> None:
    place = WorkingHospital.opened(seed=10)
    superuser = AdministratorFactory(is_superuser=True, hospital=None, language="de")
    place.work(CHANGED, days=range(14), patients_a_day=8)
    run_days(place, range(7, 14))
    assert [message.to for message in mail.outbox] == [[superuser.email]]


# --- one hospital and another, nothing at all, and accidents ----------------------------------------------------------


def test_one_hospital_s_change_is_none_of_the_other_s(training: Path) -> None:
    changed, usual = WorkingHospital.opened(seed=11), WorkingHospital.opened(seed=12)
    changed.work(CHANGED, days=range(14), patients_a_day=8)
    usual.work(POOL, days=range(14), patients_a_day=8)
    for day in range(7, 14):
        for place in (changed, usual):
            monitoring.monitor(place.hospital, now=START + day * DAY + EVENING)
    assert {episode.hospital for episode in MonitoringEpisode.objects.all()} == {changed.hospital}


def test_who_watches_which_hospital() -> None:
    here, there = HospitalFactory(), HospitalFactory()
    MonitoringRun.objects.create(hospital=here, day=START.date())
    own = AdministratorFactory(hospital=here)
    assert set(hospitals_watched_by(own)) == {here}
    assert MonitoringRun.objects.visible_to(own).count() == 1
    assert not MonitoringRun.objects.visible_to(AdministratorFactory(hospital=there)).exists()
    assert set(hospitals_watched_by(AdministratorFactory(is_superuser=True, hospital=None))) == {here, there}
    for nobody in (DoctorFactory(hospital=here), UserFactory(), None):
        assert not hospitals_watched_by(nobody).exists()


def test_a_hospital_without_answers_has_a_run_that_says_so_and_patients_own_uploads_are_nobody_s() -> None:
    hospital = HospitalFactory()
    OwnStudyFactory(is_done=True)
    assert InferenceRecord.objects.count() == 1
    run = monitoring.monitor(hospital, now=timezone.now())
    assert run is not None
    assert (run.note, run.answers, run.patients, run.window_days) == (monitoring.NO_ANSWERS, 0, 0, 0)
    assert monitoring.set_baseline(hospital, by=AdministratorFactory(), reason="why", now=timezone.now()) is None
    assert not MonitoringBaseline.objects.exists()


def test_with_few_patients_nothing_is_said_and_nothing_opens(training: Path) -> None:
    place = WorkingHospital.opened(seed=13)
    place.arrive(CHANGED[:12], at=START)
    runs = run_days(place, range(1, 8))
    assert set(levels_of(runs[-1], "training").values()) == {"unknown"}
    assert (runs[-1].patients, runs[-1].window_days) == (12, 28)
    assert not MonitoringEpisode.objects.exists()


def test_a_damaged_reference_is_a_note_and_the_baseline_is_still_asked(training: Path) -> None:
    place = WorkingHospital.opened(seed=14)
    place.work(POOL, days=range(40), patients_a_day=8)
    (training / REFERENCE_NAME).write_bytes(b"no archive")
    (run,) = run_days(place, range(38, 39))
    assert (run.note, run.training) == (monitoring.BAD_REFERENCE, [])
    assert run.baseline


def test_a_run_that_fails_is_stored_as_such_and_not_tried_every_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise ZeroDivisionError

    HospitalFactory()
    monkeypatch.setattr(monitoring, "look", fail)
    assert monitoring.sweep() == {"monitored": 1}
    assert MonitoringRun.objects.get().note == monitoring.WENT_WRONG
    assert Event.objects.get(kind="monitoring").problem == "ZeroDivisionError"
    assert monitoring.sweep() == {"monitored": 0}


def test_the_sweeper_makes_one_run_a_day_of_each_hospital(settings: Any) -> None:
    for _ in range(3):
        HospitalFactory()
    assert "studies.monitoring.sweep" in settings.SWEEPERS
    assert monitoring.sweep() == {"monitored": 3}
    assert monitoring.sweep() == {"monitored": 0}


def test_what_is_erased_is_out_of_the_baseline_at_once(training: Path) -> None:
    place = WorkingHospital.opened(seed=15)
    place.work(POOL, days=range(40), patients_a_day=8)
    before = run_days(place, range(38, 39))[0].comparisons("baseline")[0].reference_patients
    erased = Patient.objects.filter(studies__created_at__isnull=False).order_by("pk")
    gone = erased.filter(studies__images__analyses__finished_at=START).first()
    assert gone is not None
    InferenceRecord.objects.filter(analysis__image__study__patient=gone).delete()
    after = run_days(place, range(39, 40))[0].comparisons("baseline")[0].reference_patients
    assert after == before - 1


@pytest.mark.django_db(transaction=True)
def test_of_two_schedulers_one_makes_the_run_and_one_mail_leaves(training: Path) -> None:
    skip_where_threads_share_the_database()
    place = WorkingHospital.opened(seed=16)
    AdministratorFactory(hospital=place.hospital)
    place.work(CHANGED, days=range(14), patients_a_day=8)
    run_days(place, range(7, 9))
    made: list[MonitoringRun | None] = []
    start = threading.Barrier(3)

    def race() -> None:
        start.wait()
        try:
            made.append(monitoring.monitor(place.hospital, now=START + 9 * DAY + EVENING))
        finally:
            connection.close()

    threads = [threading.Thread(target=race) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(run is not None for run in made) == 1
    assert MonitoringRun.objects.count() == 3
    assert MonitoringEpisode.objects.count() == 1
    assert len(mail.outbox) == 1
