"""A patient shows one report to somebody outside: who gets in, who does not, and what is told of it."""

import re
import smtplib
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import AccessEvent, User
from portal.access_history import history_of
from portal.checks import check_share_days
from reports.models import Opening, Report, ShareLink
from reports.sharing import READ_FOR, days_to_choose
from reports.signing import release_report, sign_report
from tests.factories import DoctorFactory, PatientFactory, ReportFactory, StudyFactory, UserFactory
from tests.reports.conftest import pdf_text

pytestmark = pytest.mark.django_db

EMAIL = "sister@example.org"
Action = AccessEvent.Action


@pytest.fixture(autouse=True)
def _no_counters() -> None:
    cache.clear()


@pytest.fixture
def released(doctor: User, reader: User) -> Report:
    """A released report of the patient ``reader``."""
    patient = PatientFactory(created_by=doctor, user=reader, given_name="Ona", family_name="Reader")
    report = ReportFactory(study=StudyFactory(created_by=doctor, patient=patient), is_released=True)
    mail.outbox.clear()
    return report


def share(report: Report, *, by: User, email: str = EMAIL, days: int = 7) -> str:
    """Share through the form as the patient does; return the link's path."""
    client = Client()
    client.force_login(by)
    response = client.post(reverse("reports:report_share", args=[report.id]), {"email": email, "days": days})
    assert response.status_code == 302, response.content.decode()
    return path_in(mail.outbox[-1].body)


def path_in(text: str) -> str:
    found = re.search(r"http://testserver(/reports/shared/\S+)", text)
    assert found, text
    return found[1]


def code_in(text: str) -> str:
    found = re.search(r"^(\d{4} \d{4})$", text, re.MULTILINE)
    assert found, text
    return found[1]


def let_in(path: str, *, client: Client | None = None) -> Client:
    """Ask for the code, type it, and return the browser that reads the report now."""
    browser = client or Client()
    assert browser.post(path, {"send": "code"}).status_code == 302
    response = browser.post(path, {"code": code_in(mail.outbox[-1].body)})
    assert response.status_code == 302, response.content.decode()
    return browser


def amended(report: Report, *, by: User, text: str) -> Report:
    """Amend a report, sign and release the amendment."""
    version = report.amend(by=by, reason="The side was wrong.")
    version.edit(by=by, revision=version.revision, findings_text="As before.", impression=text)
    Opening.objects.note(version, doctor=by)
    sign_report(version, by=by, revision=version.revision, evidence=version.content_for(by).evidence)
    release_report(version, by=by, link="https://portal.example.org/")
    return version


def addresses(link: ShareLink) -> list[str]:
    return [
        reverse("reports:shared_report", args=[link.id]),
        reverse("reports:shared_pdf", args=[link.id]),
        reverse("reports:shared_slice", args=[link.id, 1]),
        reverse("reports:shared_overlay", args=[link.id, 1]),
    ]


# --- the way in -------------------------------------------------------------------------------------------------------


def test_the_reader_gets_a_link_then_a_code_then_the_report(released: Report, reader: User) -> None:
    path = share(released, by=reader)
    invitation = mail.outbox[-1]
    assert invitation.to == [EMAIL]
    assert "Ona" in invitation.body
    browser = Client()
    page = browser.get(path)
    assert page.status_code == 200
    assert len(mail.outbox) == 1, "Looking at a link sends nothing: programs that check mails look too."
    let_in(path, client=browser)
    assert mail.outbox[-1].to == [EMAIL]
    link = ShareLink.objects.get()
    for address in addresses(link):
        assert browser.get(address).status_code == 200, address
    body = browser.get(addresses(link)[0]).content.decode()
    assert released.content.impression in body
    assert "Ona Reader" in body
    assert "Ona Reader" in pdf_text(browser.get(addresses(link)[1]).content)
    # Coming back with the link needs no second code in the same browser.
    assert browser.get(path).status_code == 302


def test_mails_say_nothing_medical_and_no_family_name(released: Report, reader: User) -> None:
    let_in(share(released, by=reader))
    for message in mail.outbox:
        # The address of the portal is what it is; the words beside it tell nothing.
        text = re.sub(r"https?://\S+", "", f"{message.subject} {message.body}").lower()
        for word in ("reader", "ct ", "report", "radiolog", "hospital", "scan", "cancer", "hale", released.id.hex):
            assert word not in text, word


