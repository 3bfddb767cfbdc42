"""Drafts that save themselves, lost sessions, and two doctors on one report: no text is ever lost or overwritten."""

import datetime

import pytest
from django.core import signing
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from reports import keeping
from reports.merging import merged
from reports.models import Opening, Report, ReportTemplate
from reports.text import DraftText
from studies.permissions import grant_study
from tests.factories import (
    AnalysisFactory,
    DoctorFactory,
    FirstImpressionFactory,
    ImageFactory,
    ReportFactory,
    StudyFactory,
)

pytestmark = pytest.mark.django_db
JSON = {"Accept": "application/json"}


@pytest.fixture
def colleague(draft, doctor):
    """A second doctor who may work on the draft."""
    person = DoctorFactory(hospital=doctor.hospital, given_name="Kim", family_name="Colleague")
    grant_study(draft.study, to=person, can_change=True)
    return person


def detail(report: Report) -> str:
    return reverse("reports:report_detail", args=[report.id])


def form_of(report: Report, *, author=None, **changes) -> dict:
    token = keeping.author_token(report, author=author or report.created_by)
    return {
        "findings_text": report.findings_text,
        "impression": report.impression,
        "revision": report.revision,
        "author": token,
    } | changes


# --- saving by itself -------------------------------------------------------------------------------------------------


def test_pain_09_a_draft_saves_itself(draft, doctor, log_in):
    answer = log_in(doctor).post(detail(draft), form_of(draft, impression="Typing …"), headers=JSON)
    assert answer.status_code == 200
    assert answer.json()["state"] == "saved"
    assert answer.json()["revision"] == 2
    draft.refresh_from_db()
    assert (draft.impression, draft.edited_by) == ("Typing …", doctor)


def test_a_saved_text_counts_as_read_by_its_author(draft, doctor, log_in):
    log_in(doctor).post(detail(draft), form_of(draft, impression="Mine."), headers=JSON)
    assert list(Opening.objects.values_list("doctor", "revision")) == [(doctor.pk, 2)]


def test_the_page_carries_what_its_script_needs(draft, doctor, log_in):
    page = log_in(doctor).get(detail(draft)).content.decode()
    assert f'data-keep-key="ira-draft:{doctor.pk}:{draft.id}"' in page
    assert "portal/editor.js" in page
    assert "Save draft" in page
    assert "onclick" not in page


def test_a_draft_that_was_signed_meanwhile_is_told_to_its_editor(signed, doctor, log_in):
    answer = log_in(doctor).post(detail(signed), form_of(signed, impression="Late."), headers=JSON)
    assert answer.status_code == 409
    assert answer.json()["state"] == "signed"
    state = log_in(doctor).get(reverse("reports:report_state", args=[signed.id])).json()
    assert "Robin Hale has signed this report" in state["sentence"]


# --- the lost session -------------------------------------------------------------------------------------------------


def test_pain_11_an_autosave_without_session_is_told_so(draft):
    answer = Client().post(detail(draft), form_of(draft, impression="x"), headers=JSON)
    assert answer.status_code == 401
    assert answer.json()["state"] == "logged_out"
    assert "log in again" in answer.json()["sentence"]


def test_pain_11_a_form_sent_without_session_comes_back_with_its_text_after_the_log_in(draft, doctor):
    browser = Client()
    answer = browser.post(detail(draft), form_of(draft, impression="Typed for an hour."))
    assert answer.headers["Location"] == f"{reverse('account_login')}?next={detail(draft)}"
    assert "Your text is kept" in browser.get(answer.headers["Location"]).content.decode()
    browser.force_login(doctor)
    page = browser.get(detail(draft)).content.decode()
    assert "Typed for an hour." in page
    assert "not saved yet" in page
    draft.refresh_from_db()
    assert draft.impression != "Typed for an hour."
    browser.post(detail(draft), form_of(draft, impression="Typed for an hour."))
    assert "not saved yet." not in browser.get(detail(draft)).content.decode()
    draft.refresh_from_db()
    assert draft.impression == "Typed for an hour."


