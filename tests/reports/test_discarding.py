"""A draft is thrown away on purpose, never by accident, and never what is signed."""

import pytest
from django.urls import reverse
from pytest_django.asserts import assertContains, assertRedirects

from accounts.models import AccessEvent, User
from reports.drafting import discard_draft, draft_report
from reports.errors import InvalidTransitionError, StaleDraftError
from reports.models import BulkJob, BulkLine, Report
from reports.tasks import run_bulk_job
from tests.factories import AnalysisFactory, DoctorFactory, ImageFactory, StudyFactory
from tests.reports.test_pages import url

pytestmark = pytest.mark.django_db


def test_a_first_draft_is_discarded_and_another_can_be_written(draft: Report, doctor: User, log_in) -> None:
    browser = log_in(doctor)
    editor = browser.get(url("report_detail", draft))
    assertContains(editor, url("report_discard", draft))
    page = browser.get(url("report_discard", draft))
    assertContains(page, draft.impression.splitlines()[0])
    sent = {"revision": page.context["form"]["revision"].value()}
    answer = browser.post(url("report_discard", draft), sent, follow=True)
    assertRedirects(answer, reverse("studies:study_read", args=[draft.study_id]))
    assertContains(answer, "The draft is discarded.")
    assert not Report.objects.exists()
    event = AccessEvent.objects.get(action="deleted")
    assert (event.target_id, event.actor, event.note) == (draft.id, doctor, "draft discarded")
    assert draft_report(draft.study, by=doctor).version == 1


def test_a_discarded_amendment_leaves_the_signed_version_in_force(released: Report, doctor: User, log_in) -> None:
    amendment = released.amend(by=doctor, reason="The side was wrong.")
    answer = log_in(doctor).post(url("report_discard", amendment), {"revision": amendment.revision}, follow=True)
    assertContains(answer, "The amendment is discarded. This version stays in force.")
    released.refresh_from_db()
    assert list(Report.objects.all()) == [released]
    assert not released.is_superseded
    assert released.can_be_amended
    assert released.verify().is_intact


def test_a_colleagues_newer_text_is_not_thrown_away(draft: Report, doctor: User, log_in) -> None:
    browser = log_in(doctor)
    seen = draft.revision
    colleague = DoctorFactory(hospital=doctor.hospital, given_name="Kai")
    draft.edit(by=colleague, revision=seen, findings_text="Newer.", impression="Newer.")
    page = browser.post(url("report_discard", draft), {"revision": seen})
    assert page.status_code == 409
    assertContains(page, "Kai", status_code=409)
    assertContains(page, "Newer.", status_code=409)
    assert Report.objects.get().impression == "Newer."
    # The page now shows the newer text: sending it again is a decision.
    assert browser.post(url("report_discard", draft), {"revision": draft.revision}).status_code == 302
    assert not Report.objects.exists()


def test_what_is_signed_is_never_discarded(signed: Report, doctor: User) -> None:
    with pytest.raises(InvalidTransitionError, match="amended instead"):
        discard_draft(signed, by=doctor, revision=signed.revision)
    stale = signed.amend(by=doctor, reason="The side was wrong.")
    with pytest.raises(StaleDraftError):
        discard_draft(stale, by=doctor, revision=stale.revision + 1)
    assert Report.objects.count() == 2


def test_the_job_that_wrote_a_draft_keeps_its_line(doctor: User, log_in) -> None:
    study = StudyFactory(created_by=doctor)
    AnalysisFactory(image=ImageFactory(study=study), is_done=True)
    job = BulkJob.objects.start(kind="draft", studies=[study], by=doctor)
    run_bulk_job(str(job.id))
    report = Report.objects.get()
    discard_draft(report, by=doctor, revision=report.revision)
    line = BulkLine.objects.get()
    assert (line.state, line.report) == ("done", None)
    page = log_in(doctor).get(reverse("reports:bulk_job", args=[job.id]))
    assertContains(page, reverse("studies:study_detail", args=[study.id]))


def test_an_editor_that_is_still_open_elsewhere_gets_404_and_stores_nothing(
    draft: Report, doctor: User, log_in
) -> None:
    browser = log_in(doctor)
    discard_draft(draft, by=doctor, revision=draft.revision)
    sent = {"revision": draft.revision, "findings_text": "x", "impression": "y"}
    assert browser.get(url("report_state", draft)).status_code == 404
    assert browser.post(url("report_detail", draft), sent, headers={"accept": "application/json"}).status_code == 404
    assert not Report.objects.exists()
