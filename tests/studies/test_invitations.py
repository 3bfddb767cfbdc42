"""An invitation opens one record once, to whoever has the link and knows record number and date of birth."""

import datetime
import re
from typing import Any

import pytest
from django.core import mail
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django.asserts import assertContains

from accounts.models import AccessEvent, User
from studies.claims import claim_with_invitation, invite_patient, open_invitation
from studies.errors import ClaimLockedError, InvitationError
from studies.models import Patient, RecordInvitation
from studies.permissions import grant_patient
from tests.factories import (
    BIRTH_DATE,
    AdministratorFactory,
    DoctorFactory,
    PatientFactory,
    ReportFactory,
    StudyFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db
RIGHT = {"record_number": "R-77", "birth_date": BIRTH_DATE}


@pytest.fixture
def record() -> Patient:
    return PatientFactory(record_number="R-77", email="maria@example.org", family_name="Secretname")


@pytest.fixture
def token(record: Patient) -> str:
    return invite_patient(record, by=record.created_by)[1]


def claim(user: User, token: str, **changes: Any) -> Patient | None:
    return claim_with_invitation(user, token=token, **(RIGHT | changes))


def link_in_mail() -> str:
    found = re.search(r"http://testserver(/studies/claim/\S+)", mail.outbox[-1].body)
    assert found
    return found.group(1)


def test_link_number_and_birth_date_open_the_record_once(record: Patient, token: str) -> None:
    person = UserFactory(email="another-address@example.org")
    assert claim(person, token, record_number=" r-77 ") == record
    record.refresh_from_db()
    assert record.user == person
    invitation = RecordInvitation.objects.get()
    assert (invitation.used_by, invitation.revoked_at) == (person, None)
    with pytest.raises(InvitationError, match="no longer works"):
        claim(UserFactory(), token)
    assert open_invitation(token) is None


def test_released_reports_come_along(record: Patient, token: str) -> None:
    report = ReportFactory(study=StudyFactory(created_by=record.created_by, patient=record), is_released=True)
    person = UserFactory()
    client = Client()
    client.force_login(person)
    page = reverse("reports:my_report", kwargs={"report_id": report.pk})
    assert client.get(page).status_code == 404
    claim(person, token)
    assert client.get(page).status_code == 200


def test_the_token_is_stored_as_a_hash_only(token: str) -> None:
    assert token not in str(RecordInvitation.objects.values().get())


@pytest.mark.parametrize("changes", [{"record_number": "R-78"}, {"birth_date": datetime.date(1960, 5, 18)}])
def test_guesses_are_counted_and_end_the_invitation_for_everybody(
    record: Patient, token: str, changes: dict[str, Any]
) -> None:
    for _ in range(RecordInvitation.MAX_WRONG_GUESSES):
        # Each by another person: the invitation counts for itself.
        assert claim(UserFactory(), token, **changes) is None
    with pytest.raises(InvitationError):
        claim(UserFactory(), token)
    record.refresh_from_db()
    assert record.user is None


def test_one_person_s_guesses_lock_that_person_on_every_invitation(record: Patient, token: str) -> None:
    person = UserFactory()
    for _ in range(4):
        claim(person, token, record_number="X")
    other_token = invite_patient(PatientFactory(record_number="R-77", email="x@example.org"), by=record.created_by)[1]
    assert claim(person, other_token, record_number="X") is None
    with pytest.raises(ClaimLockedError):
        claim(person, other_token)


def test_an_invitation_expires(token: str) -> None:
    RecordInvitation.objects.update(expires_at=timezone.now() - datetime.timedelta(seconds=1))
    with pytest.raises(InvitationError):
        claim(UserFactory(), token)


def test_a_newer_invitation_replaces_the_older_one(record: Patient, token: str) -> None:
    newer = invite_patient(record, by=record.created_by)[1]
    with pytest.raises(InvitationError):
        claim(UserFactory(), token)
    assert claim(UserFactory(), newer) == record


def test_a_person_with_another_record_at_the_hospital_gets_no_second_one(record: Patient, token: str) -> None:
    person = UserFactory()
    PatientFactory(created_by=record.created_by, user=person)
    assert claim(person, token) is None
    record.refresh_from_db()
    assert record.user is None


def test_records_without_address_or_with_a_reader_are_not_invited(record: Patient) -> None:
    Patient.objects.filter(pk=record.pk).update(email="")
    record.refresh_from_db()
    with pytest.raises(InvitationError, match="no e-mail address"):
        invite_patient(record, by=record.created_by)
    record.link_to(UserFactory())
    with pytest.raises(InvitationError, match="already"):
        invite_patient(record, by=record.created_by)


def test_the_database_holds_what_an_invitation_is(record: Patient, token: str) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        RecordInvitation.objects.update(used_at=timezone.now())
    with pytest.raises(IntegrityError), transaction.atomic():
        RecordInvitation.objects.create(
            patient=record,
            token_hash="x",
            email="a@example.org",
            created_by=record.created_by,
            expires_at=timezone.now(),
        )


def test_a_doctor_mails_it_and_the_mail_says_nothing_about_the_patient(client: Client, record: Patient) -> None:
    client.force_login(record.created_by)
    page = reverse("studies:patient_detail", kwargs={"patient_id": record.pk})
    assert "Mail an invitation" in client.get(page).content.decode()
    client.post(reverse("studies:patient_invite", kwargs={"patient_id": record.pk}))
    assert [message.to for message in mail.outbox] == [["maria@example.org"]]
    body = mail.outbox[0].body + mail.outbox[0].subject
    for secret in ("Secretname", "R-77", "1960", "CT", "cancer"):
        assert secret not in body
    assert record.hospital.name in body
    assert AccessEvent.objects.filter(action="changed", target_id=record.pk).exists()


def test_only_who_may_change_the_record_invites(client: Client, record: Patient) -> None:
    url = reverse("studies:patient_invite", kwargs={"patient_id": record.pk})
    reader = DoctorFactory(hospital=record.hospital)
    grant_patient(record, to=reader, can_change=False)
    people = ((reader, 403), (DoctorFactory(hospital=record.hospital), 404), (DoctorFactory(), 404))
    for person, status in (*people, (UserFactory(), 404), (AdministratorFactory(hospital=record.hospital), 404)):
        client.force_login(person)
        assert client.post(url).status_code == status
    assert mail.outbox == []


def test_from_the_mail_to_the_record_in_the_browser_s_steps(client: Client, record: Patient) -> None:
    doctor = Client()
    doctor.force_login(record.created_by)
    doctor.post(reverse("studies:patient_invite", kwargs={"patient_id": record.pk}))
    link = link_in_mail()
    landing = client.get(link).content.decode()
    assert record.hospital.name in landing
    assert "Secretname" not in landing
    assert f"{reverse('account_login')}?next={link}" in landing
    assert client.post(link, {"record_number": "R-77", "birth_date": "1960-05-17"}).status_code == 200
    record.refresh_from_db()
    assert record.user is None, "nobody is logged in"
    person = UserFactory()
    client.force_login(person)
    wrong = client.post(link, {"record_number": "R-78", "birth_date": "1960-05-17"})
    assert wrong.status_code == 400
    assert "does not match" in wrong.content.decode()
    empty = client.post(link, {"record_number": "", "birth_date": "x"})
    assert empty.status_code == 400
    assert RecordInvitation.objects.get().wrong_guesses == 1, "nonsense is no guess"
    assert client.post(link, {"record_number": "R-77", "birth_date": "1960-05-17"}).url == reverse("home")
    record.refresh_from_db()
    assert record.user == person
    assert AccessEvent.objects.filter(actor=person, action="claimed", target_id=record.pk).exists()
    assert client.get(link).status_code == 410


def test_doctors_and_administrators_see_no_invitation(client: Client, token: str) -> None:
    for person in (DoctorFactory(), AdministratorFactory()):
        client.force_login(person)
        assert client.get(reverse("studies:claim_invitation", kwargs={"token": token})).status_code == 404


def test_a_post_office_that_is_closed_is_told_in_a_sentence(
    client: Client, record: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("django.core.mail.EmailMessage.send", closed)
    client.force_login(record.created_by)
    answer = client.post(reverse("studies:patient_invite", args=[record.id]), follow=True)
    assertContains(answer, "The mail server did not take the invitation")
    answer = client.post(reverse("api:patient_invitation", args=[record.id]))
    assert answer.status_code == 409
    assert "The mail server did not take the invitation" in answer.json()["detail"]
