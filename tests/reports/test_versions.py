"""Amending and adding: the signed text stays, the new one says what it replaces, the patient reads the newest."""

import io
import threading

import pytest
from django.core import mail
from django.core.exceptions import PermissionDenied
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.urls import reverse

from accounts.models import AccessEvent
from portal.views import errands_of
from reports.copies import copy_of
from reports.errors import InvalidTransitionError, PdfError, UnreadReportError
from reports.models import Addendum, Opening, Report
from reports.permissions import grant_released_reports
from reports.signing import release_report, sign_addendum, sign_report
from studies.permissions import grant_study
from tests.factories import DoctorFactory, ReportFactory, StudyFactory, UserFactory
from tests.reports.conftest import pdf_text
from tests.tools import skip_where_threads_share_the_database

pytestmark = pytest.mark.django_db
LINK = "https://portal.example.org/reports/mine/"


def sign(report: Report, *, by) -> None:
    Opening.objects.note(report, doctor=by)
    sign_report(report, by=by, revision=report.revision, evidence=report.content_for(by).evidence)


def amended(report: Report, *, by, impression: str = "Corrected.", is_released: bool = False) -> Report:
    amendment = report.amend(by=by, reason="The side was wrong.")
    amendment.edit(by=by, revision=amendment.revision, findings_text="Right lung.", impression=impression)
    sign(amendment, by=by)
    if is_released:
        release_report(amendment, by=by, link=LINK)
    report.refresh_from_db()
    return amendment


# --- amendment --------------------------------------------------------------------------------------------------------


def test_pain_06_a_signed_report_is_amended_by_a_new_version_and_the_old_one_is_kept(released, doctor):
    before = (released.signed_content, released.content_sha256, released.read_pdf(), released.impression)
    amendment = amended(released, by=doctor)
    stored = Report.objects.get(id=released.id)
    assert (stored.signed_content, stored.content_sha256, stored.read_pdf(), stored.impression) == before
    assert stored.is_superseded
    assert stored.superseded_at == amendment.signed_at
    assert stored.next_version == amendment
    assert (amendment.version, amendment.amends, amendment.state) == (2, released, Report.State.SIGNED)
    part = amendment.content.amendment
    assert part.reason == "The side was wrong."
    assert part.replaces_sha256 == stored.content_sha256
    text = pdf_text(amendment.read_pdf())
    for words in ("Amended radiology report", "Version 2", str(released.id)[:8], "The side was wrong.", "Corrected."):
        assert words in text
    for report in (stored, amendment):
        assert report.verify().is_intact


def test_a_draft_amendment_changes_nothing_yet(released, doctor, reader):
    released.amend(by=doctor, reason="Typing error.")
    released.refresh_from_db()
    assert not released.is_superseded
    assert list(Report.objects.visible_to(reader)) == [released]
    assert not released.can_be_amended
    with pytest.raises(InvalidTransitionError, match="one amendment at a time"):
        released.amend(by=doctor, reason="Again.")


def test_the_patient_reads_the_newest_released_version_with_a_note(released, doctor, reader, log_in):
    browser = log_in(reader)
    amendment = amended(released, by=doctor)
    assert list(Report.objects.visible_to(reader)) == [released], "until the amendment is released"
    release_report(amendment, by=doctor, link=LINK)
    assert list(Report.objects.visible_to(reader)) == [amendment]
    page = browser.get(reverse("reports:my_report", args=[amendment.id])).content.decode()
    assert "This report was amended on" in page
    assert "The side was wrong." in page
    assert "amended on" in browser.get(reverse("reports:my_reports")).content.decode()
    old = browser.get(reverse("reports:my_report", args=[released.id]))
    assert old.headers["Location"] == reverse("reports:my_report", args=[amendment.id])
    assert browser.get(reverse("reports:report_pdf", args=[released.id])).status_code == 404
    stranger = log_in(UserFactory())
    assert stranger.get(reverse("reports:my_report", args=[released.id])).status_code == 404


