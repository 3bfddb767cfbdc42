"""The second step of a log-in: demanded of whom, how it is set up, used, lost and switched off."""

import re
import time

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value
from cryptography.fernet import InvalidToken
from django.core import mail
from django.core.cache import cache
from django.core.checks import run_checks
from django.test import Client
from django.urls import reverse

from accounts.audit import verify_chain
from accounts.checks import check_second_factor
from accounts.models import AccessEvent, User
from accounts.second_factor import SecondFactorAdapter
from tests.factories import AdministratorFactory, DoctorFactory, UserFactory

pytestmark = pytest.mark.django_db

PASSWORD = "a-long-password"
SECRET = "JBSWY3DPEHPK3PXP"


@pytest.fixture(autouse=True)
def _required(settings) -> None:
    settings.SECOND_FACTOR_ROLES = ["doctor", "administrator"]


def confirmed(user: User) -> User:
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user


def code_of(secret: str) -> str:
    """Return what an app shows now; codes of earlier steps of the test may be used again."""
    cache.clear()
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30))


def with_app(user: User) -> User:
    TOTP.activate(confirmed(user), SECRET)
    return user


def log_in(client: Client, user: User, *, follow: str = "") -> str:
    """Answer the log-in form; return where it leads."""
    data = {"login": user.email, "password": PASSWORD} | ({"next": follow} if follow else {})
    response = client.post(reverse("account_login"), data)
    assert response.status_code == 302, response.content.decode()
    return response.url


@pytest.mark.parametrize("make", [DoctorFactory, AdministratorFactory, lambda: DoctorFactory(approved_at=None)])
def test_without_a_second_step_every_address_leads_to_setting_one_up(client: Client, make) -> None:
    user = confirmed(make())
    log_in(client, user)
    for address in ("home", "studies:study_list", "accounts:profile", "admin:index", "account_change_password"):
        response = client.get(reverse(address))
        assert (response.status_code, response.url) == (302, reverse("mfa_index")), address
    page = client.get(reverse("mfa_index")).content.decode()
    assert "a password alone is not enough" in page
    assert "Studies</a>" not in page
    assert client.post(reverse("account_logout")).status_code == 302
    assert "_auth_user_id" not in client.session


def test_a_part_of_a_page_sends_the_whole_page_there(client: Client) -> None:
    log_in(client, confirmed(DoctorFactory()))
    response = client.get(reverse("studies:study_list"), headers={"HX-Request": "true"})
    assert (response.status_code, response.headers["HX-Redirect"]) == (204, reverse("mfa_index"))


def test_patients_may_have_a_second_step_and_need_none(client: Client) -> None:
    log_in(client, confirmed(UserFactory()))
    assert client.get(reverse("reports:my_reports")).status_code == 200
    assert client.get(reverse("mfa_activate_totp")).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_setting_up_an_app_opens_the_portal_and_gives_recovery_codes(client: Client) -> None:
    user = confirmed(DoctorFactory())
    log_in(client, user)
    page = client.get(reverse("mfa_activate_totp")).content.decode()
    assert "<svg" in page
    assert "style=" not in page
    secret = re.search(r'id="authenticator_secret">(\w+)<', page)
    assert secret
    wrong = client.post(reverse("mfa_activate_totp"), {"code": "000000"})
    assert "This code is not right" in wrong.content.decode()
    right = client.post(reverse("mfa_activate_totp"), {"code": code_of(secret.group(1))})
    assert right.url == reverse("mfa_view_recovery_codes")
    assert client.get(reverse("mfa_view_recovery_codes")).content.decode().count("<li><code>") == 10
    assert client.get(reverse("studies:study_list")).status_code == 200
    stored = Authenticator.objects.get(user=user, type=Authenticator.Type.TOTP)
    assert secret.group(1) not in str(stored.data), "the secret stands in clear in the database"


def test_log_in_asks_for_the_code_and_then_goes_where_one_wanted(client: Client) -> None:
    user = with_app(DoctorFactory())
    wanted = reverse("studies:patient_list")
    assert log_in(client, user, follow=wanted) == reverse("mfa_authenticate")
    assert client.get(wanted).status_code == 302, "the password alone must open nothing"
    assert "_auth_user_id" not in client.session
    page = client.get(reverse("mfa_authenticate")).content.decode()
    assert "Six digits from your app" in page
    response = client.post(reverse("mfa_authenticate"), {"code": code_of(SECRET)})
    assert response.url == wanted
    assert client.get(wanted).status_code == 200