def test_a_kept_text_that_is_older_than_the_stored_one_is_shown_beside_it(draft, doctor, colleague, log_in):
    browser = Client()
    browser.post(detail(draft), form_of(draft, impression="Mine, unsent."))
    draft.edit(by=colleague, revision=1, findings_text="F.", impression="Theirs.")
    browser.force_login(doctor)
    answer = browser.get(detail(draft))
    page = answer.content.decode()
    assert answer.status_code == 409
    for words in ("Mine, unsent.", "Theirs.", "Kim Colleague has changed this draft"):
        assert words in page


def test_a_text_kept_for_one_doctor_is_shown_to_no_other(draft, doctor, colleague):
    browser = Client()
    browser.post(detail(draft), form_of(draft, author=doctor, impression="For Robin only."))
    browser.force_login(colleague)
    assert "For Robin only." not in browser.get(detail(draft)).content.decode()


@pytest.mark.parametrize(
    "changes",
    [
        {"author": ""},
        {"author": "forged"},
        {"author": signing.dumps({"author": "1", "report": "1"}, salt="another")},
        {"impression": "x" * 10_001},
        {"revision": "one"},
    ],
)
def test_only_forms_of_ours_are_kept(draft, changes):
    browser = Client()
    answer = browser.post(detail(draft), form_of(draft) | changes)
    assert "login" in answer.headers["Location"]
    assert keeping.SESSION_KEY not in browser.session


def test_another_reports_form_is_not_kept(draft, doctor):
    other = ReportFactory()
    browser = Client()
    browser.post(detail(other), form_of(draft))
    assert keeping.SESSION_KEY not in browser.session


def test_not_more_than_a_few_texts_are_kept(doctor):
    browser = Client()
    reports = [ReportFactory(study=StudyFactory(created_by=doctor)) for _ in range(keeping.MAX_KEPT + 1)]
    for report in reports:
        browser.post(detail(report), form_of(report, impression="x"))
    kept = browser.session[keeping.SESSION_KEY]
    assert set(kept) == {str(report.id) for report in reports[1:]}


def test_a_text_kept_until_after_the_signature_is_shown_for_copying(draft, doctor, log_in):
    browser = Client()
    browser.post(detail(draft), form_of(draft, impression="Came too late."))
    Report.objects.filter(id=draft.id).delete()
    signed = ReportFactory(study=draft.study, is_signed=True)
    session = browser.session
    session[keeping.SESSION_KEY] = {str(signed.id): session[keeping.SESSION_KEY][str(draft.id)]}
    session.save()
    browser.force_login(doctor)
    page = browser.get(detail(signed)).content.decode()
    assert "Came too late." in page
    assert "which was not stored" in page


# --- two doctors ------------------------------------------------------------------------------------------------------


def test_the_second_of_two_doctors_is_told_and_gets_both_texts(draft, doctor, colleague, log_in):
    log_in(colleague).post(detail(draft), form_of(draft, impression="Theirs."), headers=JSON)
    answer = log_in(doctor).post(detail(draft), form_of(draft, impression="Mine."), headers=JSON)
    told = answer.json()
    assert answer.status_code == 409
    assert told["state"] == "conflict"
    assert "Kim Colleague has changed this draft at" in told["sentence"]
    assert told["stored"]["impression"] == "Theirs."
    assert told["both"]["impression"] == "Theirs.\nMine."
    draft.refresh_from_db()
    assert draft.impression == "Theirs."


