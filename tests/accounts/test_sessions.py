"""How long a log-in lasts, where one is logged in, and the notice of a new device."""

import re
import time
from smtplib import SMTPServerDisconnected

import pytest
from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from allauth.usersessions.models import UserSession
from django.core import mail
from django.core.checks import run_checks
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import KnownDevice, User
from accounts.sessions import browser_name
from tests.factories import AdministratorFactory, AnalysisFactory, DoctorFactory, UserFactory

pytestmark = pytest.mark.django_db

PASSWORD = "a-long-password"
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1 Version/18.0 Safari/604.1"


def confirmed(user: User) -> User:
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user


def logged_in(user: User, *, browser: str = CHROME, client: Client | None = None) -> Client:
    client = client or Client(headers={"User-Agent": browser})
    response = client.post(reverse("account_login"), {"login": user.email, "password": PASSWORD})
    assert response.status_code == 302
    return client


def age(client: Client, *, seen_s: float = 0, began_s: float = 0) -> None:
    """Move the session's clock back, as if time had passed."""
    session = client.session
    session["seen_at"] -= seen_s
    session["began_at"] -= began_s
    session.save()


@pytest.mark.parametrize(("make", "minutes"), [(DoctorFactory, 30), (AdministratorFactory, 15), (UserFactory, 20)])
def test_a_log_in_ends_after_the_idle_time_of_the_role(make, minutes: int) -> None:
    client = logged_in(confirmed(make()))
    page = reverse("accounts:profile")
    age(client, seen_s=minutes * 60 - 50)
    assert client.get(page).status_code == 200
    age(client, seen_s=minutes * 60 + 1)
    response = client.get(page)
    assert response.status_code == 302
    assert "_auth_user_id" not in client.session
    login_page = client.get(response.url).content.decode()
    assert f"because nothing happened for {minutes} minutes" in login_page


def test_a_click_starts_the_idle_time_anew_and_the_absolute_time_never() -> None:
    client = logged_in(confirmed(DoctorFactory()))
    for _ in range(3):
        age(client, seen_s=29 * 60)
        assert client.get(reverse("accounts:profile")).status_code == 200
    age(client, began_s=12 * 3600)
    response = client.get(reverse("accounts:profile"), follow=True)
    assert "as everybody is once a day" in response.content.decode()


def test_what_a_page_asks_for_by_itself_is_no_click() -> None:
    doctor = confirmed(DoctorFactory())
    study = AnalysisFactory(image__study__created_by=doctor).image.study
    client = logged_in(doctor)
    poll = reverse("studies:study_status", kwargs={"study_id": study.pk})
    age(client, seen_s=29 * 60)
    assert client.get(poll, headers={"HX-Request": "true"}).status_code == 200
    age(client, seen_s=2 * 60)
    assert client.get(poll, headers={"HX-Request": "true"}).status_code == 302


def test_pain_11_an_expired_session_leads_back_to_the_same_page() -> None:
    doctor = confirmed(DoctorFactory())
    client = logged_in(doctor)
    wanted = reverse("studies:study_list") + "?q=lobe"
    age(client, seen_s=3600)
    login_page = client.get(wanted)
    assert login_page.url == reverse("account_login") + "?next=/studies/%3Fq%3Dlobe"
    data = {"login": doctor.email, "password": PASSWORD, "next": wanted}
    assert client.post(reverse("account_login"), data).url == wanted


@pytest.mark.parametrize(
    ("referer", "back"),
    [
        ("http://testserver/studies/new/?patient=1", "/studies/new/%3Fpatient%3D1"),
        ("https://evil.example/studies/new/", "/"),
        ("http://testserver.evil.example/x/", "/"),
        ("", "/"),
        ("javascript:alert(1)", "/"),
    ],
)
def test_pain_11_a_form_sent_too_late_leads_back_to_the_page_with_the_form(referer: str, back: str) -> None:
    client = logged_in(confirmed(DoctorFactory()))
    age(client, seen_s=3600)
    response = client.post(reverse("studies:study_create"), {}, headers={"Referer": referer})
    assert response.url == f"{reverse('account_login')}?next={back}"


def test_a_new_password_ends_all_other_sessions_and_keeps_this_one() -> None:
    user = confirmed(UserFactory())
    here, there = logged_in(user), logged_in(user, browser=IPHONE)
    answers = {"oldpassword": PASSWORD, "password1": "three other words", "password2": "three other words"}
    assert here.post(reverse("account_change_password"), answers).status_code == 302
    assert here.get(reverse("accounts:profile")).status_code == 200
    assert there.get(reverse("accounts:profile")).status_code == 302