def test_a_code_opens_once(client: Client) -> None:
    user = with_app(DoctorFactory())
    code = code_of(SECRET)
    for expected in (302, 200):
        fresh = Client()
        log_in(fresh, user)
        assert fresh.post(reverse("mfa_authenticate"), {"code": code}).status_code == expected


def test_a_recovery_code_opens_once(client: Client) -> None:
    user = with_app(AdministratorFactory())
    code = RecoveryCodes.activate(user).get_unused_codes()[0]
    for expected in (302, 200):
        fresh = Client()
        log_in(fresh, user)
        assert fresh.post(reverse("mfa_authenticate"), {"code": code}).status_code == expected
    assert len(RecoveryCodes(Authenticator.objects.get(type="recovery_codes")).get_unused_codes()) == 9


def test_guessing_codes_is_stopped_even_for_the_right_one(client: Client) -> None:
    user = with_app(DoctorFactory())
    log_in(client, user)
    right = code_of(SECRET)
    for number in range(6):
        client.post(reverse("mfa_authenticate"), {"code": f"{number:06}"})
    response = client.post(reverse("mfa_authenticate"), {"code": right})
    assert response.status_code in (200, 429)
    assert "_auth_user_id" not in client.session


def test_a_session_that_never_used_the_step_is_asked_for_it_and_the_password_is_no_answer(client: Client) -> None:
    user = with_app(DoctorFactory())
    client.force_login(user)
    wanted = reverse("studies:study_list")
    response = client.get(wanted)
    assert response.status_code == 302
    assert response.url.startswith(reverse("mfa_reauthenticate"))
    assert client.get(reverse("account_reauthenticate")).status_code == 302
    assert "Use the password" not in client.get(response.url).content.decode()
    assert client.post(response.url, {"code": code_of(SECRET), "next": wanted}).url == wanted
    assert client.get(wanted).status_code == 200


def test_another_person_s_proof_in_the_same_browser_counts_for_nothing(client: Client) -> None:
    first, second = with_app(DoctorFactory()), confirmed(DoctorFactory())
    log_in(client, first)
    client.post(reverse("mfa_authenticate"), {"code": code_of(SECRET)})
    session = client.session
    proof = session["second_factor_of"]
    client.force_login(second)
    session = client.session
    session["second_factor_of"] = proof
    session.save()
    assert client.get(reverse("studies:study_list")).url == reverse("mfa_index")


def test_who_needs_a_step_cannot_remove_the_last_one(client: Client) -> None:
    user = with_app(DoctorFactory())
    log_in(client, user)
    client.post(reverse("mfa_authenticate"), {"code": code_of(SECRET)})
    page = client.post(reverse("mfa_deactivate_totp")).content.decode()
    assert "Your role needs a second step" in page
    assert Authenticator.objects.filter(user=user).exists()


def test_a_patient_may_remove_it_and_is_told_by_mail(client: Client) -> None:
    user = with_app(UserFactory())
    log_in(client, user)
    client.post(reverse("mfa_authenticate"), {"code": code_of(SECRET)})
    assert client.post(reverse("mfa_deactivate_totp")).url == reverse("mfa_index")
    assert not Authenticator.objects.filter(user=user).exists()
    assert mail.outbox[-1].subject == "The second step of your account was changed"
    assert "second_factor_of" not in client.session


def test_pages_of_the_second_step_are_ours_in_every_state(client: Client) -> None:
    user = with_app(DoctorFactory())
    RecoveryCodes.activate(user)
    log_in(client, user)
    client.post(reverse("mfa_authenticate"), {"code": code_of(SECRET)})
    for name in ("index", "add_webauthn", "list_webauthn", "view_recovery_codes", "generate_recovery_codes"):
        page = client.get(reverse(f"mfa_{name}")).content.decode()
        assert 'class="site-footer"' in page, name
        assert page.count("<h1") == 1, name
        assert "style=" not in page, name
    download = client.get(reverse("mfa_download_recovery_codes"))
    assert download.headers["Content-Disposition"].startswith("attachment")
    old = set(RecoveryCodes(Authenticator.objects.get(type="recovery_codes")).get_unused_codes())
    client.post(reverse("mfa_generate_recovery_codes"))
    assert not old & set(RecoveryCodes(Authenticator.objects.get(type="recovery_codes")).get_unused_codes())


