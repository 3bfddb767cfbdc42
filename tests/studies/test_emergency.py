"""A doctor opens a record of the own hospital in an emergency: what opens, for how long, and who is told."""

import datetime
import smtplib
from typing import Any

import pytest
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import AccessEvent, Role, User
from accounts.roles import apply_role
from portal.access_history import history_of
from reports.models import Report
from studies.errors import GrantError
from studies.models import Image, Patient, PatientUserObjectPermission, Study, StudyUserObjectPermission
from studies.permissions import grant_in_emergency, grant_patient, grant_study
from tests.factories import (
    BIRTH_DATE,
    AdministratorFactory,
    AnalysisFactory,
    DoctorFactory,
    ImageFactory,
    PatientFactory,
    ReportFactory,
    StudyFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db

REASON = "Unconscious in the emergency room, nobody of his ward can be reached."
Action = AccessEvent.Action


@pytest.fixture(autouse=True)
def _no_counters() -> None:
    cache.clear()


@pytest.fixture
def study() -> Study:
    """A study with one slice that nobody but the doctor who made it may see."""
    record = PatientFactory(user=UserFactory(email="patient@example.org"), record_number="R-EMERGENCY")
    made: Study = StudyFactory(created_by=record.created_by, patient=record)
    ImageFactory(study=made)
    return made


@pytest.fixture
def colleague(study: Study) -> User:
    """A doctor of the same hospital without any grant."""
    doctor: User = DoctorFactory(hospital=study.patient.hospital, given_name="Uma", family_name="Urgent")
    return doctor


def opened(doctor: User, *, client: Client | None = None, **changes: str) -> tuple[int, str]:
    """Send the form; return status and page."""
    browser = client or Client()
    browser.force_login(doctor)
    data = {"record_number": "R-EMERGENCY", "birth_date": f"{BIRTH_DATE:%Y-%m-%d}", "reason": REASON} | changes
    response = browser.post(reverse("studies:emergency_access"), data)
    return response.status_code, response.content.decode()


def pages_of(study: Study) -> list[str]:
    image = study.images.get()
    return [
        reverse("studies:patient_detail", args=[study.patient_id]),
        reverse("studies:study_detail", args=[study.id]),
        reverse("studies:study_read", args=[study.id]),
        reverse("studies:image_file", args=[image.id]),
    ]


def seen(doctor: User) -> tuple[set[Any], set[Any], set[Any]]:
    return tuple(  # type: ignore[return-value]
        set(model.objects.visible_to(doctor).values_list("id", flat=True))  # type: ignore[attr-defined]
        for model in (Patient, Study, Image)
    )


def end_emergencies() -> None:
    """Let all emergencies be over."""
    past = timezone.now() - datetime.timedelta(seconds=1)
    for grants in (PatientUserObjectPermission, StudyUserObjectPermission):
        grants.objects.filter(expires_at__isnull=False).update(expires_at=past)


# --- what opens -------------------------------------------------------------------------------------------------------


def test_a_reason_opens_the_record_with_its_studies_to_read_and_nothing_else(study: Study, colleague: User) -> None:
    elsewhere = StudyFactory(created_by=study.created_by)
    client = Client()
    client.force_login(colleague)
    assert [client.get(page).status_code for page in pages_of(study)] == [404] * 4
    assert opened(colleague, client=client)[0] == 302
    assert [client.get(page).status_code for page in pages_of(study)] == [200] * 4
    assert seen(colleague) == ({study.patient_id}, {study.id}, {study.images.get().id})
    assert client.get(reverse("studies:study_detail", args=[elsewhere.id])).status_code == 404
    # To read, not to change.
    assert client.get(reverse("studies:patient_edit", args=[study.patient_id])).status_code == 403
    assert client.get(reverse("studies:study_share", args=[study.id])).status_code == 403
    assert client.post(reverse("studies:patient_invite", args=[study.patient_id])).status_code == 403


def test_reports_open_with_the_study_and_cannot_be_signed(study: Study, colleague: User) -> None:
    report = ReportFactory(study=StudyFactory(created_by=study.created_by, patient=study.patient))
    opened(colleague)
    client = Client()
    client.force_login(colleague)
    assert set(Report.objects.visible_to(colleague)) == {report}
    assert client.get(reverse("reports:report_detail", args=[report.id])).status_code == 200
    assert client.get(reverse("reports:report_sign", args=[report.id])).status_code == 403


def test_it_ends_by_itself(study: Study, colleague: User) -> None:
    opened(colleague)
    end_emergencies()
    assert seen(colleague) == (set(), set(), set())
    client = Client()
    client.force_login(colleague)
    assert [client.get(page).status_code for page in pages_of(study)] == [404] * 4
    assert list(study.people_with_access()) == [study.created_by]


def test_it_lasts_as_long_as_the_setting_says(study: Study, colleague: User, settings) -> None:
    settings.EMERGENCY_ACCESS_MINUTES = 5
    before = timezone.now()
    opened(colleague)
    grant = StudyUserObjectPermission.objects.get(user=colleague)
    minutes = datetime.timedelta(minutes=5)
    assert before + minutes <= grant.expires_at <= timezone.now() + minutes


def test_another_emergency_moves_the_end_and_is_told_again(study: Study, colleague: User) -> None:
    opened(colleague)
    end_emergencies()
    assert opened(colleague)[0] == 302
    assert seen(colleague)[1] == {study.id}
    assert AccessEvent.objects.filter(action=Action.OPENED_IN_EMERGENCY).count() == 2
    assert StudyUserObjectPermission.objects.filter(user=colleague).count() == 1


def test_other_hospitals_records_stay_closed(study: Study) -> None:
    stranger = DoctorFactory()
    status, page = opened(stranger)
    assert status == 400
    assert "Your hospital keeps no record" in page
    assert seen(stranger) == (set(), set(), set())
    assert not mail.outbox
    with pytest.raises(GrantError):
        grant_in_emergency(study.patient, to=stranger, until=timezone.now())


def test_an_emergency_does_not_follow_a_doctor_to_another_hospital(study: Study, colleague: User) -> None:
    opened(colleague)
    colleague.hospital = DoctorFactory().hospital
    colleague.save()
    assert seen(colleague) == (set(), set(), set())


@pytest.mark.parametrize(
    "make",
    [
        lambda hospital: UserFactory(),
        lambda hospital: DoctorFactory(hospital=hospital, approved_at=None),
        lambda hospital: AdministratorFactory(hospital=hospital),
        lambda hospital: AdministratorFactory(hospital=hospital, is_superuser=True),
    ],
)
def test_nobody_but_approved_doctors_finds_the_page(study: Study, make: Any) -> None:
    assert opened(make(study.patient.hospital))[0] == 404
    assert not AccessEvent.objects.filter(action=Action.OPENED_IN_EMERGENCY).exists()


# --- with ordinary grants beside it -----------------------------------------------------------------------------------


def test_who_may_read_it_anyway_has_no_emergency(study: Study) -> None:
    assert opened(study.created_by)[0] == 302
    assert not AccessEvent.objects.filter(action=Action.OPENED_IN_EMERGENCY).exists()
    assert not mail.outbox
    assert set(Study.objects.changeable_by(study.created_by)) == {study}


def test_an_ordinary_grant_outlives_the_emergency(study: Study, colleague: User) -> None:
    opened(colleague)
    grant_study(study, to=colleague, can_change=False)
    end_emergencies()
    assert seen(colleague)[:2] == ({study.patient_id}, {study.id})


def test_a_grant_on_the_record_alone_is_kept_and_the_studies_are_lent(study: Study, colleague: User) -> None:
    grant_patient(study.patient, to=colleague, can_change=True)
    assert opened(colleague)[0] == 302
    assert seen(colleague)[1] == {study.id}
    end_emergencies()
    assert seen(colleague)[:2] == ({study.patient_id}, set())
    assert study.patient.can_be_changed_by(colleague)


# --- the form ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"reason": ""},
        {"reason": "urgent"},
        {"reason": " " * 40},
        {"reason": "a" * 40},
        {"reason": "x" * 501},
        {"record_number": ""},
        {"record_number": "R-\x00EMERGENCY"},
        {"birth_date": "nonsense"},
        {"birth_date": "1960-05-18"},
        {"record_number": "R-EMERGENC_"},
        {"record_number": "%"},
    ],
)
def test_a_form_that_is_wrong_opens_nothing(study: Study, colleague: User, change: dict[str, str]) -> None:
    assert opened(colleague, **change)[0] == 400
    assert seen(colleague) == (set(), set(), set())
    assert not mail.outbox


