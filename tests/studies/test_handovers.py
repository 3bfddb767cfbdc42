"""A patient hands an upload over; one doctor takes it: who sees what when, and who is told what."""

import threading

import pytest
from django.core import mail
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django.asserts import assertContains, assertNotContains, assertRedirects

from accounts.models import AccessEvent, User
from reports.automatic import automatic_report_of
from reports.models import Report
from studies.errors import HandoverError, RecordNumberTakenError
from studies.handovers import take_over
from studies.models import Handover, Patient, Study
from tests.factories import (
    AdministratorFactory,
    DoctorFactory,
    HospitalFactory,
    OwnStudyFactory,
    PatientFactory,
    ReportFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def doctor() -> User:
    return DoctorFactory()


@pytest.fixture
def study() -> Study:
    return OwnStudyFactory(is_done=True)


def ask(study: Study, doctor: User) -> Handover:
    return Handover.request(study, hospital=doctor.hospital, by=study.created_by)


def test_before_the_request_no_doctor_sees_anything(client: Client, study: Study, doctor: User) -> None:
    client.force_login(doctor)
    assert not Handover.objects.waiting_for(doctor).exists()
    assertContains(client.get(reverse("studies:handover_list")), "No patient waits")
    assertNotContains(client.get("/"), study.patient.family_name)
    assertNotContains(client.get(reverse("studies:patient_list")), study.patient.family_name)


def test_the_whole_hospital_sees_the_request_and_no_picture(client: Client, study: Study, doctor: User) -> None:
    handover = ask(study, doctor)
    colleague = DoctorFactory(hospital=doctor.hospital)
    stranger, waiting = DoctorFactory(), DoctorFactory(hospital=doctor.hospital, approved_at=None)
    for user in (doctor, colleague):
        assert list(Handover.objects.waiting_for(user)) == [handover]
    for user in (stranger, waiting, study.created_by, AdministratorFactory(hospital=doctor.hospital)):
        assert not Handover.objects.waiting_for(user).exists()
        assert not Handover.objects.seen_by(user).exists()
    client.force_login(colleague)
    assertContains(client.get("/"), study.patient.family_name)
    assertContains(client.get(reverse("studies:handover_list")), study.patient.family_name)
    detail = client.get(reverse("studies:handover_take", args=[handover.id]))
    assertContains(detail, "What is the spot on the left?")
    assertNotContains(detail, ".png")
    assert not Study.objects.visible_to(colleague).exists()
    assert client.get(reverse("studies:image_file", args=[study.images.get().id])).status_code == 404
    assert AccessEvent.objects.filter(action="viewed", target_id=handover.id, actor=colleague).exists()


def test_taking_over_moves_the_study_to_the_hospital(client: Client, study: Study, doctor: User) -> None:
    handover, colleague = ask(study, doctor), DoctorFactory(hospital=doctor.hospital)
    client.force_login(doctor)
    response = client.post(reverse("studies:handover_take", args=[handover.id]), {"record_number": "H-77"})
    assertRedirects(response, reverse("studies:study_detail", args=[study.id]))
    study.refresh_from_db()
    record = study.patient
    assert (record.hospital, record.record_number, record.user) == (doctor.hospital, "H-77", study.created_by)
    assert list(Study.objects.changeable_by(doctor)) == [study]
    assert list(Patient.objects.changeable_by(doctor)) == [record]
    assert not Study.objects.visible_to(colleague).exists()
    assert list(Study.objects.uploaded_by(study.created_by)) == [study]
    assert AccessEvent.objects.filter(action="claimed", target_id=study.id, hospital=doctor.hospital).exists()
    (told,) = mail.outbox
    assert told.to == [study.created_by.email]
    for word in ("CT", "scan", "finding", "tumour", "report", doctor.hospital.name, doctor.family_name):
        assert word not in told.subject + told.body.replace(study.created_by.given_name, "")


def test_the_second_doctor_is_told_who_was_faster(client: Client, study: Study, doctor: User) -> None:
    handover, second = ask(study, doctor), DoctorFactory(hospital=doctor.hospital)
    address = reverse("studies:handover_take", args=[handover.id])
    client.force_login(second)
    client.get(address)
    take_over(handover, by=doctor, record_number="H-1")
    response = client.post(address, {"record_number": "H-2"}, follow=True)
    assertContains(response, f"{doctor} has taken this study over")
    assert Patient.objects.filter(hospital=doctor.hospital).count() == 1
    assert not Study.objects.visible_to(second).exists()
    stale = Handover.objects.get(id=handover.id)
    stale.state = Handover.State.REQUESTED
    with pytest.raises(HandoverError, match="already"):
        take_over(stale, by=second, record_number="H-2")


@pytest.mark.django_db(transaction=True)
def test_of_two_doctors_at_once_one_takes_it() -> None:
    study = OwnStudyFactory()
    doctors = [DoctorFactory(hospital=hospital) for hospital in [HospitalFactory()] for _ in range(2)]
    handover = ask(study, doctors[0])
    start, outcomes = threading.Barrier(2), []

    def take(doctor: User) -> None:
        mine = Handover.objects.get(id=handover.id)
        start.wait(10)
        while True:
            try:
                take_over(mine, by=doctor, record_number=f"H-{doctor.given_name}")
                outcomes.append("taken")
            except HandoverError as error:
                outcomes.append(str(error))
            except OperationalError:
                continue  # SQLite in memory turns the second writer away at once instead of having it wait
            break
        connection.close()

    threads = [threading.Thread(target=take, args=[doctor]) for doctor in doctors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcome == "taken" for outcome in outcomes) == [False, True]
    assert sum(Study.objects.visible_to(doctor).count() for doctor in doctors) == 1
    assert Patient.objects.filter(hospital=doctors[0].hospital).count() == 1


def test_a_number_that_is_taken_changes_nothing(client: Client, study: Study, doctor: User) -> None:
    PatientFactory(created_by=doctor, record_number="H-1")
    handover = ask(study, doctor)
    client.force_login(doctor)
    response = client.post(reverse("studies:handover_take", args=[handover.id]), {"record_number": "h-1"})
    assertContains(response, "already has a patient with this record number", status_code=400)
    with pytest.raises(RecordNumberTakenError):
        take_over(handover, by=doctor, record_number="H-1")
    handover.refresh_from_db()
    study.refresh_from_db()
    assert handover.is_waiting
    assert study.is_own


def test_a_record_that_the_log_in_has_there_is_used(client: Client, study: Study, doctor: User) -> None:
    record = PatientFactory(created_by=DoctorFactory(hospital=doctor.hospital), user=study.created_by)
    handover = ask(study, doctor)
    client.force_login(doctor)
    page = client.get(reverse("studies:handover_take", args=[handover.id]))
    assertContains(page, record.record_number)
    assertNotContains(page, 'name="record_number"')
    client.post(reverse("studies:handover_take", args=[handover.id]))
    study.refresh_from_db()
    assert study.patient == record


def test_a_namesake_s_record_is_never_joined(study: Study, doctor: User) -> None:
    own = study.patient
    namesake = PatientFactory(
        created_by=doctor, given_name=own.given_name, family_name=own.family_name, birth_date=own.birth_date
    )
    take_over(ask(study, doctor), by=doctor, record_number="H-9")
    study.refresh_from_db()
    assert study.patient != namesake


def test_a_stranger_of_another_hospital_takes_nothing(client: Client, study: Study, doctor: User) -> None:
    handover, stranger = ask(study, doctor), DoctorFactory()
    with pytest.raises(HandoverError, match="Only a doctor of the hospital"):
        take_over(handover, by=stranger, record_number="X")
    client.force_login(stranger)
    for name in ("handover_take", "handover_decline"):
        address = reverse(f"studies:{name}", args=[handover.id])
        assert client.post(address, {"record_number": "X", "reason": "X"}).status_code == 404
    handover.refresh_from_db()
    assert handover.is_waiting


def test_the_patient_withdraws_before_it_is_taken_and_not_after(client: Client, study: Study, doctor: User) -> None:
    handover = ask(study, doctor)
    client.force_login(study.created_by)
    address = reverse("studies:own_withdraw", args=[study.id])
    assertContains(client.post(address, follow=True), "The request is withdrawn")
    assert not Handover.objects.waiting_for(doctor).exists()
    assert not Handover.objects.seen_by(doctor).exists()
    client.force_login(doctor)
    assert client.get(reverse("studies:handover_take", args=[handover.id])).status_code == 404
    again = ask(study, doctor)
    take_over(again, by=doctor, record_number="H-1")
    client.force_login(study.created_by)
    assertContains(client.post(address, follow=True), "can no longer be withdrawn")
    study.refresh_from_db()
    assert not study.is_own


def test_it_is_handed_to_one_hospital_at_a_time_and_only_by_its_owner(study: Study, doctor: User) -> None:
    ask(study, doctor)
    with pytest.raises(HandoverError, match="Withdraw that request first"):
        ask(study, DoctorFactory())
    with pytest.raises(HandoverError, match="Only what you uploaded"):
        Handover.request(OwnStudyFactory(), hospital=doctor.hospital, by=study.created_by)
    with pytest.raises(HandoverError, match="No doctor of this hospital"):
        Handover.request(OwnStudyFactory(created_by=study.created_by), hospital=HospitalFactory(), by=study.created_by)


def test_a_hospital_without_an_approved_doctor_is_not_offered(client: Client, study: Study, doctor: User) -> None:
    empty = HospitalFactory(name="Nobody works here")
    DoctorFactory(hospital=empty, approved_at=None)
    client.force_login(study.created_by)
    address = reverse("studies:own_handover", args=[study.id])
    page = client.get(address)
    assertContains(page, doctor.hospital.name)
    assertNotContains(page, empty.name)
    for nonsense in (str(empty.pk), "1", "'; DROP TABLE", ""):
        assert client.post(address, {"hospital": nonsense}).status_code == 400
    assert not Handover.objects.exists()


def test_a_declined_request_tells_the_reason_and_may_go_elsewhere(client: Client, study: Study, doctor: User) -> None:
    handover = ask(study, doctor)
    client.force_login(doctor)
    address = reverse("studies:handover_decline", args=[handover.id])
    assertContains(client.post(address, {"reason": " "}), "Please say why", status_code=400)
    client.post(address, {"reason": "We only read <b>whole</b> examinations."})
    client.force_login(study.created_by)
    page = client.get(reverse("studies:own_study", args=[study.id]))
    assertContains(page, "We only read &lt;b&gt;whole&lt;/b&gt; examinations.")
    assert len(mail.outbox) == 1
    assert "whole" not in mail.outbox[0].body
    ask(study, DoctorFactory())


def test_a_post_office_that_is_closed_stops_nobody(
    client: Client, study: Study, doctor: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("django.core.mail.EmailMessage.send", closed)
    handover = ask(study, doctor)
    client.force_login(doctor)
    assert client.post(reverse("studies:handover_take", args=[handover.id]), {"record_number": "H"}).status_code == 302
    handover.refresh_from_db()
    assert handover.is_taken


def test_drafted_signed_and_released_it_reaches_its_patient(client: Client, study: Study, doctor: User) -> None:
    automatic_report_of(study)
    take_over(ask(study, doctor), by=doctor, record_number="H-1")
    study.refresh_from_db()
    report = ReportFactory(study=study, created_by=doctor, is_signed=True)
    client.force_login(study.created_by)
    assert not Report.objects.visible_to(study.created_by).exists()
    assert client.get(reverse("reports:my_report", args=[report.id])).status_code == 404
    released = Report.objects.get()
    client.force_login(doctor)
    client.post(reverse("reports:report_release", args=[released.id]))
    client.force_login(study.created_by)
    assertContains(client.get(reverse("reports:my_report", args=[report.id])), doctor.hospital.name)
    assertContains(client.get(reverse("reports:automatic_report", args=[study.id])), "not read by a doctor")
    assertContains(client.get(reverse("studies:own_study", args=[study.id])), "Read the automatic report")


def test_after_the_take_over_no_automatic_report_is_made_any_more_and_none_is_offered(
    client: Client, study: Study, doctor: User
) -> None:
    page = reverse("studies:own_study", args=[study.id])
    client.force_login(study.created_by)
    assertContains(client.get(page), "Read the automatic report")
    take_over(ask(study, doctor), by=doctor, record_number="H-1")
    study.refresh_from_db()
    assert automatic_report_of(study) is None
    assertNotContains(client.get(page), "Read the automatic report")
    told = client.get(reverse("api:own_study", args=[study.id])).json()
    assert told["report_url"] is None


def test_pages_of_long_lists_follow_each_other(client: Client, doctor: User) -> None:
    for _ in range(27):
        ask(OwnStudyFactory(created_by=UserFactory()), doctor)
    Handover.objects.update(requested_at=timezone.now())
    client.force_login(doctor)
    first = client.get(reverse("studies:handover_list")).context["page"]
    second = client.get(reverse("studies:handover_list"), {"after": first.next_key}).context["page"]
    assert len({row.id for row in (*first.rows, *second.rows)}) == 27
    assert client.get(reverse("studies:handover_list"), {"after": "nonsense"}).status_code == 200