def test_the_old_pdf_stays_readable_to_doctors_and_says_that_it_is_superseded(released, doctor, log_in):
    stored = released.read_pdf()
    amended(released, by=doctor)
    answer = log_in(doctor).get(reverse("reports:report_pdf", args=[released.id]))
    assert answer.status_code == 200
    assert "superseded" in answer["Content-Disposition"]
    assert answer.content != stored
    assert pdf_text(answer.content).count("SUPERSEDED") == pdf_text(stored).count("not a medical device")
    assert Report.objects.get(id=released.id).read_pdf() == stored
    assert (
        "was superseded on" in log_in(doctor).get(reverse("reports:report_detail", args=[released.id])).content.decode()
    )


def test_a_third_version_replaces_the_second(released, doctor, reader):
    second = amended(released, by=doctor, is_released=True)
    third = amended(second, by=doctor, impression="Third.", is_released=True)
    assert third.version == 3
    assert list(Report.objects.visible_to(reader)) == [third]
    assert list(Report.objects.in_force()) == [third]
    with pytest.raises(InvalidTransitionError):
        second.amend(by=doctor, reason="Late.")


def test_a_superseded_version_is_not_released_any_more(signed, doctor):
    amended(signed, by=doctor)
    assert not signed.can_be_released
    with pytest.raises(InvalidTransitionError):
        release_report(signed, by=doctor, link=LINK)


def test_a_superseded_version_is_no_errand_any_more(signed, doctor, log_in):
    amended(signed, by=doctor)
    page = log_in(doctor).get(reverse("home"), follow=True).content.decode()
    assert f"{reverse('reports:report_list')}?state=signed" in page
    (errand,) = [errand for errand in errands_of(doctor) if errand.key == "signed"]
    assert errand.count == 1


@pytest.mark.parametrize("reason", ["", "  \n "])
def test_an_amendment_needs_a_reason(released, doctor, reason):
    with pytest.raises(InvalidTransitionError, match="say why"):
        released.amend(by=doctor, reason=reason)


def test_only_doctors_amend_and_only_what_is_signed(draft, released, reader, doctor):
    with pytest.raises(PermissionDenied):
        released.amend(by=reader, reason="Mine.")
    with pytest.raises(InvalidTransitionError):
        draft.amend(by=doctor, reason="Not signed yet.")


def test_the_way_through_the_pages(released, doctor, log_in):
    browser = log_in(doctor)
    address = reverse("reports:report_amend", args=[released.id])
    assert "What is corrected" in browser.get(address).content.decode()
    assert browser.post(address, {"reason": " "}).status_code == 400
    answer = browser.post(address, {"reason": "Wrong side."})
    amendment = Report.objects.get(version=2)
    assert answer.headers["Location"] == reverse("reports:report_detail", args=[amendment.id])
    # A second click opens the same amendment, without a word.
    assert browser.post(address, {"reason": "Wrong side."}).headers["Location"] == answer.headers["Location"]
    assert AccessEvent.objects.filter(action="created", target_id=amendment.id).count() == 1
    page = browser.get(answer.headers["Location"]).content.decode()
    assert "Amendment, version 2" in page
    assert released.impression.splitlines()[0][3:20] in page
    assert (
        "is writing an amendment" in browser.get(reverse("reports:report_detail", args=[released.id])).content.decode()
    )


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"version": 1}, "a_version_stands_once_in_a_study"),
        ({"version": 3, "amends": None}, "every_version_but_the_first_amends_another_for_a_reason"),
        ({"version": 3, "amendment_reason": ""}, "every_version_but_the_first_amends_another_for_a_reason"),
        ({"superseded_at": "2026-01-01T00:00:00Z"}, "only_a_signed_report_is_superseded"),
    ],
)
def test_what_must_be_true_of_versions_is_held_by_the_database(released, doctor, changes, name):
    released.amend(by=doctor, reason="Why.")
    with pytest.raises(IntegrityError), transaction.atomic():
        Report.objects.filter(version=2).update(**changes)


def test_two_reports_in_force_are_impossible(released, doctor):
    amended(released, by=doctor)
    with pytest.raises(IntegrityError), transaction.atomic():
        Report.objects.filter(id=released.id).update(superseded_at=None)


