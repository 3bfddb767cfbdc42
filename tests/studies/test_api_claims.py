"""Claiming a record and inviting a patient to, for programs: one sentence for every wrong guess, and few guesses."""

import datetime
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import AccessEvent, User
from studies.claims import invite_patient
from studies.models import Patient, RecordInvitation
from studies.permissions import grant_patient
from tests.factories import BIRTH_DATE, DoctorFactory, PatientFactory, UserFactory
from tests.programs import Program, is_problem

pytestmark = pytest.mark.django_db
PATH = "my-record/claim/"
SAME_SENTENCE = "No record with this number and date of birth is kept under your e-mail address."


@pytest.fixture
def person() -> User:
    """Somebody with a verified address."""
    person: User = UserFactory(email="maria@example.org")
    EmailAddress.objects.create(user=person, email=person.email, verified=True, primary=True)
    return person


@pytest.fixture
def record() -> Patient:
    return PatientFactory(record_number="R-77", email="Maria@Example.org")


def guess(**changes: Any) -> dict[str, Any]:
    return {"record_number": "R-77", "birth_date": BIRTH_DATE.isoformat()} | changes


class TestClaim:
    def test_number_birth_date_and_verified_address_together_claim_it(self, person: User, record: Patient) -> None:
        claimed = Program(person).post(PATH, guess())
        assert (claimed.status_code, claimed.json()) == (200, {"id": str(record.pk), "hospital": record.hospital.name})
        record.refresh_from_db()
        assert record.user == person
        assert AccessEvent.objects.filter(action="claimed", target_id=record.pk, actor=person).count() == 1
        (row,) = Program(person).get("my-record/").json()["records"]
        assert row["id"] == str(record.pk)

    @pytest.mark.parametrize("change", [{"record_number": "R-78"}, {"birth_date": "1960-05-18"}])
    def test_every_wrong_guess_gets_the_same_sentence(
        self, person: User, record: Patient, change: dict[str, str]
    ) -> None:
        stranger = UserFactory()  # who knows everything but has another address
        assert is_problem(Program(person).post(PATH, guess(**change)), 400, SAME_SENTENCE)
        assert is_problem(Program(stranger).post(PATH, guess()), 400, SAME_SENTENCE)
        assert Patient.objects.get(pk=record.pk).user is None

    def test_what_is_no_guess_is_named_and_not_counted(self, person: User, record: Patient) -> None:
        for _turn in range(6):
            assert is_problem(Program(person).post(PATH, {"record_number": "R-77"}), 400, "birth_date")
        assert Program(person).post(PATH, guess()).status_code == 200

    def test_guesses_on_pages_and_here_are_counted_together(self, person: User, record: Patient) -> None:
        browser, program = Client(), Program(person)
        browser.force_login(person)
        for _turn in range(3):
            browser.post(reverse("studies:claim_record"), guess(record_number="X"))
        for _turn in range(2):
            assert is_problem(program.post(PATH, guess(record_number="X")), 400)
        locked = program.post(PATH, guess())
        assert is_problem(locked, 429, "please wait until")
        assert 3500 < int(locked["Retry-After"]) <= 3600
        assert Patient.objects.get(pk=record.pk).user is None

    def test_it_is_for_patients_and_needs_the_scope(self, person: User, record: Patient) -> None:
        assert is_problem(Program(DoctorFactory()).post(PATH, guess()), 404)
        assert is_problem(Program(person, scopes=["read"]).post(PATH, guess()), 403, "write")


class TestInvitation:
    def token(self) -> str:
        return mail.outbox[-1].body.split("/studies/claim/")[1].split("/")[0]

    def test_a_doctor_invites_and_the_link_opens_the_record_once(self, record: Patient) -> None:
        doctor, person = record.created_by, UserFactory(email="another-address@example.org")
        made = Program(doctor).post(f"patients/{record.pk}/invitation/")
        assert made.status_code == 201
        assert made.json()["email"] == mail.outbox[-1].to[0] == record.email
        # What opens the record is in the mail, and nowhere else.
        assert self.token() not in made.content.decode()
        assert AccessEvent.objects.filter(action="changed", target_id=record.pk, actor=doctor).count() == 1
        claimed = Program(person).post(PATH, guess(invitation=self.token()))
        assert claimed.json()["id"] == str(record.pk)
        again = Program(UserFactory()).post(PATH, guess(invitation=self.token()))
        assert is_problem(again, 410, "This invitation no longer works.")
        refused = Program(doctor).post(f"patients/{record.pk}/invitation/")
        assert is_problem(refused, 409, "no invitation is needed")

    def test_number_and_date_have_to_be_known_too(self, record: Patient) -> None:
        _invitation, token = invite_patient(record, by=record.created_by)
        wrong = Program(UserFactory()).post(PATH, guess(invitation=token, record_number="X"))
        assert is_problem(wrong, 400, "Record number or date of birth does not match.")
        assert RecordInvitation.objects.get().wrong_guesses == 1

    def test_an_old_or_unknown_invitation_opens_nothing(self, record: Patient) -> None:
        _invitation, token = invite_patient(record, by=record.created_by)
        RecordInvitation.objects.update(expires_at=timezone.now() - datetime.timedelta(seconds=1))
        for text in (token, "no-such-token"):
            assert is_problem(Program(UserFactory()).post(PATH, guess(invitation=text)), 410)

    def test_a_record_without_an_address_is_not_invited(self, record: Patient) -> None:
        Patient.objects.update(email="")
        refused = Program(record.created_by).post(f"patients/{record.pk}/invitation/")
        assert is_problem(refused, 409, "has no e-mail address")
        assert not mail.outbox

    def test_only_who_may_change_the_record_invites(self, record: Patient) -> None:
        path = f"patients/{record.pk}/invitation/"
        reader = DoctorFactory(hospital=record.hospital)
        assert is_problem(Program(reader).post(path), 404)
        grant_patient(record, to=reader, can_change=False)
        assert is_problem(Program(reader).post(path), 403, "not change it")
        assert is_problem(Program(record.created_by, scopes=["read"]).post(path), 403, "write")
        for stranger in (DoctorFactory(), UserFactory()):
            assert is_problem(Program(stranger).post(path), 404)
        assert not mail.outbox
