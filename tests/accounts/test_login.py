"""Log-in, log-out, forgotten passwords, and the wall around the demo's accounts."""

import ast
from pathlib import Path

import pytest
from allauth.account.models import EmailAddress
from django.conf import settings as django_settings
from django.core import mail
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse

from accounts.demo import DEMO_EMAILS, DEMO_PASSWORD, NoDemoPasswordValidator, check_no_demo_accounts
from accounts.models import User
from tests.accounts.test_signup import link_in_mail
from tests.factories import AdministratorFactory, DoctorFactory, UserFactory

pytestmark = pytest.mark.django_db

PASSWORD = "a-long-password"
NEW_PASSWORD = "three other words"


def confirmed(user: User) -> User:
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user


def log_in(client: Client, user: User, password: str = PASSWORD) -> int:
    client.post(reverse("account_login"), {"login": user.email, "password": password})
    return client.get(reverse("accounts:profile")).status_code


def test_log_in_ignores_the_case_of_the_address(client: Client) -> None:
    user = confirmed(UserFactory(email="someone@example.org"))
    response = client.post(reverse("account_login"), {"login": "SomeOne@Example.ORG", "password": PASSWORD})
    assert response.status_code == 302
    assert client.session["_auth_user_id"] == str(user.pk)


def test_wrong_password_and_unknown_address_get_the_same_sentence(client: Client) -> None:
    user = confirmed(UserFactory())
    wrong = client.post(reverse("account_login"), {"login": user.email, "password": "wrong"})
    unknown = client.post(reverse("account_login"), {"login": "nobody@example.org", "password": "wrong"})
    for response in (wrong, unknown):
        assert response.status_code == 200
        assert b"The e-mail address or the password is not right." in response.content


def test_guessing_passwords_is_stopped_even_for_the_right_one(client: Client) -> None:
    user = confirmed(UserFactory())
    for _ in range(10):
        client.post(reverse("account_login"), {"login": user.email, "password": "wrong"})
    response = client.post(reverse("account_login"), {"login": user.email, "password": PASSWORD})
    assert response.status_code in (200, 429)
    assert client.get(reverse("accounts:profile")).status_code == 302


def test_deactivated_people_are_told_and_their_sessions_end(client: Client) -> None:
    user = confirmed(DoctorFactory())
    assert log_in(client, user) == 200
    user.deactivate()
    assert client.get(reverse("accounts:profile")).status_code == 302
    response = Client().post(reverse("account_login"), {"login": user.email, "password": PASSWORD})
    assert response.url == reverse("account_inactive")
    user.reactivate()
    assert log_in(Client(), user) == 200


def test_log_out_needs_a_click_not_a_link(client: Client) -> None:
    user = confirmed(UserFactory())
    log_in(client, user)
    assert b"Do you want to log out?" in client.get(reverse("account_logout")).content
    assert client.get(reverse("accounts:profile")).status_code == 200
    client.post(reverse("account_logout"))
    assert client.get(reverse("accounts:profile")).status_code == 302


def test_forgotten_password_is_replaced_by_a_link_that_works_once(client: Client) -> None:
    user = confirmed(UserFactory())
    response = client.post(reverse("account_reset_password"), {"email": user.email.upper()})
    assert response.url == reverse("account_reset_password_done")
    link = link_in_mail()
    form_url = client.get(link).url
    assert b"Choose a password" in client.get(form_url).content
    response = client.post(form_url, {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD})
    assert response.url == reverse("account_reset_password_from_key_done")
    assert mail.outbox[-1].subject == "Your password was changed"
    assert log_in(Client(), user, NEW_PASSWORD) == 200
    assert b"This link no longer works" in Client().get(link, follow=True).content


def test_forgotten_password_does_not_tell_who_has_an_account(client: Client) -> None:
    response = client.post(reverse("account_reset_password"), {"email": "nobody@example.org"})
    assert response.url == reverse("account_reset_password_done")
    assert mail.outbox[0].subject == "There is no account with this address"


def test_a_used_link_confirms_the_only_address_but_never_one_of_several(client: Client) -> None:
    alone = UserFactory()
    EmailAddress.objects.create(user=alone, email=alone.email, verified=False, primary=True)
    both = UserFactory()
    EmailAddress.objects.create(user=both, email=both.email, verified=False, primary=True)
    EmailAddress.objects.create(user=both, email="other@example.org", verified=False, primary=False)
    for user in (alone, both):
        client.post(reverse("account_reset_password"), {"email": user.email})
        form_url = Client().get(link_in_mail())
        fresh = Client()
        form_url = fresh.get(link_in_mail()).url
        fresh.post(form_url, {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD})
    assert EmailAddress.objects.get(user=alone).verified
    assert not EmailAddress.objects.filter(user=both, verified=True).exists()


