"""From one study to the next: what waits for a report, the link behind a signature, signing and releasing at once."""

from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse
from pytest_django.asserts import assertContains, assertNotContains

from accounts.models import AccessEvent, Hospital, User
from reports.models import Report
from studies.models import Study
from studies.permissions import grant_study
from studies.worklist import next_to_report
from tests.factories import (
    AnalysisFactory,
    DoctorFactory,
    FirstImpressionFactory,
    ImageFactory,
    ReportFactory,
    StudyFactory,
    answer,
)
from tests.reports.test_pages import signature_of, url

pytestmark = pytest.mark.django_db


def answered(doctor: User, *, malignancy: float = 0.885, **study: Any) -> Study:
    made = StudyFactory(created_by=doctor, **study)
    result = answer(malignant_probability=malignancy)
    AnalysisFactory(image=ImageFactory(study=made), is_done=True, result=result)
    made.refresh_from_db()
    return made


def reading(study: Study) -> str:
    return reverse("studies:study_read", kwargs={"study_id": study.id})


def test_the_next_study_is_the_one_behind_in_the_doctors_order_and_the_list_begins_anew(doctor: User) -> None:
    mild, worst, middle = (answered(doctor, malignancy=value) for value in (0.1, 0.9, 0.5))

    def following(study: Study, **session: Any) -> Study | None:
        return next_to_report(doctor, behind=study, session=session)

    assert [following(study) for study in (worst, middle, mild)] == [middle, mild, worst]
    assert following(mild, worklist_order="newest") == middle
    assert following(mild, worklist_order="oldest") == worst
    # One that has a draft waits as well; one that is signed does not.
    ReportFactory(study=middle)
    assert following(worst) == middle
    ReportFactory(study=answered(doctor, malignancy=0.6), is_signed=True)
    assert following(worst) == middle


def test_only_what_one_may_work_on_and_what_is_done_comes_next(doctor: User) -> None:
    here = answered(doctor)
    colleague = DoctorFactory(hospital=doctor.hospital)
    readable = answered(colleague)
    grant_study(readable, to=doctor, can_change=False)
    answered(colleague)
    answered(DoctorFactory())
    AnalysisFactory(image__study__created_by=doctor)
    AnalysisFactory(image__study__created_by=doctor, has_failed=True)
    StudyFactory(created_by=doctor)
    assert next_to_report(doctor, behind=here, session={}) is None
    grant_study(readable, to=doctor, can_change=True)
    assert next_to_report(doctor, behind=here, session={}) == readable


def test_an_amendment_that_is_being_written_is_not_a_missing_report(doctor: User, signed: Report) -> None:
    here = answered(doctor)
    signed.amend(by=doctor, reason="The side was wrong.")
    assert next_to_report(doctor, behind=here, session={}) is None


def test_the_worklist_shows_what_waits_for_a_report(doctor: User, log_in) -> None:
    bare, drafted = answered(doctor, malignancy=0.9), ReportFactory(study=answered(doctor, malignancy=0.5)).study
    ReportFactory(study=answered(doctor), is_signed=True)
    AnalysisFactory(image__study__created_by=doctor)
    page = log_in(doctor).get(reverse("studies:study_list"), {"state": "unreported"}).context["page"]
    assert list(page.rows) == [bare, drafted]


def test_an_opened_study_without_a_report_is_not_forgotten(doctor: User, log_in) -> None:
    # Opened, so no longer unread; no draft yet, so in no list of drafts.
    study, drafted = answered(doctor), ReportFactory(study=answered(doctor), is_signed=True)
    answered(doctor)  # not opened yet
    browser = log_in(doctor)
    browser.get(reading(study))
    browser.get(reading(drafted.study))
    errands = {errand.key: errand for errand in browser.get(reverse("home")).context["errands"]}
    assert errands["unread"].count == 1
    assert errands["draft"].count == 0
    assert list(errands["unreported"].rows) == [study]


def test_the_reading_page_and_a_signed_report_lead_to_the_next_study(doctor: User, signed: Report, log_in) -> None:
    browser: Client = log_in(doctor)
    assertContains(browser.get(url("report_detail", signed)), "No other study waits for your report.")
    first, second = answered(doctor, malignancy=0.9), answered(doctor, malignancy=0.1)
    assertContains(browser.get(reading(first)), f'href="{reading(second)}"')
    assertContains(browser.get(reading(second)), f'href="{reading(first)}"')
    # Its own suspicion lies between the two.
    assertContains(browser.get(url("report_detail", signed)), f'href="{reading(second)}"')
    onlooker = DoctorFactory(hospital=doctor.hospital)
    grant_study(signed.study, to=onlooker, can_change=False)
    page = log_in(onlooker).get(url("report_detail", signed))
    assertNotContains(page, "Next study")
    assertNotContains(page, "No other study waits")


def test_the_name_of_the_next_study_tells_nothing_that_is_hidden(doctor: User, log_in) -> None:
    Hospital.objects.update(reads_first=True)
    first, second = answered(doctor, malignancy=0.9), answered(doctor, malignancy=0.8)
    FirstImpressionFactory(study=first, doctor=doctor)
    page = log_in(doctor).get(reading(first))
    assertContains(page, f"Next study: {second.patient}, 9 Mar 2026")
    assertNotContains(page, "80%")


def test_signing_and_releasing_at_once(draft: Report, doctor: User, reader: User, log_in) -> None:
    browser = log_in(doctor)
    answered_page = browser.post(url("report_sign", draft), signature_of(draft, release="1"), follow=True)
    draft.refresh_from_db()
    assert draft.state == Report.State.RELEASED
    assert (draft.signed_by, draft.released_by) == (doctor, doctor)
    assertContains(answered_page, "The patient can read it now and was told by e-mail.")
    assert [message.to for message in mail.outbox] == [[reader.email]]
    events = AccessEvent.objects.filter(target_id=draft.id, action__in=["signed", "released"]).order_by("id")
    assert [event.action for event in events] == ["signed", "released"]


def test_what_is_not_confirmed_is_neither_signed_nor_released(draft: Report, doctor: User, log_in) -> None:
    sent = signature_of(draft, release="1")
    del sent["is_confirmed"]
    assert log_in(doctor).post(url("report_sign", draft), sent).status_code == 400
    draft.refresh_from_db()
    assert draft.state == Report.State.DRAFT
    assert mail.outbox == []