@pytest.mark.parametrize(
    ("choice", "impression"), [("mine", "Mine."), ("both", "Theirs.\nMine."), ("theirs", "Theirs.")]
)
def test_without_javascript_the_second_doctor_chooses_by_buttons(draft, doctor, colleague, log_in, choice, impression):
    log_in(colleague).post(detail(draft), form_of(draft, impression="Theirs."))
    browser = log_in(doctor)
    answer = browser.post(detail(draft), form_of(draft, impression="Mine."))
    page = answer.content.decode()
    assert answer.status_code == 409
    for words in ("Theirs.", "Mine.", "Keep both", "Keep my text", "Keep the stored text"):
        assert words in page
    revision = answer.context["form"]["revision"].value()
    answer = browser.post(detail(draft), form_of(draft, impression="Mine.", revision=revision, resolve=choice))
    assert answer.status_code == 302
    draft.refresh_from_db()
    assert draft.impression == impression


def test_each_of_two_doctors_is_told_of_the_other(draft, doctor, colleague, log_in):
    browser = log_in(doctor)
    browser.get(detail(draft))
    page = log_in(colleague).get(detail(draft)).content.decode()
    assert "Robin Hale has this draft open too" in page
    state = browser.get(reverse("reports:report_state", args=[draft.id])).json()
    assert state["others"] == ["Kim Colleague"]
    assert state["revision"] == 1
    Opening.objects.filter(doctor=colleague).update(seen_at=timezone.now() - datetime.timedelta(minutes=2))
    assert browser.get(reverse("reports:report_state", args=[draft.id])).json()["others"] == []


def test_an_onlooker_counts_as_nobody_and_gets_no_state(draft, doctor, log_in):
    onlooker = DoctorFactory(hospital=doctor.hospital)
    grant_study(draft.study, to=onlooker, can_change=False)
    browser = log_in(onlooker)
    browser.get(detail(draft))
    assert browser.get(reverse("reports:report_state", args=[draft.id])).status_code == 403
    assert not Opening.objects.exists()


@pytest.mark.parametrize(
    ("stored", "mine", "both"),
    [
        ("a", "a", "a"),
        ("", "a", "a"),
        ("a", "", "a"),
        ("a\nb\nc", "a\nx\nc", "a\nb\nx\nc"),
        ("a\nb", "a\nb\nc", "a\nb\nc"),
        ("a\nb\nc", "c", "a\nb\nc"),
        ("x", "y", "x\ny"),
    ],
)
def test_put_together_no_line_of_either_text_is_lost(stored, mine, both):
    result = merged(
        stored=DraftText(findings_text=stored, impression=""), mine=DraftText(findings_text=mine, impression="")
    )
    assert result.findings_text == both


# --- the button -------------------------------------------------------------------------------------------------------


def test_a_double_click_on_write_the_draft_opens_the_one_draft_without_a_word(doctor, log_in):
    study = StudyFactory(created_by=doctor)
    AnalysisFactory(image=ImageFactory(study=study), is_done=True)
    browser = log_in(doctor)
    for _ in range(2):
        answer = browser.post(reverse("reports:report_create", args=[study.id]), follow=True)
    assert answer.redirect_chain == [(detail(Report.objects.get()), 302)]
    assert 'class="messages"' not in answer.content.decode()


def test_a_draft_that_a_colleague_has_had_written_is_opened_and_named(draft, colleague, log_in):
    answer = log_in(colleague).post(reverse("reports:report_create", args=[draft.study_id]), follow=True)
    assert answer.redirect_chain[-1][0] == detail(draft)
    assert "Robin Hale has had the draft written already" in answer.content.decode()


@pytest.mark.parametrize(
    ("wanted", "is_followed"),
    [
        ("/studies/", True),
        ("https://evil.example.org/", False),
        ("//evil.example.org/", False),
        ("javascript:x", False),
    ],
)
def test_the_way_back_stays_on_this_site(draft, doctor, log_in, wanted, is_followed):
    answer = log_in(doctor).post(detail(draft), form_of(draft, impression="New.", next=wanted))
    assert (answer.headers["Location"] == wanted) is is_followed