def test_the_page_lists_one_s_own_sessions_and_ends_one() -> None:
    user = confirmed(UserFactory())
    stranger = logged_in(confirmed(UserFactory()))
    here, there = logged_in(user), logged_in(user, browser=IPHONE)
    page = here.get(reverse("accounts:sessions")).content.decode()
    assert "Chrome on Linux" in page
    assert "Safari on iPhone" in page
    assert page.count("this device") == 1
    assert here.session.session_key not in page
    ours, theirs = (UserSession.objects.get(session_key=one.session.session_key) for one in (there, stranger))
    for key in (str(theirs.pk), "nonsense", "-1", "9" * 30):
        here.post(reverse("accounts:sessions"), {"end": key})
    assert stranger.get(reverse("accounts:profile")).status_code == 200
    here.post(reverse("accounts:sessions"), {"end": str(ours.pk)})
    assert there.get(reverse("accounts:profile")).status_code == 302
    assert here.get(reverse("accounts:profile")).status_code == 200


@pytest.mark.parametrize(("end", "is_kept"), [("others", True), ("all", False)])
def test_log_out_everywhere(end: str, is_kept: bool) -> None:
    user = confirmed(UserFactory())
    stranger = logged_in(confirmed(UserFactory()))
    here, there = logged_in(user), logged_in(user, browser=IPHONE)
    here.post(reverse("accounts:sessions"), {"end": end})
    assert (here.get(reverse("accounts:profile")).status_code == 200) is is_kept
    assert there.get(reverse("accounts:profile")).status_code == 302
    assert stranger.get(reverse("accounts:profile")).status_code == 200


def test_a_new_device_is_mailed_once_and_the_first_is_no_news() -> None:
    user = confirmed(UserFactory(given_name="Maria"))
    first = logged_in(user)
    assert mail.outbox == []
    second = logged_in(user, browser=IPHONE)
    assert [message.to for message in mail.outbox] == [[user.email]]
    assert mail.outbox[0].subject == "A new device logged in to your account"
    body = mail.outbox[0].body
    assert "Hello Maria," in body
    assert "iPhone" in body
    assert reverse("accounts:sessions") in body
    for client in (first, second):
        client.post(reverse("account_logout"))
        logged_in(user, client=client)
    assert len(mail.outbox) == 1
    cookie = first.cookies["known_device"]
    assert cookie["httponly"]
    assert not KnownDevice.objects.filter(token_hash=cookie.value).exists(), "the cookie's value is stored in clear"


def test_two_people_at_one_screen_are_each_told_of_their_own_devices() -> None:
    one, two = confirmed(UserFactory()), confirmed(UserFactory())
    logged_in(two, browser=IPHONE)
    shared = logged_in(one)
    shared.post(reverse("account_logout"))
    logged_in(two, client=shared)
    assert [message.to for message in mail.outbox] == [[two.email]]


def test_a_mail_server_that_is_down_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    user = confirmed(UserFactory())
    logged_in(user)

    def down(*args: object, **kwargs: object) -> None:
        raise SMTPServerDisconnected("Connection unexpectedly closed")

    monkeypatch.setattr(DefaultAccountAdapter, "send_mail", down)
    assert logged_in(user, browser=IPHONE).get(reverse("accounts:profile")).status_code == 200


def test_a_device_is_forgotten_after_a_year() -> None:
    user = confirmed(UserFactory())
    client = logged_in(user)
    KnownDevice.objects.update(last_seen_at=timezone.now() - timezone.timedelta(days=366))
    client.post(reverse("account_logout"))
    logged_in(user, client=client)
    assert KnownDevice.objects.get().last_seen_at.timestamp() > time.time() - 60


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (CHROME, "Chrome on Linux"),
        (CHROME + " Edg/139.0", "Edge on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0; rv:141.0) Gecko/20100101 Firefox/141.0", "Firefox on Windows"),
        (IPHONE, "Safari on iPhone"),
        ("<script>alert(1)</script>", "Unknown browser"),
        ("", "Unknown browser"),
    ],
)
def test_browsers_are_named_in_plain_words(user_agent: str, name: str) -> None:
    assert browser_name(user_agent) == name


@pytest.mark.parametrize(
    ("idle", "hours", "is_fine"), [(30, 12, True), (0, 12, False), (-5, 12, False), (721, 12, False), (30, 0, False)]
)
def test_times_that_lock_out_or_never_end_fail_the_check(settings, idle: int, hours: int, is_fine: bool) -> None:
    settings.SESSION_IDLE_MINUTES = {"doctor": idle, "administrator": 1, "patient": 1}
    settings.SESSION_ABSOLUTE_HOURS = hours
    assert ("accounts.E005" not in [message.id for message in run_checks()]) is is_fine


def test_every_part_of_a_page_that_asks_by_itself_is_known_as_no_click(settings) -> None:
    polled = {"reports:bulk_job", "reports:my_data"}  # these ask for their own page
    for path in (settings.BASE_DIR / "templates").rglob("*.html"):
        page = path.read_text()
        found = re.findall(r"hx-get=\"{% url '([\w:]+)'[^>]*?hx-trigger=\"every", page, re.DOTALL)
        own = re.findall(r"hx-get=\"{{ request.path }}\" hx-trigger=\"every", page)
        assert len(found) + len(own) == page.count('hx-trigger="every'), path
        polled |= set(found)
    assert polled == set(settings.SESSION_PASSIVE_VIEWS)
