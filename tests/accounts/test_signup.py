"""Sign-up: patients confirm their address, doctors wait for an administrator, nobody picks rights for themselves."""

import re

import pytest
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from accounts.models import Role, User
from tests.factories import DoctorFactory, HospitalFactory, UserFactory

pytestmark = pytest.mark.django_db

PERSON = {
    "given_name": "Petra",
    "family_name": "Example",
    "email": "Petra@Example.org",
    "password1": "four plain words here",
    "password2": "four plain words here",
}


def link_in_mail(number: int = -1) -> str:
    """Return the path of the link in one mail of the outbox."""
    found = re.search(r"http://testserver(/\S+)", mail.outbox[number].body)
    assert found, mail.outbox[number].body
    return found.group(1)


def confirm_and_log_in(client: Client) -> None:
    client.post(link_in_mail())
    response = client.post(reverse("account_login"), {"login": PERSON["email"], "password": PERSON["password1"]})
    assert response.status_code == 302, response.content.decode()


def test_patient_signs_up_confirms_and_logs_in(client: Client) -> None:
    response = client.post(reverse("account_signup"), PERSON)
    assert response.status_code == 302
    assert response.url == reverse("account_email_verification_sent")
    user = User.objects.get()
    assert (user.email, user.role, user.hospital, user.is_staff) == ("petra@example.org", Role.PATIENT, None, False)
    assert user.get_full_name() == "Petra Example"
    assert mail.outbox[0].subject == "Please confirm your e-mail address"
    assert mail.outbox[0].body.startswith("Hello Petra,")
    confirm_and_log_in(client)
    assert client.get(reverse("home")).url == reverse("reports:my_reports")


def test_unconfirmed_address_cannot_log_in(client: Client) -> None:
    client.post(reverse("account_signup"), PERSON)
    response = client.post(reverse("account_login"), {"login": PERSON["email"], "password": PERSON["password1"]})
    assert response.url == reverse("account_email_verification_sent")
    assert client.get(reverse("accounts:profile")).status_code == 302


def test_opening_the_link_does_not_confirm_by_itself(client: Client) -> None:
    client.post(reverse("account_signup"), PERSON)
    page = client.get(link_in_mail())
    assert b"Yes, confirm this address" in page.content
    assert not User.objects.get().emailaddress_set.get().verified


@pytest.mark.parametrize("url_name", ["account_signup", "accounts:doctor_signup"])
def test_nobody_gets_rights_by_tampering_with_the_form(client: Client, url_name: str) -> None:
    hospital = HospitalFactory()
    forged = {
        "role": "administrator",
        "is_staff": "on",
        "is_superuser": "on",
        "approved_at": "2026-01-01",
        "approved_by": "1",
        "groups": "1",
        "user_permissions": "1",
        "is_active": "on",
        "licence_number": "L 1",
        "hospital": str(hospital.pk),
    }
    client.post(reverse(url_name), PERSON | forged)
    user = User.objects.get()
    assert not user.is_staff
    assert not user.is_superuser
    assert user.approved_at is None
    assert user.approved_by is None
    assert not user.groups.exists()
    assert not user.user_permissions.exists()
    if url_name == "account_signup":
        assert (user.role, user.hospital, user.licence_number) == (Role.PATIENT, None, "")
    else:
        assert (user.role, user.hospital, user.licence_number) == (Role.DOCTOR, hospital, "L 1")
    assert not user.is_approved_doctor


def test_doctor_waits_and_sees_only_the_waiting_page(client: Client) -> None:
    hospital = HospitalFactory(name="Northern General")
    answers = PERSON | {"licence_number": " 12345 ", "hospital": str(hospital.pk)}
    assert client.post(reverse("accounts:doctor_signup"), answers).status_code == 302
    confirm_and_log_in(client)
    page = client.get(reverse("home"))
    assert page.status_code == 200
    assert b"waiting for approval" in page.content
    assert b"Northern General" in page.content
    assert b"12345" in page.content
    assert b"Studies</a>" not in page.content


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("licence_number", ""),
        ("licence_number", "   "),
        ("licence_number", "9" * 41),
        ("hospital", ""),
        ("hospital", "not-a-uuid"),
        ("hospital", "00000000-0000-0000-0000-000000000000"),
        ("given_name", ""),
        ("given_name", "x" * 81),
        ("email", "no address"),
        ("password2", "something else"),
        ("password1", "short"),
    ],
)
def test_doctors_request_with_a_mistake_stores_nothing(client: Client, field: str, value: str) -> None:
    answers = PERSON | {"licence_number": "1", "hospital": str(HospitalFactory().pk)} | {field: value}
    response = client.post(reverse("accounts:doctor_signup"), answers)
    assert response.status_code == 200
    assert b'role="alert"' in response.content
    assert not User.objects.exists()


def test_sign_up_does_not_tell_who_has_an_account(client: Client) -> None:
    new = client.post(reverse("account_signup"), PERSON)
    cache.clear()  # otherwise the second mail to the same address is held back for three minutes
    again = Client().post(reverse("account_signup"), PERSON | {"given_name": "Mallory"})
    assert (again.status_code, again.url) == (new.status_code, new.url)
    assert User.objects.get().given_name == "Petra"
    assert "already have an account" in mail.outbox[-1].subject


def test_sign_up_as_doctor_cannot_take_over_a_patient(client: Client) -> None:
    patient = UserFactory(email="petra@example.org")
    client.post(
        reverse("accounts:doctor_signup"), PERSON | {"licence_number": "1", "hospital": str(HospitalFactory().pk)}
    )
    patient.refresh_from_db()
    assert (patient.role, patient.hospital) == (Role.PATIENT, None)
    assert User.objects.count() == 1


def test_logged_in_people_are_sent_home_from_sign_up(client: Client) -> None:
    client.force_login(DoctorFactory())
    for url_name in ("account_signup", "accounts:doctor_signup", "account_login"):
        assert client.get(reverse(url_name)).status_code == 302


def test_names_are_escaped_on_pages(client: Client) -> None:
    client.force_login(UserFactory(given_name="<script>alert(1)</script>"))
    page = client.get(reverse("accounts:profile")).content
    assert b"<script>alert" not in page
    assert b"&lt;script&gt;alert" in page


def test_too_many_sign_ups_from_one_address_are_stopped(client: Client) -> None:
    statuses = [client.post(reverse("account_signup"), {"email": "no address"}).status_code for _ in range(21)]
    assert statuses[:20] == [200] * 20
    assert statuses[20] == 429