def test_a_draft_is_hidden_until_the_first_impression(draft, doctor, colleague, log_in):
    doctor.hospital.reads_first = True
    doctor.hospital.save()
    browser = log_in(colleague)
    impression = reverse("studies:first_impression", args=[draft.study_id])
    assert browser.get(detail(draft)).headers["Location"] == impression
    assert browser.get(reverse("reports:report_sign", args=[draft.id])).headers["Location"] == impression
    assert browser.get(reverse("reports:report_overlay", args=[draft.id, 1])).status_code == 404
    assert browser.get(reverse("reports:report_slice", args=[draft.id, 1])).status_code == 200
    FirstImpressionFactory(study=draft.study, doctor=colleague)
    assert browser.get(detail(draft)).status_code == 200


# --- templates --------------------------------------------------------------------------------------------------------


@pytest.fixture
def template(doctor):
    """A text of the doctor's hospital."""
    return ReportTemplate.objects.create(
        hospital=doctor.hospital,
        name="Lung cancer screening",
        findings_text="CT of {study_date} for {patient} ({record_number}).\n{measurements}\n{comparison}",
        impression="{summary}\n{doctor} {unknown}",
    )


def test_a_draft_starts_from_a_template(template, doctor, log_in):
    study = StudyFactory(created_by=doctor)
    AnalysisFactory(image=ImageFactory(study=study), is_done=True)
    browser = log_in(doctor)
    page = browser.get(reverse("studies:study_detail", args=[study.id])).content.decode()
    assert "Lung cancer screening" in page
    browser.post(reverse("reports:report_create", args=[study.id]), {"template": str(template.id)})
    report = Report.objects.get()
    assert report.findings_text.startswith(f"CT of 9 March 2026 for {study.patient.full_name}")
    assert "outlined 1 region" in report.findings_text
    assert "No earlier examination to compare with." in report.findings_text
    assert report.impression.startswith("1. 1 region outlined")
    assert report.impression.endswith("Robin Hale {unknown}")


def test_a_template_is_added_below_what_is_written(draft, template, doctor, log_in):
    data = form_of(draft, findings_text="Typed.", impression="Mine.", template=str(template.id), insert="1")
    log_in(doctor).post(detail(draft), data)
    draft.refresh_from_db()
    assert draft.findings_text.startswith("Typed.\n\nCT of 9 March 2026")
    assert draft.impression.startswith("Mine.\n\n1. ")


@pytest.mark.parametrize("hostile", ["{% load x %}{{ settings.SECRET_KEY }}", "{doctor.password}", "{0}", "%(doctor)s"])
def test_a_template_executes_nothing(draft, template, doctor, log_in, hostile):
    ReportTemplate.objects.update(findings_text=hostile, impression="")
    data = form_of(draft, findings_text="Typed.", template=str(template.id), insert="1")
    log_in(doctor).post(detail(draft), data)
    draft.refresh_from_db()
    assert draft.findings_text == f"Typed.\n\n{hostile}"


def test_what_stands_in_a_patients_data_is_not_taken_for_a_placeholder(draft, template, doctor):
    draft.study.clinical_question = "{doctor} {measurements}"
    ReportTemplate.objects.update(findings_text="{clinical_question}")
    template.refresh_from_db()
    values = {"clinical_question": "{doctor} {measurements}", "doctor": "wrong"}
    assert template.filled(values).findings_text == "{doctor} {measurements}"


@pytest.mark.parametrize("key", ["", "nonsense", "00000000-0000-0000-0000-000000000000"])
def test_an_unknown_template_is_none(draft, doctor, key):
    assert ReportTemplate.objects.chosen(key, by=doctor) is None


def test_templates_of_other_hospitals_and_switched_off_ones_do_not_exist(template, doctor, reader):
    assert ReportTemplate.objects.chosen(str(template.id), by=doctor) == template
    for person in (DoctorFactory(), reader):
        assert ReportTemplate.objects.chosen(str(template.id), by=person) is None
    template.is_active = False
    template.save()
    assert ReportTemplate.objects.chosen(str(template.id), by=doctor) is None