def test_nonsense_instead_of_a_passkey_is_answered_with_a_page(client: Client) -> None:
    user = with_app(DoctorFactory())
    log_in(client, user)
    for nonsense in ("", "x", "{}", "[]", "null", '{"id": 1, "response": []}', '{"a":' * 50):
        response = client.post(reverse("mfa_authenticate"), {"credential": nonsense})
        assert response.status_code in (200, 429), nonsense
        assert Client().post(reverse("mfa_login_webauthn"), {"credential": nonsense}).status_code in (302, 429)
    assert "_auth_user_id" not in client.session
    cache.clear()
    client = Client()
    log_in(client, confirmed(UserFactory()))
    for nonsense in ("{}", "[]", '{"id": 1, "rawId": 1, "response": {}}', '{"type": "public-key", "response": 7}'):
        assert client.post(reverse("mfa_add_webauthn"), {"name": "", "credential": nonsense}).status_code == 200
    assert not Authenticator.objects.filter(type="webauthn").exists()


def test_secrets_survive_a_change_of_the_secret_key_only_with_the_old_one_at_hand(settings) -> None:
    adapter = SecondFactorAdapter()
    stored = adapter.encrypt(SECRET)
    old, settings.SECRET_KEY = settings.SECRET_KEY, "another-" + "0" * 50
    with pytest.raises(InvalidToken):
        adapter.decrypt(stored)
    settings.SECRET_KEY_FALLBACKS = [old]
    assert adapter.decrypt(stored) == SECRET


def test_the_deployment_check_refuses_a_portal_without_second_step(settings) -> None:
    assert check_second_factor(None) == []
    settings.SECOND_FACTOR_ROLES = ["administrator"]
    settings.MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = True
    assert [message.id for message in check_second_factor(None)] == ["accounts.E002", "accounts.E003"]
    assert "accounts.E002" in [message.id for message in run_checks(include_deployment_checks=True)]


def wrong_codes() -> list[tuple[str, str, object, object]]:
    events = AccessEvent.objects.filter(note__startswith="second step").order_by("sequence")
    return [(event.action, event.note, event.actor, event.target_id) for event in events]


def test_wrong_codes_at_log_in_are_on_record_under_the_account_and_nobody_is_named(client: Client) -> None:
    user = with_app(DoctorFactory())
    log_in(client, user)
    right = code_of(SECRET)
    wrong = "000000" if right != "000000" else "111111"
    client.post(reverse("mfa_authenticate"), {"code": wrong}, REMOTE_ADDR="192.0.2.7")
    assert wrong_codes() == [("login_failed", "second step: totp", None, user.pk)]
    event = AccessEvent.objects.get(note__startswith="second step")
    assert (event.address, event.hospital) == ("192.0.2.7", user.hospital)
    assert wrong not in str(vars(event))
    client.post(reverse("mfa_authenticate"), {"code": right})
    assert len(wrong_codes()) == 1
    assert verify_chain().problems == ()


def test_wrong_codes_in_an_open_session_are_on_record_too(client: Client) -> None:
    user = with_app(DoctorFactory())
    RecoveryCodes.activate(user)
    client.force_login(user)
    address = client.get(reverse("studies:study_list")).url
    cache.clear()
    client.post(address, {"code": "nonsense"})
    assert wrong_codes() == [("login_failed", "second step: totp", None, user.pk)]


def test_refused_passkeys_are_on_record_and_cancelled_ones_are_not(client: Client) -> None:
    user = with_app(DoctorFactory())
    log_in(client, user)
    before = AccessEvent.objects.count()
    for cancelled in ({}, {"credential": ""}):
        client.post(reverse("mfa_authenticate"), cancelled)
        Client().post(reverse("mfa_login_webauthn"), cancelled)
    assert AccessEvent.objects.count() == before
    forged = '{"id": "eA", "rawId": "eA", "type": "public-key", "response": {"userHandle": "eA"}}'
    client.post(reverse("mfa_authenticate"), {"credential": forged}, REMOTE_ADDR="192.0.2.7")
    assert wrong_codes() == [("login_failed", "second step: webauthn", None, user.pk)]
    Client().post(reverse("mfa_login_webauthn"), {"credential": forged}, REMOTE_ADDR="192.0.2.8")
    event = AccessEvent.objects.get(note="passkey")
    assert (event.action, event.actor, event.target_id, event.address) == ("login_failed", None, None, "192.0.2.8")
    assert verify_chain().problems == ()
