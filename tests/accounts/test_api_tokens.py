"""Tokens of programs: made on their page, shown once, bound to scopes, time and person, and on record."""

import re
from datetime import timedelta
from typing import Any

import pytest
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from accounts.models import AccessEvent, ApiToken, User
from accounts.second_factor import remove_second_factor
from accounts.tokens import MOST_AT_ONCE
from tests.factories import DoctorFactory, PatientFactory, StudyFactory, UserFactory
from tests.programs import Program, is_problem

PAGE = "/accounts/tokens/"

pytestmark = pytest.mark.django_db


def logged_in(user: User) -> Client:
    """Return a browser in which somebody has just typed the password."""
    client = Client()
    client.post("/accounts/login/", {"login": user.email, "password": "a-long-password"})
    return client


@pytest.fixture
def doctor() -> User:
    from allauth.account.models import EmailAddress

    user = DoctorFactory()
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user


def make(client: Client, **changes: Any) -> Any:
    return client.post(PAGE, {"name": "CT import", "scopes": ["read", "upload"], "days": "30"} | changes)


def test_a_token_is_shown_once_and_stored_as_a_hash(doctor: User) -> None:
    client = logged_in(doctor)
    page = make(client)
    text = re.search(r'value="(ira_[\w-]{43})"', page.content.decode()).group(1)  # type: ignore[union-attr]
    token = ApiToken.objects.get()
    assert (token.user, token.scopes, token.name) == (doctor, ["read", "upload"], "CT import")
    assert timedelta(days=29) < token.expires_at - timezone.now() <= timedelta(days=30)
    assert page["Cache-Control"].startswith("max-age=0") or "no-store" in page["Cache-Control"]
    stored = " ".join(str(value) for value in ApiToken.objects.values().get().values())
    assert text not in stored
    assert text not in client.get(PAGE).content.decode()
    assert Client().get("/api/v1/me/", headers={"Authorization": f"Bearer {text}"}).json()["email"] == doctor.email


def test_making_and_revoking_are_on_record(doctor: User) -> None:
    client = logged_in(doctor)
    make(client)
    token = ApiToken.objects.get()
    client.post(PAGE, {"revoke": str(token.pk)})
    token.refresh_from_db()
    assert token.is_revoked
    events = AccessEvent.objects.filter(target_type="accounts.apitoken", target_id=token.pk).order_by("sequence")
    assert [(event.action, event.actor) for event in events] == [("created", doctor), ("changed", doctor)]
    assert events[0].note.startswith("API token for read, upload until ")
    assert events[1].note == "API token revoked"


def test_a_token_is_made_only_by_whoever_has_just_proven_who_they_are(doctor: User) -> None:
    client = Client()
    client.force_login(doctor)
    answer = make(client)
    assert answer.status_code == 302
    assert answer.url.startswith("/accounts/reauthenticate/")
    assert not ApiToken.objects.exists()


def test_nobody_revokes_somebody_elses_token(doctor: User) -> None:
    token, _text = ApiToken.issue(DoctorFactory(), name="theirs", scopes=["read"], days=7)
    client = logged_in(doctor)
    assert "theirs" not in client.get(PAGE).content.decode()
    client.post(PAGE, {"revoke": str(token.pk)})
    client.post(PAGE, {"revoke": "nonsense"})
    token.refresh_from_db()
    assert not token.is_revoked


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": ""}, "Please give the token a name."),
        ({"scopes": []}, "Please choose what the token may do."),
        ({"scopes": ["everything"]}, "everything"),
        ({"days": "5000"}, "5000"),
    ],
)
def test_what_is_wrong_with_a_new_token_stands_beside_the_field(
    doctor: User, changes: dict[str, Any], sentence: str
) -> None:
    page = make(logged_in(doctor), **changes)
    assert page.status_code == 400
    assert sentence in page.content.decode()
    assert not ApiToken.objects.exists()


def test_the_number_and_the_time_of_tokens_are_limited(doctor: User, settings: Settings) -> None:
    for number in range(MOST_AT_ONCE):
        ApiToken.issue(doctor, name=str(number), scopes=["read"], days=1)
    with pytest.raises(ValidationError, match="20 tokens"):
        ApiToken.issue(doctor, name="one too many", scopes=["read"], days=1)
    settings.API_TOKEN_MAX_DAYS = 30
    with pytest.raises(ValidationError, match="30 days"):
        ApiToken.issue(UserFactory(), name="long", scopes=["read"], days=31)


def test_only_an_open_token_opens_anything(doctor: User) -> None:
    program = Program(doctor)
    assert program.token is not None
    assert program.get("me/").status_code == 200
    ApiToken.objects.update(created_at=timezone.now() - timedelta(days=2), expires_at=timezone.now())
    assert is_problem(program.get("me/"), 401, "time of this token is over")
    ApiToken.objects.update(expires_at=timezone.now() + timedelta(days=2))
    assert program.get("me/").status_code == 200
    program.token.revoke()
    answer = program.get("me/")
    assert is_problem(answer, 401, "was revoked")
    assert answer["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer ira_nonsense", "Bearer \udcff", "Basic eDp5", "ira_x"])
