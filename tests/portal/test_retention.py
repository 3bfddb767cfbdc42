"""What is older than the retention time goes, completely; what is younger stays, whatever hangs on it."""

import datetime
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.utils import timezone

from accounts.audit import verify_chain
from accounts.models import AccessEvent
from portal.retention import Outcome, apply_retention, years_before
from reports.models import Report
from studies.models import Analysis, Image, Patient, Study
from tests.factories import AnalysisFactory, ImageFactory, PatientFactory, ReportFactory, StudyFactory, UserFactory

pytestmark = pytest.mark.django_db(transaction=True)
LATER = timezone.now() + datetime.timedelta(days=11 * 366)


@pytest.fixture(autouse=True)
def _ten_years(settings) -> None:
    settings.RETENTION_YEARS, settings.RETENTION_MINIMUM_AGE_YEARS = 10, 28


@pytest.fixture
def study() -> Study:
    patient = PatientFactory(user=UserFactory())
    study = StudyFactory(patient=patient, created_by=patient.created_by)
    ReportFactory(study=study, is_released=True)
    AnalysisFactory(image=ImageFactory(study=study), has_failed=True)
    return study


def files() -> set[Path]:
    return {path for path in Path(default_storage.location).rglob("*") if path.is_file()}


def test_a_study_goes_with_everything_that_hangs_on_it(study: Study) -> None:
    count = len(files())
    assert count >= 5
    done = apply_retention(now=LATER, is_dry_run=False)
    assert done == Outcome(studies=1, patients=1, files=count)
    for model in (Study, Image, Analysis, Report, Patient):
        assert not model.objects.exists(), model
    assert files() == set()
    deleted = AccessEvent.objects.filter(action="deleted").order_by("sequence")
    assert [event.target_type for event in deleted] == ["studies.study", "studies.patient"]
    assert {event.patient_id for event in deleted} == {study.patient_id}
    assert verify_chain().problems == ()


def test_a_dry_run_counts_the_same_and_changes_nothing(study: Study, capsys, settings) -> None:
    before = (files(), AccessEvent.objects.count())
    assert apply_retention(now=LATER, is_dry_run=True) == Outcome(studies=1, patients=1, files=len(before[0]))
    assert (files(), AccessEvent.objects.count()) == before
    assert Study.objects.count() == Report.objects.count() == 1
    call_command("apply_retention", dry_run=True)
    assert "0 studies with 0 files and 0 records would be deleted" in capsys.readouterr().out


def test_nothing_younger_goes(study: Study) -> None:
    assert apply_retention(now=timezone.now(), is_dry_run=False) == Outcome(studies=0, patients=0, files=0)
    assert Study.objects.exists()


def test_an_old_study_that_was_worked_on_lately_stays(study: Study) -> None:
    Study.objects.update(created_at=LATER - datetime.timedelta(days=4000), study_date=datetime.date(2001, 1, 1))
    Report.objects.update(released_at=LATER - datetime.timedelta(days=30))
    assert apply_retention(now=LATER, is_dry_run=False).studies == 0
    assert Report.objects.exists()


def test_pictures_of_children_stay_until_they_are_grown_up(study: Study) -> None:
    Patient.objects.update(birth_date=years_before(LATER, years=28).date() + datetime.timedelta(days=1))
    assert apply_retention(now=LATER, is_dry_run=False).studies == 0
    Patient.objects.update(birth_date=years_before(LATER, years=28).date())
    assert apply_retention(now=LATER, is_dry_run=False).studies == 1


def test_a_record_with_a_younger_study_stays(study: Study) -> None:
    young = StudyFactory(patient=study.patient, created_by=study.created_by)
    Study.objects.filter(id=young.id).update(created_at=LATER)
    done = apply_retention(now=LATER, is_dry_run=False)
    assert (done.studies, done.patients) == (1, 0)
    assert list(Study.objects.all()) == [young]


def test_nothing_is_deleted_unless_a_hospital_says_how_long(study: Study, settings, capsys) -> None:
    settings.RETENTION_YEARS = 0
    assert apply_retention(now=LATER, is_dry_run=False).studies == 0
    call_command("apply_retention")
    assert "Nothing is ever deleted here" in capsys.readouterr().out


def test_a_leap_day_has_an_anniversary() -> None:
    leap = datetime.datetime(2028, 2, 29, tzinfo=datetime.UTC)
    assert years_before(leap, years=10).date() == datetime.date(2018, 2, 28)
