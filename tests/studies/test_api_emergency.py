"""Opening a record in an emergency through the API: a person may, a token never."""

import json
from typing import Any

import pytest
from django.core import mail
from django.core.cache import cache
from django.test import Client

from accounts.models import AccessEvent, User
from studies.models import Study
from tests.factories import BIRTH_DATE, DoctorFactory, PatientFactory, StudyFactory, UserFactory
from tests.programs import Program, is_problem

pytestmark = pytest.mark.django_db
REASON = "Unconscious in the emergency room, nobody of his ward can be reached."


@pytest.fixture(autouse=True)
def _no_counters() -> None:
    cache.clear()


@pytest.fixture
def study() -> Study:
    record = PatientFactory(user=UserFactory(email="patient@example.org"), record_number="R-EMERGENCY")
    made: Study = StudyFactory(created_by=record.created_by, patient=record)
    return made


@pytest.fixture
def colleague(study: Study) -> User:
    """A doctor of the same hospital without any grant."""
    return DoctorFactory(hospital=study.patient.hospital)  # type: ignore[no-any-return]


def body(**changes: str) -> dict[str, str]:
    return {"record_number": "R-EMERGENCY", "birth_date": BIRTH_DATE.isoformat(), "reason": REASON} | changes


def logged_in(user: User, **changes: str) -> Any:
    """Ask with the session of somebody who is logged in."""
    browser = Client()
    browser.force_login(user)
    return browser.post("/api/v1/emergency/", json.dumps(body(**changes)), content_type="application/json")


def test_a_person_opens_the_record_for_a_while_and_everybody_is_told(study: Study, colleague: User) -> None:
    opened = logged_in(colleague)
    assert opened.status_code == 200
    assert opened.json()["patient"]["id"] == str(study.patient_id)
    assert opened.json()["patient"]["can_change"] is False
    assert opened.json()["until"] is not None
    assert AccessEvent.objects.get(action="emergency", target_id=study.patient_id).actor == colleague
    assert ["patient@example.org"] in [message.to for message in mail.outbox]
    # What is open is open for the person, so for their programs too.
    assert Program(colleague).get(f"studies/{study.pk}/").status_code == 200


def test_a_token_opens_nothing_whatever_it_was_made_for(study: Study, colleague: User) -> None:
    refused = Program(colleague).post("emergency/", body())
    assert is_problem(refused, 403, "Please log in to the portal")
    assert not AccessEvent.objects.filter(action="emergency").exists()
    assert is_problem(Program(colleague).get(f"studies/{study.pk}/"), 404)


def test_who_sees_it_anyway_is_told_so_and_nobody_else_is(study: Study) -> None:
    assert logged_in(study.created_by).json()["until"] is None
    assert not mail.outbox


def test_a_record_of_another_hospital_is_none(study: Study, colleague: User) -> None:
    sentence = "Your hospital keeps no record with this number and date of birth."
    assert is_problem(logged_in(DoctorFactory()), 400, sentence)
    assert is_problem(logged_in(colleague, record_number="R-NONE"), 400, sentence)
    assert is_problem(logged_in(UserFactory()), 404)
    assert not mail.outbox


def test_the_reason_says_something(colleague: User) -> None:
    assert is_problem(logged_in(colleague, reason="because"), 400, "Please give the reason in a sentence")


def test_ten_tries_an_hour(study: Study, colleague: User) -> None:
    answers = [logged_in(colleague, record_number=f"R-{number}").status_code for number in range(10)]
    assert answers == [400] * 10
    refused = logged_in(colleague)
    assert is_problem(refused, 429, "There were too many tries.")
    assert int(refused["Retry-After"]) > 60
    assert not AccessEvent.objects.filter(action="emergency").exists()


def test_a_session_needs_the_csrf_token(study: Study, colleague: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(colleague)
    refused = browser.post("/api/v1/emergency/", json.dumps(body()), content_type="application/json")
    assert is_problem(refused, 403, "X-CSRFToken")
