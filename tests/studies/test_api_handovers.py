"""What patients hand to a hospital, for programs of its doctors: what is seen, taken, declined, and who is told."""

import pytest
from django.core import mail

from accounts.models import AccessEvent, User
from studies.handovers import take_over
from studies.models import Handover, Patient, Study
from tests.factories import DoctorFactory, OwnStudyFactory, PatientFactory, UserFactory
from tests.programs import Program, is_problem

pytestmark = pytest.mark.django_db


@pytest.fixture
def doctor() -> User:
    return DoctorFactory()


@pytest.fixture
def program(doctor: User) -> Program:
    return Program(doctor)


@pytest.fixture
def study() -> Study:
    return OwnStudyFactory(is_done=True)


@pytest.fixture
def handover(study: Study, doctor: User) -> Handover:
    return Handover.request(study, hospital=doctor.hospital, by=study.created_by)


def test_the_whole_hospital_sees_the_request_and_no_picture(handover: Handover, doctor: User, study: Study) -> None:
    colleague = DoctorFactory(hospital=doctor.hospital)
    program = Program(colleague)
    (row,) = program.get("hand-overs/").json()["results"]
    assert (row["family_name"], row["birth_date"]) == (
        study.patient.family_name,
        study.patient.birth_date.isoformat(),
    )
    answer = program.get(row["url"])
    body = answer.json()
    assert body["clinical_question"] == "What is the spot on the left?"
    assert body["record_number"] is None
    assert body["proposed_record_number"].startswith("SELF-")
    assert str(study.pk) not in answer.content.decode()
    assert AccessEvent.objects.filter(action="viewed", target_id=handover.pk, actor=colleague).count() == 1
    assert is_problem(program.get(f"studies/{study.pk}/"), 404)


def test_taking_over_makes_it_a_study_of_the_hospital(
    handover: Handover, doctor: User, program: Program, study: Study
) -> None:
    path = f"hand-overs/{handover.pk}/take/"
    for body in ({}, {"record_number": ""}):
        assert is_problem(program.post(path, body), 400, "record_number")
    taken = program.post(path, {"record_number": "H-77"})
    assert taken.status_code == 200
    assert (taken.json()["patient"]["record_number"], taken.json()["can_change"]) == ("H-77", True)
    assert program.get(taken["Location"]).json()["id"] == str(study.pk)
    assert AccessEvent.objects.filter(action="claimed", target_id=study.pk, actor=doctor).count() == 1
    (told,) = mail.outbox
    assert told.to == [study.created_by.email]
    assert program.get("hand-overs/").json()["results"] == []


def test_a_record_that_the_log_in_has_there_is_used(
    handover: Handover, doctor: User, program: Program, study: Study
) -> None:
    record = PatientFactory(created_by=DoctorFactory(hospital=doctor.hospital), user=study.created_by)
    shown = program.get(f"hand-overs/{handover.pk}/").json()
    assert (shown["record_number"], shown["proposed_record_number"]) == (record.record_number, None)
    assert program.post(f"hand-overs/{handover.pk}/take/", {}).json()["patient"]["id"] == str(record.pk)


def test_a_number_that_is_taken_changes_nothing(handover: Handover, doctor: User, program: Program) -> None:
    PatientFactory(created_by=doctor, record_number="H-1")
    refused = program.post(f"hand-overs/{handover.pk}/take/", {"record_number": "h-1"})
    assert is_problem(refused, 409, "already has a patient with this record number")
    handover.refresh_from_db()
    assert handover.is_waiting
    assert not mail.outbox


def test_the_second_doctor_is_told_who_was_faster_and_reads_nothing_more(handover: Handover, doctor: User) -> None:
    take_over(handover, by=doctor, record_number="H-1")
    second = Program(DoctorFactory(hospital=doctor.hospital))
    sentence = f"{doctor} has taken this study over"
    assert is_problem(second.get(f"hand-overs/{handover.pk}/"), 409, sentence)
    assert is_problem(second.post(f"hand-overs/{handover.pk}/take/", {"record_number": "H-2"}), 409, sentence)
    assert is_problem(second.post(f"hand-overs/{handover.pk}/decline/", {"reason": "No."}), 409, sentence)
    assert Patient.objects.filter(hospital=doctor.hospital).count() == 1


def test_declining_needs_a_reason_that_the_patient_reads(handover: Handover, program: Program, study: Study) -> None:
    path = f"hand-overs/{handover.pk}/decline/"
    for body in ({}, {"reason": " "}, {"reason": "x" * 501}):
        assert is_problem(program.post(path, body), 400, "reason")
    declined = program.post(path, {"reason": "We only read whole examinations."})
    assert (declined.status_code, declined.json()["state"]) == (200, "declined")
    told = Program(study.created_by).get(f"own-studies/{study.pk}/").json()["hand_over"]
    assert told["reason"] == "We only read whole examinations."
    assert "whole" not in mail.outbox[0].body
    assert is_problem(program.post(path, {"reason": "Again."}), 409, "You have decided on this request already")


def test_what_is_withdrawn_does_not_exist_any_more(handover: Handover, program: Program, study: Study) -> None:
    handover.withdraw(by=study.created_by)
    assert is_problem(program.get(f"hand-overs/{handover.pk}/"), 404)
    assert is_problem(program.post(f"hand-overs/{handover.pk}/take/", {"record_number": "H"}), 404)


def test_for_a_stranger_it_does_not_exist(handover: Handover, doctor: User, study: Study) -> None:
    strangers = (DoctorFactory(), DoctorFactory(hospital=doctor.hospital, approved_at=None), UserFactory())
    for stranger in (*strangers, study.created_by):
        program, path = Program(stranger), f"hand-overs/{handover.pk}/"
        assert is_problem(program.get(path), 404)
        assert is_problem(program.post(f"{path}take/", {"record_number": "X"}), 404)
        assert is_problem(program.post(f"{path}decline/", {"reason": "X"}), 404)
    assert Program(strangers[0]).get("hand-overs/").json()["results"] == []
    handover.refresh_from_db()
    assert handover.is_waiting


def test_a_token_that_reads_takes_nothing(handover: Handover, doctor: User) -> None:
    reading = Program(doctor, scopes=["read"])
    assert reading.get(f"hand-overs/{handover.pk}/").status_code == 200
    assert is_problem(reading.post(f"hand-overs/{handover.pk}/take/", {"record_number": "H"}), 403, "write")
    assert is_problem(reading.post(f"hand-overs/{handover.pk}/decline/", {"reason": "No."}), 403, "write")
