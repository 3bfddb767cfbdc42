"""Guessing is counted for all processes together, refused with a sentence that says until when, and tells nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from accounts.checks import check_shared_counters
from accounts.limits import Wait
from accounts.models import User
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parent.parent.parent
PASSWORD = "a-long-password"
WRONG = "wrong"
DATABASE_CACHE = {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "portal_cache"}}


@pytest.fixture
def user() -> User:
    person = UserFactory(email="known@example.org")
    EmailAddress.objects.create(user=person, email=person.email, verified=True, primary=True)
    return person


def try_log_in(email: str, password: str = WRONG, *, address: str = "198.51.100.7") -> str:
    response = Client(REMOTE_ADDR=address).post(reverse("account_login"), {"login": email, "password": password})
    return "" if response.status_code == 302 else response.content.decode()


@pytest.mark.parametrize("email", ["known@example.org", "nobody@example.org"])
def test_an_account_is_locked_from_everywhere_with_the_time_and_whether_it_exists_or_not(
    user: User, email: str
) -> None:
    for number in range(5):
        assert "is not right" in try_log_in(email, address=f"198.51.100.{number}")
    page = try_log_in(email, PASSWORD, address="203.0.113.9")
    assert "There were too many tries. Please wait 5 minutes, then try again." in page
    assert "is not right" not in page


def test_an_address_that_tries_many_accounts_is_stopped(user: User) -> None:
    for number in range(10):
        assert "is not right" in try_log_in(f"person{number}@example.org")
    assert "Please wait a minute" in try_log_in(user.email, PASSWORD)
    assert try_log_in(user.email, PASSWORD, address="203.0.113.9") == ""


def test_logging_in_does_not_count(user: User) -> None:
    for number in range(12):
        assert try_log_in(user.email, PASSWORD, address=f"203.0.113.{number}") == ""


def test_counters_live_in_the_database_that_all_processes_share(user: User, settings) -> None:
    settings.CACHES = DATABASE_CACHE
    call_command("createcachetable")
    cache.clear()
    for number in range(5):
        try_log_in(user.email, address=f"198.51.100.{number}")
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM portal_cache WHERE cache_key LIKE '%login_failed%'")
        assert cursor.fetchone()[0] >= 5
    assert "too many tries" in try_log_in(user.email, PASSWORD, address="203.0.113.9")


def test_migrate_alone_makes_the_table_of_the_counters(tmp_path: Path) -> None:
    environment = {"DJANGO_SETTINGS_MODULE": "portal.settings.demo", "IRA_VAR_DIR": str(tmp_path), "PATH": "/usr/bin"}
    code = (
        "from django.core.management import call_command as c; c('migrate', 'accounts', verbosity=0); "
        "from django.core.cache import cache; cache.set('a', 1); print(cache.get('a'))"
    )
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "1", done.stderr


def test_asking_for_links_is_limited_for_known_and_unknown_alike(user: User) -> None:
    url = reverse("account_reset_password")
    for email in (user.email, "nobody@example.org"):
        mail.outbox.clear()
        answers = [Client(REMOTE_ADDR=f"198.51.100.{n}").post(url, {"email": email}) for n in range(6)]
        assert [answer.status_code for answer in answers] == [302] * 5 + [429]
        assert len(mail.outbox) == 5
        page = answers[-1].content.decode()
        assert "That was too often" in page
        assert "Please wait 60 minutes" in page
        assert 3500 < int(answers[-1].headers["Retry-After"]) <= 3600


def test_signing_up_by_the_dozen_is_stopped() -> None:
    client = Client(REMOTE_ADDR="198.51.100.7")
    codes = [client.post(reverse("account_signup"), {}).status_code for _ in range(21)]
    assert codes == [200] * 20 + [429]
    assert Client(REMOTE_ADDR="203.0.113.9").post(reverse("account_signup"), {}).status_code == 200


def test_a_forged_forwarded_address_changes_nothing_without_a_proxy_of_ours(user: User, settings) -> None:
    def forged(number: int) -> str:
        client = Client(REMOTE_ADDR="198.51.100.7", headers={"X-Forwarded-For": f"203.0.113.{number}"})
        data = {"login": f"p{number}@example.org", "password": "wrong"}
        return client.post(reverse("account_login"), data).content.decode()

    assert ["too many tries" in forged(number) for number in range(11)] == [False] * 10 + [True]
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1
    assert "too many tries" not in forged(50)


@pytest.mark.parametrize(
    ("seconds", "words"), [(1, "a minute"), (60, "a minute"), (61, "2 minutes"), (3600, "60 minutes")]
)
def test_the_sentence_rounds_up_to_minutes(seconds: int, words: str) -> None:
    assert Wait(seconds=seconds).sentence == f"Please wait {words}, then try again."


@pytest.mark.parametrize("backend", ["locmem.LocMemCache", "dummy.DummyCache"])
def test_the_deployment_check_refuses_counters_of_one_process(settings, backend: str) -> None:
    settings.CACHES = DATABASE_CACHE
    assert check_shared_counters(None) == []
    settings.CACHES = {"default": {"BACKEND": f"django.core.cache.backends.{backend}"}}
    assert [error.id for error in check_shared_counters(None)] == ["accounts.E004"]