def test_records_cannot_be_fished_for(study: Study, colleague: User) -> None:
    for number in range(10):
        assert opened(colleague, record_number=f"R-{number}")[0] == 400
    status, page = opened(colleague)
    assert status == 429
    assert "There were too many tries." in page
    tried = AccessEvent.objects.filter(action=Action.LOGIN_FAILED, actor=colleague)
    assert tried.count() == 10
    assert all("emergency access" in event.note for event in tried)


# --- who is told ------------------------------------------------------------------------------------------------------


def test_patient_and_administrators_are_told_and_nothing_medical_is_mailed(study: Study, colleague: User) -> None:
    administrator = AdministratorFactory(hospital=study.patient.hospital, email="admin@clinic.example")
    AdministratorFactory(email="admin@elsewhere.example")
    gone = AdministratorFactory(hospital=study.patient.hospital)
    gone.deactivate()
    opened(colleague)
    mails = {message.to[0]: message for message in mail.outbox}
    assert set(mails) == {"patient@example.org", administrator.email}
    assert all(len(message.to) == 1 for message in mail.outbox)
    assert study.patient.hospital.name in mails["patient@example.org"].body
    assert reverse("access_history") in mails["patient@example.org"].body
    assert "Uma Urgent" in mails[administrator.email].body
    assert "Urgent" not in mails["patient@example.org"].body
    for message in mail.outbox:
        for words in (REASON, study.patient.family_name, "R-EMERGENCY", study.clinical_question, "CT"):
            assert words not in f"{message.subject} {message.body}"