def test_neither_token_nor_code_is_stored(released: Report, reader: User) -> None:
    path = share(released, by=reader)
    token = path.rstrip("/").rpartition("/")[2]
    browser = Client()
    browser.post(path, {"send": "code"})
    code = code_in(mail.outbox[-1].body).replace(" ", "")
    stored = str(ShareLink.objects.values().get()) + str(AccessEvent.objects.values_list("note", flat=True))
    stored += str(dict(browser.session))
    assert token not in stored
    assert code not in stored


@pytest.mark.parametrize("typed", ["{code}", " {code} ", "{first}-{second}", "{first}{second}"])
def test_a_code_may_be_typed_with_or_without_gaps(released: Report, reader: User, typed: str) -> None:
    path = share(released, by=reader)
    browser = Client()
    browser.post(path, {"send": "code"})
    code = code_in(mail.outbox[-1].body)
    first, second = code.split()
    assert browser.post(path, {"code": typed.format(code=code, first=first, second=second)}).status_code == 302


def test_pain_07_a_shared_link_shows_no_other_patient_and_no_other_report(
    released: Report, reader: User, doctor: User
) -> None:
    """Whoever was let in reads this one report, whatever identifier stands in the address."""
    own_other = ReportFactory(study=StudyFactory(created_by=doctor, patient=released.study.patient), is_released=True)
    stranger = UserFactory(given_name="Other", family_name="Person")
    others = ReportFactory(
        study=StudyFactory(
            created_by=doctor,
            patient=PatientFactory(created_by=doctor, user=stranger, given_name="Other", family_name="Person"),
        ),
        is_released=True,
    )
    others_link, others_token = ShareLink.issue(others, by=stranger, recipient_email=EMAIL, days=7)
    own_link, _token = ShareLink.issue(own_other, by=reader, recipient_email=EMAIL, days=7)
    browser = let_in(share(released, by=reader))
    for link in (others_link, own_link):
        for address in addresses(link):
            assert browser.get(address).status_code == 404, address
    for report in (released, own_other, others):
        for name in ("reports:my_report", "reports:report_detail", "reports:report_pdf"):
            assert reverse("account_login") in browser.get(reverse(name, args=[report.id])).url
        assert reverse("account_login") in browser.get(reverse("reports:report_slice", args=[report.id, 1])).url
    assert reverse("account_login") in browser.get(reverse("studies:study_detail", args=[released.study_id])).url
    assert reverse("account_login") in browser.get(reverse("home")).url
    mine = next(link for link in ShareLink.objects.all() if link.report_id == released.id)
    body = browser.get(addresses(mine)[0]).content.decode()
    assert "Other" not in body
    assert "Person" not in body
    assert str(own_other.id) not in body
    # The only addresses on the page are those of this link and of style sheets and scripts.
    linked = set(re.findall(r'(?:href|src|action)="([^"#]+)"', body))
    foreign = {address for address in linked if not address.startswith(f"/reports/shared/{mine.id}/")}
    assert {address for address in foreign if not address.startswith("/static/")} == set()
    # And the code of one link opens no other.
    code = {"code": code_in(mail.outbox[-1].body)}
    assert browser.post(reverse("reports:share_open", args=[others_token]), code).status_code == 400


def test_a_slice_number_that_the_report_has_not_is_not_there(released: Report, reader: User) -> None:
    browser = let_in(share(released, by=reader))
    link = ShareLink.objects.get()
    assert browser.get(reverse("reports:shared_slice", args=[link.id, 99])).status_code == 404


# --- those who stay outside -------------------------------------------------------------------------------------------


def test_unknown_revoked_expired_and_orphaned_links_look_the_same(released: Report, reader: User) -> None:
    def answer_of(path: str, *, client: Client | None = None, method: str = "get", **data: Any) -> tuple[int, bytes]:
        response = getattr(client or Client(), method)(path, data)
        return response.status_code, response.content

    unknown = answer_of(reverse("reports:share_open", args=["no-such-token"]))
    assert unknown[0] == 404
    paths = {name: share(released, by=reader) for name in ("revoked", "expired", "moved", "deactivated")}
    links = dict(zip(paths, reversed(ShareLink.objects.all()), strict=True))
    links["revoked"].revoke()
    past = timezone.now() - timedelta(days=8)
    ShareLink.objects.filter(pk=links["expired"].pk).update(created_at=past, expires_at=past + timedelta(days=7))
    assert answer_of(paths["revoked"]) == unknown
    assert answer_of(paths["expired"]) == unknown
    assert answer_of(paths["revoked"], method="post", send="code") == unknown
    assert answer_of(paths["expired"], method="post", code="12345678") == unknown
    # A report behind a link without the code, an invented link, a patient who is gone: the same again.
    for address in addresses(links["moved"]):
        assert answer_of(address) == unknown
        assert answer_of(address.replace(str(links["moved"].id), str(released.id))) == unknown
    reader.deactivate()
    assert answer_of(paths["deactivated"]) == unknown