def test_claiming_the_record_grants_every_released_version(doctor):
    report = ReportFactory(study=StudyFactory(created_by=doctor), is_released=True)
    amendment = amended(report, by=doctor, is_released=True)
    newcomer = UserFactory()
    patient = report.study.patient
    assert patient.link_to(newcomer)
    assert grant_released_reports(patient) == 2
    assert list(Report.objects.visible_to(newcomer)) == [amendment]


@pytest.mark.django_db(transaction=True)
def test_two_doctors_in_two_threads_open_one_amendment(released, doctor):
    skip_where_threads_share_the_database()
    colleague = DoctorFactory(hospital=doctor.hospital)
    refused, start = [], threading.Barrier(2)

    def try_it(person):
        try:
            report = Report.objects.get(id=released.id)
            start.wait(10)
            report.amend(by=person, reason="Both.")
        except InvalidTransitionError:
            refused.append(person)
        finally:
            connection.close()

    threads = [threading.Thread(target=try_it, args=(person,)) for person in (doctor, colleague)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(refused) == 1
    assert Report.objects.filter(version=2).count() == 1


# --- addendum ---------------------------------------------------------------------------------------------------------


def test_an_addendum_is_signed_and_leaves_the_report_untouched(released, doctor, reader, log_in):
    before = (released.signed_content, released.content_sha256, released.read_pdf())
    mail.outbox.clear()
    addendum = sign_addendum(released, by=doctor, text="Biopsy result:\nadenocarcinoma.", link=LINK)
    released.refresh_from_db()
    assert (released.signed_content, released.content_sha256, released.read_pdf()) == before
    assert released.verify().is_intact
    assert addendum.content.report_sha256 == released.content_sha256
    assert addendum.signer_name == "Robin Hale"
    assert len(mail.outbox) == 1
    assert "Biopsy" not in mail.outbox[0].body
    text = pdf_text(copy_of(released).pdf)
    for words in ("This report has an addendum", "Addendum 1", "Biopsy result:", "Robin Hale"):
        assert words in text
    page = log_in(reader).get(reverse("reports:my_report", args=[released.id])).content.decode()
    assert "adenocarcinoma." in page


def test_addenda_of_an_unreleased_report_wait_for_the_release(signed, doctor, reader):
    sign_addendum(signed, by=doctor, text="A remark.", link=LINK)
    assert mail.outbox == []
    assert not Report.objects.visible_to(reader).exists()


def test_an_addendum_through_the_page_needs_words_and_the_confirmation(signed, doctor, log_in):
    browser = log_in(doctor)
    address = reverse("reports:report_addendum", args=[signed.id])
    assert browser.get(address).status_code == 200
    for data in ({"text": "Said."}, {"text": " ", "is_confirmed": "on"}, {"text": "x" * 5001, "is_confirmed": "on"}):
        assert browser.post(address, data).status_code == 400
    assert not Addendum.objects.exists()
    answer = browser.post(address, {"text": "<b>Said</b>.\r\nTwice.", "is_confirmed": "on"}, follow=True)
    assert "&lt;b&gt;Said&lt;/b&gt;." in answer.content.decode()
    assert Addendum.objects.get().text == "<b>Said</b>.\nTwice."
    assert AccessEvent.objects.filter(action="signed", target_id=signed.id, actor=doctor).count() == 1


def test_neither_drafts_nor_superseded_versions_get_an_addendum(draft, released, doctor):
    with pytest.raises(InvalidTransitionError):
        sign_addendum(draft, by=doctor, text="No.", link=LINK)
    amended(released, by=doctor)
    with pytest.raises(InvalidTransitionError, match="newest version"):
        sign_addendum(released, by=doctor, text="No.", link=LINK)


def test_onlookers_and_patients_add_nothing(released, doctor, reader):
    onlooker = DoctorFactory(hospital=doctor.hospital)
    grant_study(released.study, to=onlooker, can_change=False)
    for person in (onlooker, reader, DoctorFactory()):
        with pytest.raises(PermissionDenied):
            sign_addendum(released, by=person, text="No.", link=LINK)


def test_an_amendment_starts_with_the_addenda_in_its_text(released, doctor):
    sign_addendum(released, by=doctor, text="Biopsy: adenocarcinoma.", link=LINK)
    amendment = released.amend(by=doctor, reason="Histology.")
    assert amendment.findings_text.startswith(released.findings_text)
    assert "by Robin Hale: Biopsy: adenocarcinoma." in amendment.findings_text


@pytest.mark.parametrize(
    "changes",
    [{"text": "Forged."}, {"content_sha256": "0" * 64}, {"pdf_sha256": "0" * 64}, {"signed_content": {"format": 1}}],
)
def test_the_check_of_all_reports_reads_addenda_and_all_versions(released, doctor, changes):
    amendment = amended(released, by=doctor)
    sign_addendum(amendment, by=doctor, text="A remark.", link=LINK)
    output = io.StringIO()
    call_command("verify_reports", stdout=output)
    assert "All 2 signed reports" in output.getvalue()
    Addendum.objects.update(**changes)
    with pytest.raises(CommandError, match="1 of 2"):
        call_command("verify_reports", stdout=io.StringIO())


def test_a_damaged_addendum_stops_the_copy(released, doctor):
    addendum = sign_addendum(released, by=doctor, text="A remark.", link=LINK)
    addendum.pdf.storage.delete(addendum.pdf.name)
    with pytest.raises(PdfError, match="damaged"):
        copy_of(released)


# --- signing needs reading --------------------------------------------------------------------------------------------


def test_a_report_that_was_not_opened_is_not_signed(draft, doctor, log_in):
    with pytest.raises(UnreadReportError, match="cannot be signed unread"):
        sign_report(draft, by=doctor, revision=draft.revision, evidence=draft.content.evidence)
    data = {"revision": draft.revision, "evidence": draft.content.evidence, "is_confirmed": "on"}
    answer = log_in(doctor).post(reverse("reports:report_sign", args=[draft.id]), data)
    assert answer.status_code == 409
    assert "cannot be signed unread" in answer.content.decode()
    assert Report.objects.get().state == Report.State.DRAFT


def test_what_a_colleague_has_opened_counts_for_nobody_else(draft, doctor):
    colleague = DoctorFactory(hospital=doctor.hospital)
    grant_study(draft.study, to=colleague, can_change=True)
    Opening.objects.note(draft, doctor=colleague)
    with pytest.raises(UnreadReportError):
        sign_report(draft, by=doctor, revision=draft.revision, evidence=draft.content.evidence)


def test_an_older_text_that_was_opened_is_not_enough(draft, doctor):
    Opening.objects.note(draft, doctor=doctor)
    draft.edit(by=doctor, revision=draft.revision, findings_text="New.", impression="New.")
    with pytest.raises(UnreadReportError):
        sign_report(draft, by=doctor, revision=draft.revision, evidence=draft.content.evidence)


def test_opening_the_page_is_what_makes_it_read(draft, doctor, log_in):
    log_in(doctor).get(reverse("reports:report_detail", args=[draft.id]))
    assert Opening.objects.get().revision == draft.revision
    sign_report(draft, by=doctor, revision=draft.revision, evidence=draft.content.evidence)
    assert draft.is_signed


# --- migration --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_going_back_keeps_single_reports_and_refuses_to_lose_versions(signed, doctor):
    amendment = signed.amend(by=doctor, reason="Why.")
    before = [("reports", "0002_people_and_grants")]
    newest = MigrationExecutor(connection).loader.graph.leaf_nodes("reports")
    Opening.objects.all().delete()
    try:
        with pytest.raises(RuntimeError, match="amended reports"):
            MigrationExecutor(connection).migrate(before)
        MigrationExecutor(connection).migrate(newest)
        Report.objects.filter(id=amendment.id).delete()
        MigrationExecutor(connection).migrate(before)
    finally:
        MigrationExecutor(connection).migrate(newest)
    stored = Report.objects.get(id=signed.id)
    assert (stored.version, stored.amends, stored.superseded_at) == (1, None, None)
    assert stored.verify().is_intact