def test_a_record_without_a_log_in_is_told_under_its_address_and_none_without_one(
    study: Study, colleague: User
) -> None:
    Patient.objects.update(user=None, email="kept@example.org")
    opened(colleague)
    assert [message.to for message in mail.outbox] == [["kept@example.org"]]
    assert reverse("access_history") not in mail.outbox[0].body
    mail.outbox.clear()
    Patient.objects.update(email="")
    opened(colleague)
    assert not mail.outbox


def test_a_hospital_without_an_administrator_is_looked_after_by_the_installations(
    study: Study, colleague: User
) -> None:
    root = User.objects.create_superuser("root@example.org", "a-long-password", given_name="R", family_name="R")
    opened(colleague)
    assert root.email in [message.to[0] for message in mail.outbox]


def test_a_mail_server_that_is_down_keeps_no_doctor_from_a_patient(
    study: Study, colleague: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_message: Any) -> None:
        raise smtplib.SMTPServerDisconnected

    monkeypatch.setattr("studies.emergency.send_mail", refuse)
    assert opened(colleague)[0] == 302
    assert seen(colleague)[1] == {study.id}


def test_it_is_on_record_and_the_patient_reads_the_reason(study: Study, colleague: User) -> None:
    opened(colleague)
    event = AccessEvent.objects.get(action=Action.OPENED_IN_EMERGENCY)
    assert (event.actor, event.patient_id, event.note) == (colleague, study.patient_id, REASON)
    assert study.patient.user is not None
    (entry,) = [entry for entry in history_of(study.patient.user, page=None) if entry.is_emergency]
    assert entry.reason == REASON


def test_administrators_list_the_emergencies_of_their_own_hospital(study: Study, colleague: User) -> None:
    opened(colleague)
    mine, foreign = AdministratorFactory(hospital=study.patient.hospital), AdministratorFactory()
    for administrator, is_listed in ((mine, True), (foreign, False)):
        assert administrator.role == Role.ADMINISTRATOR
        apply_role(administrator)
        client = Client()
        client.force_login(administrator)
        response = client.get(reverse("admin:accounts_emergencyaccess_changelist"))
        assert response.status_code == 200
        assert (REASON in response.content.decode()) is is_listed


def test_every_page_about_the_record_says_so_while_it_lasts(study: Study, colleague: User) -> None:
    client = Client()
    opened(colleague, client=client)
    AnalysisFactory.create(image=study.images.get(), is_done=True)
    report = ReportFactory(study=study)
    pages = [*pages_of(study)[:3], reverse("reports:report_detail", args=[report.id])]
    for page in pages:
        assert "Emergency access until" in client.get(page).content.decode(), page
    assert "Emergency access until" not in client.get(reverse("studies:study_list")).content.decode()
    # The doctor who has a grant sees no banner.
    client.force_login(study.created_by)
    for page in pages:
        assert "Emergency access until" not in client.get(page).content.decode(), page