def test_a_record_that_is_no_longer_the_patients_closes_its_links(released: Report, reader: User) -> None:
    path = share(released, by=reader)
    browser = let_in(path)
    patient = released.study.patient
    patient.user = None
    patient.save()
    assert browser.get(path).status_code == 404
    assert browser.get(addresses(ShareLink.objects.get())[0]).status_code == 404


def test_revoking_ends_a_reading_at_once(released: Report, reader: User) -> None:
    path = share(released, by=reader)
    browser = let_in(path)
    link = ShareLink.objects.get()
    client = Client()
    client.force_login(reader)
    assert client.post(reverse("reports:share_revoke", args=[link.id])).status_code == 302
    for address in (*addresses(link), path):
        assert browser.get(address).status_code == 404
    first = ShareLink.objects.get().revoked_at
    client.post(reverse("reports:share_revoke", args=[link.id]))
    assert ShareLink.objects.get().revoked_at == first
    assert AccessEvent.objects.filter(action=Action.UNSHARED).count() == 1


def test_an_expired_link_ends_a_reading_at_once(released: Report, reader: User) -> None:
    browser = let_in(share(released, by=reader))
    link = ShareLink.objects.get()
    past = timezone.now() - timedelta(days=8)
    ShareLink.objects.update(created_at=past, expires_at=past + timedelta(days=7))
    assert all(browser.get(address).status_code == 404 for address in addresses(link))


def test_a_code_opens_in_the_browser_that_asked_for_it_only_and_once(released: Report, reader: User) -> None:
    path = share(released, by=reader)
    asked, other = Client(), Client()
    asked.post(path, {"send": "code"})
    code = code_in(mail.outbox[-1].body)
    assert other.post(path, {"code": code}).status_code == 400
    assert other.get(addresses(ShareLink.objects.get())[0]).status_code == 404
    assert asked.post(path, {"code": code}).status_code == 302
    asked.session.flush()
    asked.cookies.clear()
    assert asked.post(path, {"code": code}).status_code == 400


def test_a_newer_code_replaces_the_older_one_and_an_old_one_is_refused(released: Report, reader: User) -> None:
    path = share(released, by=reader)
    browser = Client()
    browser.post(path, {"send": "code"})
    first = code_in(mail.outbox[-1].body)
    browser.post(path, {"send": "code"})
    second = code_in(mail.outbox[-1].body)
    if first != second:
        assert browser.post(path, {"code": first}).status_code == 400
    ShareLink.objects.update(code_expires_at=timezone.now() - timedelta(seconds=1))
    assert browser.post(path, {"code": second}).status_code == 400


def test_after_five_wrong_codes_even_the_right_one_is_refused(released: Report, reader: User) -> None:
    path = share(released, by=reader)
    browser = Client()
    browser.post(path, {"send": "code"})
    code = code_in(mail.outbox[-1].body)
    wrong = "11111111" if not code.startswith("1111") else "22222222"
    for _ in range(ShareLink.MAX_WRONG_CODES):
        assert browser.post(path, {"code": wrong}).status_code == 400
    assert browser.post(path, {"code": code}).status_code == 400
    assert let_in(path, client=browser)


def test_codes_are_mailed_and_tried_a_limited_number_of_times(released: Report, reader: User) -> None:
    path = share(released, by=reader)
    for number in range(5):
        assert Client(REMOTE_ADDR=f"198.51.100.{number}").post(path, {"send": "code"}).status_code == 302
    count = len(mail.outbox)
    answer = Client(REMOTE_ADDR="203.0.113.9").post(path, {"send": "code"})
    assert answer.status_code == 429
    assert "There were too many tries. Please wait" in answer.content.decode()
    assert len(mail.outbox) == count
    for number in range(15):
        assert Client(REMOTE_ADDR=f"198.51.100.{number}").post(path, {"code": "12345678"}).status_code == 400
    assert Client(REMOTE_ADDR="203.0.113.9").post(path, {"code": "12345678"}).status_code == 429


