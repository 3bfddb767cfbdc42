"""Who sees which patients, studies, slices and analyses: exact sets, two hospitals side by side."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import AnonymousUser, Permission
from django.core.exceptions import ValidationError

from accounts.models import User
from studies.errors import GrantError
from studies.models import Analysis, Image, Patient, PatientUserObjectPermission, Study, StudyUserObjectPermission
from studies.permissions import grant_patient, grant_study
from tests.factories import (
    AdministratorFactory,
    AnalysisFactory,
    DoctorFactory,
    PatientFactory,
    StudyFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db


def seen(user: User | AnonymousUser) -> dict[str, set[object]]:
    """Return the identifiers of everything that somebody sees."""
    return {
        "patients": set(Patient.objects.visible_to(user).values_list("id", flat=True)),
        "studies": set(Study.objects.visible_to(user).values_list("id", flat=True)),
        "slices": set(Image.objects.visible_to(user).values_list("id", flat=True)),
        "analyses": set(Analysis.objects.visible_to(user).values_list("id", flat=True)),
    }


NOTHING: dict[str, set[object]] = {"patients": set(), "studies": set(), "slices": set(), "analyses": set()}


def test_two_hospitals_side_by_side_see_exactly_their_own() -> None:
    mine, theirs = AnalysisFactory(), AnalysisFactory()
    for analysis in (mine, theirs):
        study = analysis.image.study
        assert seen(study.created_by) == {
            "patients": {study.patient_id},
            "studies": {study.id},
            "slices": {analysis.image_id},
            "analyses": {analysis.id},
        }


@pytest.mark.parametrize(
    "person",
    [
        lambda doctor: AnonymousUser(),
        lambda doctor: DoctorFactory(),
        lambda doctor: DoctorFactory(hospital=doctor.hospital),
        lambda doctor: DoctorFactory(hospital=doctor.hospital, approved_at=None),
        lambda doctor: AdministratorFactory(hospital=doctor.hospital),
        lambda doctor: AdministratorFactory(hospital=doctor.hospital, is_superuser=True),
        lambda doctor: UserFactory(),
    ],
)
def test_without_a_grant_there_is_nothing(person: Callable[[User], User | AnonymousUser]) -> None:
    analysis = AnalysisFactory()
    assert seen(person(analysis.image.study.created_by)) == NOTHING


@pytest.mark.parametrize("change", [{"is_active": False}, {"approved_at": None}, {"role": "patient"}])
def test_a_grant_counts_only_for_an_active_approved_doctor(change: dict[str, object]) -> None:
    doctor = AnalysisFactory().image.study.created_by
    User.objects.filter(id=doctor.id).update(**change)
    assert seen(User.objects.get(id=doctor.id)) == NOTHING


def test_a_grant_counts_only_in_the_hospital_of_the_patient() -> None:
    doctor = AnalysisFactory().image.study.created_by
    User.objects.filter(id=doctor.id).update(hospital=DoctorFactory().hospital)
    assert seen(User.objects.get(id=doctor.id)) == NOTHING


def test_sharing_a_study_shows_it_and_its_patient_and_no_other_study_of_the_patient() -> None:
    analysis = AnalysisFactory()
    study = analysis.image.study
    StudyFactory(created_by=study.created_by, patient=study.patient)
    colleague = DoctorFactory(hospital=study.patient.hospital)
    grant_study(study, to=colleague, can_change=False)
    assert seen(colleague) == {
        "patients": {study.patient_id},
        "studies": {study.id},
        "slices": {analysis.image_id},
        "analyses": {analysis.id},
    }
    assert not study.can_be_changed_by(colleague)


def test_granting_a_patient_shows_none_of_the_studies() -> None:
    study = StudyFactory()
    colleague = DoctorFactory(hospital=study.patient.hospital)
    grant_patient(study.patient, to=colleague, can_change=True)
    assert seen(colleague) == NOTHING | {"patients": {study.patient_id}}


def test_granting_twice_changes_nothing_and_a_weaker_grant_takes_nothing_away() -> None:
    study = StudyFactory()
    before = set(StudyUserObjectPermission.objects.values_list("id", flat=True))
    grant_study(study, to=study.created_by, can_change=True)
    grant_study(study, to=study.created_by, can_change=False)
    assert set(StudyUserObjectPermission.objects.values_list("id", flat=True)) == before
    assert study.can_be_changed_by(study.created_by)
    assert study.patient.can_be_changed_by(study.created_by)


@pytest.mark.parametrize(
    "person",
    [
        lambda hospital: DoctorFactory(),
        lambda hospital: DoctorFactory(hospital=hospital, approved_at=None),
        lambda hospital: DoctorFactory(hospital=hospital, is_active=False),
        lambda hospital: AdministratorFactory(hospital=hospital),
        lambda hospital: UserFactory(),
    ],
)
def test_only_an_approved_doctor_of_the_hospital_can_be_granted(person: Callable[[object], User]) -> None:
    study = StudyFactory()
    somebody = person(study.patient.hospital)
    for grant in (
        lambda: grant_study(study, to=somebody, can_change=False),
        lambda: grant_patient(study.patient, to=somebody, can_change=False),
    ):
        with pytest.raises(GrantError, match="own hospital"):
            grant()
    assert not PatientUserObjectPermission.objects.filter(user=somebody).exists()
    assert not StudyUserObjectPermission.objects.filter(user=somebody).exists()


def test_a_grant_takes_only_permissions_of_its_list() -> None:
    study = StudyFactory()
    for codename in ("delete_study", "add_study", "view_patient"):
        with pytest.raises(ValidationError, match=codename):
            StudyUserObjectPermission.objects.create(
                user=study.created_by, content_object=study, permission=Permission.objects.get(codename=codename)
            )
    with pytest.raises(ValidationError, match="delete_patient"):
        PatientUserObjectPermission.objects.create(
            user=study.created_by,
            content_object=PatientFactory(created_by=study.created_by),
            permission=Permission.objects.get(codename="delete_patient"),
        )