def test_password_change_leads_back_to_the_profile_and_is_mailed(client: Client) -> None:
    user = confirmed(UserFactory())
    log_in(client, user)
    answers = {"oldpassword": PASSWORD, "password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    response = client.post(reverse("account_change_password"), answers)
    assert response.url == reverse("accounts:profile")
    assert "The password of your account was changed." in mail.outbox[-1].body


def test_new_address_counts_only_after_its_link_was_opened(client: Client) -> None:
    user = confirmed(UserFactory(email="old@example.org"))
    log_in(client, user)
    client.post(reverse("account_email"), {"email": "new@example.org", "action_add": ""})
    user.refresh_from_db()
    assert user.email == "old@example.org"
    assert b"waits for you to open the link" in client.get(reverse("account_email")).content
    client.post(link_in_mail())
    user.refresh_from_db()
    assert user.email == "new@example.org"
    assert [address.email for address in user.emailaddress_set.all()] == ["new@example.org"]


def test_next_page_never_leads_to_another_site(client: Client) -> None:
    user = confirmed(UserFactory())
    answers = {"login": user.email, "password": PASSWORD, "next": "https://evil.example/"}
    assert client.post(reverse("account_login"), answers).url == reverse("home")


def test_administration_has_no_log_in_page_of_its_own(client: Client) -> None:
    response = client.get(reverse("admin:login"))
    assert response.status_code == 302
    assert response.url.startswith(reverse("account_login"))
    administrator = AdministratorFactory()
    client.post(reverse("admin:login"), {"username": administrator.email, "password": PASSWORD})
    assert "_auth_user_id" not in client.session


@pytest.mark.parametrize("email", [*sorted(DEMO_EMAILS), "DOCTOR@Example.org"])
def test_demo_accounts_cannot_log_in_outside_the_demo(client: Client, settings, email: str) -> None:
    user = confirmed(UserFactory(email=email, password=DEMO_PASSWORD))
    response = client.post(reverse("account_login"), {"login": email, "password": DEMO_PASSWORD})
    assert response.url == reverse("account_inactive")
    assert client.get(reverse("accounts:profile")).status_code == 302
    settings.IS_DEMO = True
    settings.DEMO_PASSWORD, settings.DEMO_LOGINS = DEMO_PASSWORD, {}
    assert log_in(client, user, DEMO_PASSWORD) == 200
    settings.IS_DEMO = False
    assert client.get(reverse("accounts:profile")).status_code == 302


def test_demo_password_cannot_be_chosen_outside_the_demo(settings) -> None:
    with pytest.raises(ValidationError, match="public documentation"):
        NoDemoPasswordValidator().validate(DEMO_PASSWORD)
    NoDemoPasswordValidator().validate(DEMO_PASSWORD + "-and-more")
    settings.IS_DEMO = True
    NoDemoPasswordValidator().validate(DEMO_PASSWORD)


def test_check_fails_while_a_demo_account_may_log_in(settings) -> None:
    assert check_no_demo_accounts(None, databases=["default"]) == []
    user = UserFactory(email="doctor@example.org")
    found = check_no_demo_accounts(None, databases=["default"])
    assert [error.id for error in found] == ["accounts.E001"]
    assert check_no_demo_accounts(None) == []
    settings.IS_DEMO = True
    assert check_no_demo_accounts(None, databases=["default"]) == []
    settings.IS_DEMO = False
    user.deactivate()
    assert check_no_demo_accounts(None, databases=["default"]) == []


def test_the_wall_knows_exactly_the_demos_log_ins() -> None:
    tree = ast.parse((Path(django_settings.BASE_DIR) / "portal/settings/demo.py").read_text())
    values = {
        target.id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in {"DEMO_LOGINS", "DEMO_PASSWORD"}
    }
    assert set(values["DEMO_LOGINS"].values()) == DEMO_EMAILS
    assert values["DEMO_PASSWORD"] == DEMO_PASSWORD


def test_log_in_page_offers_the_demos_log_ins_only_in_the_demo(client: Client, settings) -> None:
    assert DEMO_PASSWORD.encode() not in client.get(reverse("account_login")).content
    settings.IS_DEMO = True
    settings.DEMO_PASSWORD, settings.DEMO_LOGINS = DEMO_PASSWORD, {"doctor": "doctor@example.org"}
    page = client.get(reverse("account_login")).content
    assert b"doctor@example.org" in page
    assert DEMO_PASSWORD.encode() in page