@pytest.mark.parametrize("code", ["", "x" * 21, "abcdefgh", "\u0661" * 8, "12345678\x00", "' OR 1=1 --"])
def test_nonsense_instead_of_a_code_is_refused_with_a_page(released: Report, reader: User, code: str) -> None:
    path = share(released, by=reader)
    browser = Client()
    browser.post(path, {"send": "code"})
    assert browser.post(path, {"code": code}).status_code == 400


def test_what_was_proven_ends_after_an_hour(released: Report, reader: User, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = let_in(share(released, by=reader))
    address = addresses(ShareLink.objects.get())[0]
    assert browser.get(address).status_code == 200
    later = timezone.now() + READ_FOR
    monkeypatch.setattr("reports.sharing.timezone.now", lambda: later)
    assert browser.get(address).status_code == 404


def test_a_session_planted_before_the_code_opens_nothing(released: Report, reader: User) -> None:
    path = share(released, by=reader)
    browser, planter = Client(), Client()
    browser.post(path, {"send": "code"})
    planter.cookies["sessionid"] = browser.cookies["sessionid"].value
    assert browser.post(path, {"code": code_in(mail.outbox[-1].body)}).status_code == 302
    address = addresses(ShareLink.objects.get())[0]
    assert browser.get(address).status_code == 200
    assert planter.get(address).status_code == 404


def test_the_readers_session_ends_with_the_browser(released: Report, reader: User) -> None:
    browser = let_in(share(released, by=reader))
    assert browser.session.get_expire_at_browser_close()


# --- who may share ----------------------------------------------------------------------------------------------------


def test_nobody_but_the_patient_shares_lists_or_revokes(released: Report, reader: User, doctor: User) -> None:
    share(released, by=reader)
    link = ShareLink.objects.get()
    for person in (doctor, DoctorFactory(hospital=doctor.hospital), DoctorFactory(), UserFactory()):
        client = Client()
        client.force_login(person)
        data = {"email": EMAIL, "days": "7"}
        assert client.post(reverse("reports:report_share", args=[released.id]), data).status_code == 404
        assert client.post(reverse("reports:share_revoke", args=[link.id])).status_code == 404
        assert EMAIL not in client.get(reverse("reports:share_list")).content.decode()
    assert ShareLink.objects.get().is_open


@pytest.mark.parametrize(("email", "days"), [("", "7"), ("nobody", "7"), (EMAIL, "31"), (EMAIL, "0"), (EMAIL, "x")])
def test_a_form_that_is_wrong_shares_nothing(released: Report, reader: User, email: str, days: str) -> None:
    client = Client()
    client.force_login(reader)
    answer = client.post(reverse("reports:report_share", args=[released.id]), {"email": email, "days": days})
    assert answer.status_code == 400
    assert not ShareLink.objects.exists()
    assert not mail.outbox


def test_an_address_cannot_smuggle_a_second_one(released: Report, reader: User) -> None:
    client = Client()
    client.force_login(reader)
    for email in ("a@example.org\nBcc: b@example.org", "a@example.org, b@example.org", "a@example.org;b@example.org"):
        answer = client.post(reverse("reports:report_share", args=[released.id]), {"email": email, "days": "7"})
        assert answer.status_code == 400
    assert not mail.outbox


def test_the_longest_time_is_a_setting(settings) -> None:
    settings.SHARE_MAX_DAYS = 30
    assert days_to_choose() == (1, 7, 14, 30)
    settings.SHARE_MAX_DAYS = 10
    assert days_to_choose() == (1, 7, 10)
    assert check_share_days(None) == []
    settings.SHARE_MAX_DAYS = 0
    assert [error.id for error in check_share_days(None)] == ["portal.E006"]


def test_a_patient_does_not_mail_links_without_end(released: Report, reader: User) -> None:
    for _ in range(10):
        share(released, by=reader)
    client = Client()
    client.force_login(reader)
    answer = client.post(reverse("reports:report_share", args=[released.id]), {"email": EMAIL, "days": "7"})
    assert answer.status_code == 429
    assert len(mail.outbox) == 10


def test_a_link_whose_mail_cannot_be_sent_is_not_made(
    released: Report, reader: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_message: Any) -> None:
        raise smtplib.SMTPServerDisconnected

    path = share(released, by=reader)
    monkeypatch.setattr("reports.sharing.send_mail", refuse)
    client = Client()
    client.force_login(reader)
    answer = client.post(reverse("reports:report_share", args=[released.id]), {"email": EMAIL, "days": "7"})
    assert answer.status_code == 503
    assert "could not be sent just now" in answer.content.decode()
    assert ShareLink.objects.count() == 1
    assert Client().post(path, {"send": "code"}).status_code == 503
    assert ShareLink.objects.get().code_hash == ""


def test_the_database_refuses_an_impossible_link(released: Report, reader: User) -> None:
    link, _token = ShareLink.issue(released, by=reader, recipient_email=EMAIL, days=1)
    for change in (
        {"expires_at": link.created_at},
        {"code_hash": "x" * 64},
        {"code_expires_at": timezone.now()},
        {"opened_count": 1},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            ShareLink.objects.filter(pk=link.pk).update(**change)


# --- versions ---------------------------------------------------------------------------------------------------------


def test_a_link_shows_the_version_in_force_and_says_so(released: Report, reader: User, doctor: User) -> None:
    browser = let_in(share(released, by=reader))
    address, pdf, *_rest = addresses(ShareLink.objects.get())
    newer = amended(released, by=doctor, text="No sign of a tumour on the left.")
    body = browser.get(address).content.decode()
    assert "This report was amended since it was shared with you." in body
    assert newer.content.impression in body
    assert "version 2" in body
    assert "No sign of a tumour on the left." in pdf_text(browser.get(pdf).content)


def test_an_amendment_that_is_not_released_is_not_shown(released: Report, reader: User, doctor: User) -> None:
    browser = let_in(share(released, by=reader))
    address = addresses(ShareLink.objects.get())[0]
    version = released.amend(by=doctor, reason="The side was wrong.")
    version.edit(by=doctor, revision=version.revision, findings_text="As before.", impression="Still a secret.")
    body = browser.get(address).content.decode()
    assert "Still a secret." not in body
    assert "amended" not in body


# --- what is told -----------------------------------------------------------------------------------------------------


def test_every_opening_is_on_record_and_the_patient_sees_it(released: Report, reader: User) -> None:
    path = share(released, by=reader)
    browser = Client()
    browser.post(path, {"send": "code"})
    browser.post(path, {"code": "1"})
    let_in(path, client=browser)
    link = ShareLink.objects.get()
    for address in addresses(link):
        browser.get(address)
    events = AccessEvent.objects.filter(target_type="reports.sharelink", target_id=link.id).order_by("sequence")
    assert [event.action for event in events] == [
        Action.SHARED,
        Action.LOGIN_FAILED,
        Action.VIEWED,
        Action.DOWNLOADED,
        Action.VIEWED,
        Action.VIEWED,
    ]
    assert {event.patient_id for event in events} == {released.study.patient_id}
    assert [event.actor for event in events] == [reader, None, None, None, None, None]
    assert all(str(released.id) in event.note for event in events if event.action in (Action.VIEWED, Action.DOWNLOADED))
    told = {(entry.who, entry.deed, entry.thing) for entry in history_of(reader, page=None)}
    thing = "a report, by a link of yours"
    assert ("You", "gave somebody access to", thing) in told
    assert ("Somebody with your link", "looked at", thing) in told
    assert ("Somebody with your link", "downloaded", thing) in told
    assert ("Somebody with your link", "tried in vain to open", thing) in told
    link.refresh_from_db()
    assert link.opened_count == 2
    client = Client()
    client.force_login(reader)
    page = client.get(reverse("reports:share_list")).content.decode()
    assert EMAIL in page
    assert "2 times" in page


def test_shared_pages_stay_out_of_caches_search_engines_and_other_sites(released: Report, reader: User) -> None:
    path = share(released, by=reader)
    browser = let_in(path)
    pages = [
        Client().get(path),
        Client().get(path.rstrip("/") + "x/"),
        *map(browser.get, addresses(ShareLink.objects.get())),
    ]
    for response in pages:
        assert "noindex" in response["X-Robots-Tag"]
        assert "no-store" in response["Cache-Control"]
        assert response["Referrer-Policy"] == "same-origin"
        assert response["X-Frame-Options"] == "DENY"
    for response in pages[:3]:
        body = response.content.decode()
        assert '<meta name="robots" content="noindex, nofollow, noarchive">' in body
        for address in ("/accounts/login/", "/accounts/signup/"):
            assert f'href="{address}"' not in body


def test_a_logged_in_reader_gets_the_same_page_and_is_named_in_the_log(released: Report, reader: User) -> None:
    other = UserFactory()
    client = Client()
    client.force_login(other)
    let_in(share(released, by=reader), client=client)
    body = client.get(addresses(ShareLink.objects.get())[0]).content.decode()
    assert 'class="site-nav"' not in body
    assert AccessEvent.objects.filter(target_type="reports.sharelink", actor=other, action=Action.VIEWED).exists()