def test_nonsense_opens_nothing(doctor: User, header: str) -> None:
    headers = {"Authorization": header} if header else {}
    assert is_problem(Client().get("/api/v1/me/", headers=headers), 401)


def test_a_token_obeys_what_becomes_of_its_person(doctor: User) -> None:
    study = StudyFactory(created_by=doctor)
    program = Program(doctor)
    assert program.get(f"studies/{study.pk}/").status_code == 200
    # Moved to another hospital: the grant is still stored, and counts no more.
    doctor.hospital = DoctorFactory().hospital
    doctor.save()
    assert is_problem(program.get(f"studies/{study.pk}/"), 404)
    doctor.approved_at = None
    doctor.save()
    assert is_problem(program.get("studies/"), 404)
    doctor.deactivate()
    assert is_problem(program.get("me/"), 401, "may not log in any more")


def test_a_token_does_what_it_was_made_for_and_nothing_else(doctor: User) -> None:
    patient = PatientFactory(created_by=doctor)
    reading = Program(doctor, scopes=["read"])
    assert reading.get(f"patients/{patient.pk}/").status_code == 200
    refused = reading.patch(f"patients/{patient.pk}/", {"email": "new@example.org"})
    assert is_problem(refused, 403, "write")
    assert refused.json()["type"].endswith(":insufficient-scope")
    assert 'scope="write"' in refused["WWW-Authenticate"]
    assert is_problem(reading.send("studies/", {}), 403, "upload")
    assert is_problem(reading.send("classify/", {}), 403, "classify")
    writing = Program(doctor, scopes=["write"])
    assert is_problem(writing.get("patients/"), 403, "read")
    assert writing.patch(f"patients/{patient.pk}/", {"email": "new@example.org"}).status_code == 200


class TestSecondStep:
    """A role that needs a second step needs it for its programs too."""

    @pytest.fixture(autouse=True)
    def _required(self, settings: Settings) -> None:
        settings.SECOND_FACTOR_ROLES = ["doctor"]

    def test_a_doctor_without_one_gets_nothing_by_a_token(self, doctor: User) -> None:
        program = Program(doctor)
        assert is_problem(program.get("me/"), 403, "second step")
        TOTP.activate(doctor, generate_totp_secret())
        assert program.get("me/").status_code == 200

    def test_who_loses_it_loses_the_tokens(self, doctor: User) -> None:
        TOTP.activate(doctor, generate_totp_secret())
        RecoveryCodes.activate(doctor)
        program = Program(doctor)
        remove_second_factor(doctor)
        TOTP.activate(doctor, generate_totp_secret())
        assert is_problem(program.get("me/"), 401, "was revoked")

    def test_a_session_that_has_not_used_it_is_told_in_a_sentence(self, doctor: User) -> None:
        client = Client()
        client.force_login(doctor)
        assert is_problem(client.get("/api/v1/studies/"), 403, "set one up")
        TOTP.activate(doctor, generate_totp_secret())
        assert is_problem(client.get("/api/v1/studies/"), 403, "log in again")
        assert client.get("/api/v1/health/").status_code == 200

    def test_a_patient_needs_none(self) -> None:
        assert Program(UserFactory()).get("me/").status_code == 200


def test_use_is_noted_and_every_event_names_the_token(doctor: User) -> None:
    patient = PatientFactory(created_by=doctor)
    program = Program(doctor)
    program.get(f"patients/{patient.pk}/")
    token = ApiToken.objects.get()
    assert token.last_used_at is not None
    assert token.last_address == "127.0.0.1"
    event = AccessEvent.objects.get(target_type="studies.patient")
    assert (event.action, event.actor, event.note) == ("viewed", doctor, f"API token {token.pk}")
    client = Client()
    client.force_login(doctor)
    client.get(f"/api/v1/patients/{patient.pk}/")
    assert AccessEvent.objects.filter(target_type="studies.patient", note="").count() == 1


def test_a_session_asks_too_but_changes_need_the_pages_secret(doctor: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(doctor)
    assert client.get("/api/v1/me/").json()["token"] is None
    body = {"record_number": "R-1", "family_name": "A", "given_name": "B", "birth_date": "1961-04-12"}
    refused = client.post("/api/v1/patients/", body, content_type="application/json")
    assert is_problem(refused, 403, "X-CSRFToken")
    client.get("/accounts/tokens/")
    secret = {"X-CSRFToken": client.cookies["csrftoken"].value}
    assert client.post("/api/v1/patients/", body, content_type="application/json", headers=secret).status_code == 201


def test_a_program_is_answered_in_its_own_language_or_in_its_persons(doctor: User) -> None:
    doctor.language = "de"
    doctor.save()
    program = Program(doctor)
    assert program.get("studies/" + "0" * 8 + "-0000-4000-8000-000000000000/").json()["detail"].startswith("Hier gibt")
    english = program.get("nothing/", Accept_Language="en")
    assert english.json()["detail"].startswith("There is nothing")
