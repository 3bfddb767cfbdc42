"""A patient sees who looked at the own record, and nobody else's; names only of doctors whom the patient knows."""

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import AccessEvent, User
from portal.access_history import ENTRIES_A_PAGE, history_of
from studies.models import Patient
from tests.factories import (
    AdministratorFactory,
    DoctorFactory,
    HospitalFactory,
    PatientFactory,
    ReportFactory,
    StudyFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db
Action = AccessEvent.Action


@pytest.fixture
def record() -> Patient:
    doctor = DoctorFactory(given_name="Robin", family_name="Hale", hospital=HospitalFactory(name="North Clinic"))
    return PatientFactory(created_by=doctor, user=UserFactory())


def did(actor: User, action: Action, target, *, note: str = "") -> AccessEvent:
    return AccessEvent.note_of(action=action, target=target, actor=actor, address="192.0.2.1", note=note)


def told(user: User) -> list[tuple[str, str, str]]:
    return [(entry.who, entry.deed, entry.thing) for entry in history_of(user, page=None)]


def test_doctors_are_named_only_once_they_signed_a_released_report(record: Patient) -> None:
    doctor = record.created_by
    study = StudyFactory(patient=record, created_by=doctor)
    report = ReportFactory(study=study, is_signed=True)
    did(doctor, Action.VIEWED, study)
    assert told(record.user) == [("A doctor of North Clinic", "looked at", "a scan")]
    report.refresh_from_db()
    other = StudyFactory(patient=record, created_by=doctor)
    ReportFactory(study=other, is_released=True)
    assert told(record.user) == [("Robin Hale, North Clinic", "looked at", "a scan")]


def test_everybody_else_appears_by_role_and_hospital(record: Patient) -> None:
    did(DoctorFactory(hospital=record.hospital, family_name="Secret"), Action.DOWNLOADED, record)
    did(AdministratorFactory(hospital=record.hospital, family_name="Hidden"), Action.CHANGED, record)
    did(record.user, Action.CLAIMED, record)
    assert set(told(record.user)) == {
        ("A doctor of North Clinic", "downloaded", "your record"),
        ("An administrator of North Clinic", "worked on", "your record"),
        ("You", "connected with a log-in", "your record"),
    }


def test_work_on_an_unreleased_report_does_not_tell_how_far_it_is(record: Patient) -> None:
    report = ReportFactory(study=StudyFactory(patient=record, created_by=record.created_by), is_signed=True)
    did(record.created_by, Action.SIGNED, report)
    assert told(record.user) == [("A doctor of North Clinic", "worked on", "a report")]


def test_the_same_look_on_one_day_is_one_line(record: Patient) -> None:
    study = StudyFactory(patient=record, created_by=record.created_by)
    for _ in range(3):
        did(record.created_by, Action.VIEWED, study)
    (entry,) = history_of(record.user, page=None)
    assert (entry.count, entry.times) == (3, "3 times")


def test_emergency_access_tells_its_reason(record: Patient, client: Client) -> None:
    did(DoctorFactory(hospital=record.hospital), Action.OPENED_IN_EMERGENCY, record, note="Unconscious <b>patient</b>")
    client.force_login(record.user)
    page = client.get(reverse("access_history")).content.decode()
    assert "Emergency access." in page
    assert "Unconscious &lt;b&gt;patient&lt;/b&gt;" in page


def test_nobody_sees_the_history_of_somebody_else(record: Patient, client: Client) -> None:
    stranger_record = PatientFactory(user=UserFactory())
    did(DoctorFactory(hospital=record.hospital), Action.VIEWED, record)
    assert told(stranger_record.user) == []
    assert told(UserFactory()) == []
    assert told(record.created_by) == []
    client.force_login(record.created_by)
    assert client.get(reverse("access_history")).status_code == 404


def test_records_at_two_hospitals_are_one_history(record: Patient) -> None:
    elsewhere = PatientFactory(user=record.user, created_by=DoctorFactory(hospital=HospitalFactory(name="South")))
    did(record.created_by, Action.VIEWED, record)
    did(elsewhere.created_by, Action.VIEWED, elsewhere)
    assert {who for who, _deed, _thing in told(record.user)} == {"A doctor of North Clinic", "A doctor of South"}


def test_log_ins_and_network_addresses_are_not_shown(record: Patient, client: Client) -> None:
    did(record.user, Action.LOGGED_IN, record.user)
    did(record.created_by, Action.VIEWED, record)
    client.force_login(record.user)
    page = client.get(reverse("access_history")).content.decode()
    assert "192.0.2.1" not in page
    assert len(told(record.user)) == 1


def test_a_long_history_has_pages_and_few_queries(record: Patient, django_assert_max_num_queries) -> None:
    for number in range(ENTRIES_A_PAGE + 3):
        did(record.created_by, Action.VIEWED, record, note=f"{number}")
    with django_assert_max_num_queries(8):
        first = list(history_of(record.user, page="1"))
    assert len(first) == ENTRIES_A_PAGE
    assert len(list(history_of(record.user, page="2"))) == 3
    assert len(list(history_of(record.user, page="nonsense"))) == ENTRIES_A_PAGE


def test_a_visit_of_the_doctor_appears_on_the_patients_page(record: Patient, client: Client) -> None:
    study = StudyFactory(patient=record, created_by=record.created_by)
    client.force_login(record.created_by)
    client.get(reverse("studies:study_detail", args=[study.id]))
    client.force_login(record.user)
    assert b"A doctor of North Clinic" in client.get(reverse("access_history")).content


def test_what_a_doctors_programs_did_stands_with_what_the_doctor_did(record: Patient) -> None:
    for note in ("", "API token 1", "API token 2"):
        did(record.created_by, Action.VIEWED, record, note=note)
    (entry,) = history_of(record.user, page=None)
    assert (entry.count, entry.reason) == (3, "")
