"""A patient claims the record that a hospital keeps: who gets it, who does not, and how often one may guess."""

import datetime
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django.asserts import assertContains, assertRedirects
from pytest_django.fixtures import Settings

from accounts.models import AccessEvent, User
from studies.claims import claim_record
from studies.errors import ClaimLockedError
from studies.models import Patient, RecordClaimGuard
from tests.factories import BIRTH_DATE, AdministratorFactory, DoctorFactory, PatientFactory, UserFactory

pytestmark = pytest.mark.django_db
SAME_SENTENCE = "No record with this number and date of birth is kept under your e-mail address."


@pytest.fixture
def person() -> User:
    """Somebody with a verified address."""
    person = UserFactory(email="maria@example.org")
    EmailAddress.objects.create(user=person, email=person.email, verified=True, primary=True)
    return person


@pytest.fixture
def record() -> Patient:
    return PatientFactory(record_number="R-77", email="Maria@Example.org")


def claim(person: User, **changes: Any) -> Patient | None:
    return claim_record(person, **({"record_number": "R-77", "birth_date": BIRTH_DATE} | changes))


def test_number_birth_date_and_verified_address_together_claim_the_record(person: User, record: Patient) -> None:
    assert claim(person) == record
    record.refresh_from_db()
    assert record.user == person


def test_the_number_s_case_and_the_address_s_case_do_not_matter(person: User, record: Patient) -> None:
    assert claim(person, record_number="r-77") == record


def test_claiming_again_is_no_wrong_guess(person: User, record: Patient) -> None:
    claim(person)
    for _ in range(10):
        assert claim(person) == record


@pytest.mark.parametrize(
    "changes", [{"record_number": "R-78"}, {"birth_date": datetime.date(1960, 5, 18)}, {"record_number": "R-7_"}]
)
def test_a_wrong_number_or_date_gets_nothing(person: User, record: Patient, changes: dict[str, Any]) -> None:
    assert claim(person, **changes) is None
    assert Patient.objects.get(id=record.id).user is None


def test_an_address_that_is_not_verified_gets_nothing(person: User, record: Patient) -> None:
    EmailAddress.objects.update(verified=False)
    assert claim(person) is None


def test_a_record_under_another_or_no_address_gets_nothing(person: User, record: Patient) -> None:
    for email in ("other@example.org", ""):
        Patient.objects.update(email=email)
        assert claim(person) is None


def test_somebody_else_s_record_stays_theirs(person: User, record: Patient) -> None:
    other = UserFactory()
    record.link_to(other)
    assert claim(person) is None
    record.refresh_from_db()
    assert record.user == other


def test_a_second_record_at_the_same_hospital_is_for_the_hospital_to_merge(person: User, record: Patient) -> None:
    second = PatientFactory(created_by=record.created_by, record_number="R-99", email=person.email)
    assert claim(person) == record
    assert claim(person, record_number="R-99") is None
    second.refresh_from_db()
    assert second.user is None


def test_records_at_two_hospitals_can_both_be_claimed(person: User, record: Patient) -> None:
    other = PatientFactory(record_number="R-77", email=person.email)
    assert {claim(person), claim(person)} == {record, other}
    assert set(person.patient_records.all()) == {record, other}


def test_too_many_wrong_guesses_lock_even_the_right_one(person: User, record: Patient) -> None:
    for _ in range(5):
        assert claim(person, record_number="X") is None
    with pytest.raises(ClaimLockedError, match="wait until"):
        claim(person)
    assert Patient.objects.get(id=record.id).user is None


def test_the_lock_ends_and_the_count_starts_anew(person: User, record: Patient) -> None:
    for _ in range(5):
        claim(person, record_number="X")
    RecordClaimGuard.objects.update(locked_until=timezone.now() - datetime.timedelta(seconds=1))
    for _ in range(4):
        assert claim(person, record_number="X") is None
    assert claim(person) == record


def test_wrong_guesses_of_long_ago_do_not_count(person: User, record: Patient) -> None:
    for _ in range(4):
        claim(person, record_number="X")
    RecordClaimGuard.objects.update(first_wrong_at=timezone.now() - datetime.timedelta(hours=2))
    claim(person, record_number="X")
    assert claim(person) == record


def test_one_person_s_guesses_do_not_lock_another(person: User, record: Patient) -> None:
    guesser = UserFactory()
    for _ in range(5):
        claim(guesser)
    assert claim(person) == record


claimed: list[Patient] = []


def remember(patient: Patient) -> None:
    """Stand in for what the room of the reports does."""
    claimed.append(patient)


def explode(patient: Patient) -> None:
    """Stand in for a grant that cannot be written."""
    raise RuntimeError("no grant")


def test_what_the_record_brings_along_is_granted_at_once_or_nothing_is_claimed(
    person: User, record: Patient, settings: Settings
) -> None:
    settings.AFTER_RECORD_CLAIM = [f"{__name__}.explode"]
    with pytest.raises(RuntimeError, match="no grant"):
        claim(person)
    assert Patient.objects.get(id=record.id).user is None
    settings.AFTER_RECORD_CLAIM = [f"{__name__}.remember"]
    claim(person)
    assert claimed.pop() == record


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_claims_and_records(client: Client, person: User, record: Patient) -> None:
    client.force_login(person)
    url = reverse("studies:claim_record")
    response = client.post(url, {"record_number": " R-77 ", "birth_date": "1960-05-17"})
    assertRedirects(response, reverse("home"), fetch_redirect_response=False)
    assert AccessEvent.objects.get(action="claimed").target_id == record.id
    assertContains(client.get(url), f"You have claimed your record R-77 at {record.hospital.name}.")


def test_the_page_says_the_same_whatever_was_wrong(client: Client, person: User, record: Patient) -> None:
    client.force_login(person)
    url = reverse("studies:claim_record")
    for data in (
        {"record_number": "R-78", "birth_date": "1960-05-17"},
        {"record_number": "R-77", "birth_date": "1960-05-18"},
    ):
        response = client.post(url, data)
        assertContains(response, SAME_SENTENCE, status_code=400)
        assertContains(response, data["record_number"], status_code=400)
    record.link_to(UserFactory())
    assertContains(
        client.post(url, {"record_number": "R-77", "birth_date": "1960-05-17"}), SAME_SENTENCE, status_code=400
    )


def test_the_page_says_when_it_is_locked_and_nonsense_is_no_guess(
    client: Client, person: User, record: Patient
) -> None:
    client.force_login(person)
    url = reverse("studies:claim_record")
    for _ in range(8):
        assertContains(
            client.post(url, {"record_number": "", "birth_date": "x"}), "This is not a date", status_code=400
        )
    for _ in range(5):
        client.post(url, {"record_number": "X", "birth_date": "1960-05-17"})
    response = client.post(url, {"record_number": "R-77", "birth_date": "1960-05-17"})
    assertContains(response, "too many tries", status_code=400)


@pytest.mark.parametrize("factory", [DoctorFactory, AdministratorFactory])
def test_only_patients_claim(client: Client, factory: Any) -> None:
    client.force_login(factory())
    assert client.get(reverse("studies:claim_record")).status_code == 404
