"""The pages of a report for doctors, patients and everybody else."""

import io
import uuid
from pathlib import Path

import numpy as np
import pytest
from django.core import mail
from django.urls import reverse
from PIL import Image as PillowImage

from accounts.models import AccessEvent
from ml.overlay import OUTLINE_COLOUR
from reports.models import Opening, Report
from studies.models import Image
from studies.permissions import grant_study
from tests.factories import (
    AdministratorFactory,
    AnalysisFactory,
    DoctorFactory,
    ImageFactory,
    ReportFactory,
    StudyFactory,
    UserFactory,
)
from tests.factories import answer as model_answer
from tests.reports.conftest import pdf_text

pytestmark = pytest.mark.django_db


def url(name: str, report: Report, **kwargs) -> str:
    return reverse(f"reports:{name}", kwargs={"report_id": report.id} | kwargs)


def actions(report: Report) -> list[str]:
    return list(AccessEvent.objects.filter(target_id=report.id).order_by("id").values_list("action", flat=True))


def form_of(report: Report, **changes) -> dict:
    return {
        "findings_text": report.findings_text,
        "impression": report.impression,
        "revision": report.revision,
    } | changes


def signature_of(report: Report, **changes) -> dict:
    """Return the form of the signing page as the report's own doctor gets it there."""
    Opening.objects.note(report, doctor=report.created_by)
    return {"revision": report.revision, "evidence": report.content.evidence, "is_confirmed": "on"} | changes


# --- the doctor's way -------------------------------------------------------------------------------------------------


def test_from_draft_to_the_patients_pdf(doctor, reader, patient, log_in):
    study = StudyFactory(created_by=doctor, patient=patient)
    AnalysisFactory(image=ImageFactory(study=study), is_done=True)
    browser = log_in(doctor)
    answer = browser.post(reverse("reports:report_create", args=[study.id]), follow=True)
    report = Report.objects.get()
    assert answer.redirect_chain == [(url("report_detail", report), 302)]
    assert "Save and go on to sign" in answer.content.decode()

    text = form_of(report, impression="Mass of 2 cm.\r\nBiopsy advised.", sign="1")
    answer = browser.post(url("report_detail", report), text, follow=True)
    assert answer.redirect_chain == [(url("report_sign", report), 302)]
    assert "Biopsy advised." in answer.content.decode()
    report.refresh_from_db()
    assert report.impression == "Mass of 2 cm.\nBiopsy advised."
    assert report.edited_by == doctor

    answer = browser.post(url("report_sign", report), signature_of(report), follow=True)
    assert "The report is signed" in answer.content.decode()
    answer = browser.post(url("report_release", report), follow=True)
    assert "was told by e-mail" in answer.content.decode()
    assert len(mail.outbox) == 1
    assert "http://testserver/reports/mine/" in mail.outbox[0].body

    patients = log_in(reader)
    assert str(report.id) in patients.get(reverse("reports:my_reports")).content.decode()
    page = patients.get(url("my_report", report)).content.decode()
    assert "Biopsy advised." in page
    assert "In plain words" in page
    pdf = patients.get(url("report_pdf", report))
    assert pdf["Content-Type"] == "application/pdf"
    assert pdf["Cache-Control"] == "private, no-store"
    assert "attachment" in pdf["Content-Disposition"]
    assert pdf.content == browser.get(url("report_pdf", report)).content
    assert "Biopsy advised." in pdf_text(pdf.content)
    assert actions(report) == [
        "created",
        "viewed",
        "changed",
        "viewed",
        "signed",
        "viewed",
        "released",
        "viewed",
        "viewed",
        "downloaded",
        "downloaded",
    ]
    assert AccessEvent.objects.filter(actor=reader, action="downloaded", target_id=report.id).count() == 1


def test_asking_for_a_second_draft_opens_the_first(draft, doctor, log_in):
    answer = log_in(doctor).post(reverse("reports:report_create", args=[draft.study_id]), follow=True)
    assert answer.redirect_chain[-1][0] == url("report_detail", draft)
    assert "already" not in answer.content.decode()


def test_without_an_answer_there_is_no_draft_but_a_sentence(doctor, log_in):
    study = StudyFactory(created_by=doctor)
    AnalysisFactory(image=ImageFactory(study=study), has_failed=True)
    answer = log_in(doctor).post(reverse("reports:report_create", args=[study.id]), follow=True)
    assert answer.redirect_chain[-1][0] == reverse("studies:study_detail", args=[study.id])
    assert "nothing to write a report from yet" in answer.content.decode()


def test_the_study_page_offers_the_next_step(doctor, log_in):
    browser, study = log_in(doctor), StudyFactory(created_by=doctor)
    image = ImageFactory(study=study)
    page = reverse("studies:study_detail", args=[study.id])
    assert "as soon as the analysis of a slice is done" in browser.get(page).content.decode()
    AnalysisFactory(image=image, is_done=True)
    assert "Write the draft" in browser.get(page).content.decode()
    report = ReportFactory(study=study)
    assert "Edit the draft" in browser.get(page).content.decode()
    browser.post(url("report_sign", report), signature_of(report))
    assert "Open the report" in browser.get(page).content.decode()


def test_the_impression_is_not_called_optional(draft, doctor, log_in):
    page = log_in(doctor).get(url("report_detail", draft)).content.decode()
    assert page.count("(optional)") == 1


def test_an_onlooker_reads_but_is_offered_nothing_to_change(draft, doctor, log_in):
    onlooker = DoctorFactory(hospital=doctor.hospital)
    grant_study(draft.study, to=onlooker, can_change=False)
    browser = log_in(onlooker)
    page = browser.get(url("report_detail", draft))
    assert page.status_code == 200
    assert "<textarea" not in page.content.decode()
    assert browser.post(url("report_detail", draft), form_of(draft, impression="x")).status_code == 403
    assert browser.get(url("report_sign", draft)).status_code == 403
    assert browser.post(url("report_sign", draft), signature_of(draft)).status_code == 403
    assert browser.post(url("report_release", draft)).status_code == 403
    study = StudyFactory(created_by=doctor)
    grant_study(study, to=onlooker, can_change=False)
    assert browser.post(reverse("reports:report_create", args=[study.id])).status_code == 403
    draft.refresh_from_db()
    assert draft.revision == 1


# --- editing ----------------------------------------------------------------------------------------------------------


def test_a_stale_draft_shows_both_texts_and_loses_none(draft, doctor, log_in):
    colleague = DoctorFactory(hospital=doctor.hospital, given_name="Kim", family_name="Colleague")
    grant_study(draft.study, to=colleague, can_change=True)
    opened = form_of(draft, findings_text="Mine, findings.", impression="Mine, impression.")
    log_in(colleague).post(url("report_detail", draft), form_of(draft, impression="Theirs."))
    browser = log_in(doctor)
    answer = browser.post(url("report_detail", draft), opened)
    page = answer.content.decode()
    assert answer.status_code == 409
    assert "Kim Colleague has changed this draft" in page
    for words in ("Mine, findings.", "Mine, impression.", "Theirs."):
        assert words in page
    draft.refresh_from_db()
    assert draft.impression == "Theirs."
    answer = browser.post(
        url("report_detail", draft), opened | {"revision": answer.context["form"]["revision"].value()}
    )
    assert answer.status_code == 302
    draft.refresh_from_db()
    assert draft.impression == "Mine, impression."


def test_saving_the_same_text_twice_is_no_conflict_and_no_event(draft, doctor, log_in):
    browser, text = log_in(doctor), form_of(draft, impression="Once.")
    for _ in range(2):
        assert browser.post(url("report_detail", draft), text).status_code == 302
    assert actions(draft).count("changed") == 1
    draft.refresh_from_db()
    assert draft.revision == 2


def test_an_edit_that_comes_after_the_signature_is_refused_and_shown(signed, doctor, log_in):
    answer = log_in(doctor).post(url("report_detail", signed), form_of(signed, revision=1, impression="Too late."))
    assert answer.status_code == 409
    assert "Too late." in answer.content.decode()
    assert "signed" in answer.content.decode()
    assert Report.objects.get().impression == signed.impression


@pytest.mark.parametrize(
    "changes",
    [
        {"impression": "x" * 10_001},
        {"findings_text": "x" * 20_001},
        {"impression": "a\n" * 600},
        {"revision": "one"},
        {"revision": ""},
        {"revision": -1},
        {"impression": "nul \x00 inside"},
    ],
)
def test_an_invalid_draft_is_400_with_the_text_kept(draft, doctor, log_in, changes):
    text = {"findings_text": "Typed for an hour."} | changes
    answer = log_in(doctor).post(url("report_detail", draft), form_of(draft, **text))
    assert answer.status_code == 400
    assert text["findings_text"] in answer.content.decode()
    stored = Report.objects.get()
    assert stored.impression == draft.impression
    assert stored.revision == 1


def test_control_characters_are_left_out(draft, doctor, log_in):
    log_in(doctor).post(url("report_detail", draft), form_of(draft, impression="a\x0b\x1b[31mb\tc\r\nd"))
    draft.refresh_from_db()
    assert draft.impression == "a[31mb\tc\nd"


def test_a_draft_may_be_saved_without_impression_but_not_signed(draft, doctor, log_in):
    browser = log_in(doctor)
    answer = browser.post(url("report_detail", draft), form_of(draft, impression="", sign="1"), follow=True)
    assert "Please write the impression first" in answer.content.decode()
    draft.refresh_from_db()
    assert draft.impression == ""
    assert not draft.can_be_signed


def test_markup_in_a_text_is_shown_as_text(draft, doctor, log_in):
    browser = log_in(doctor)
    hostile = "<script>alert(1)</script></textarea>"
    browser.post(url("report_detail", draft), form_of(draft, impression=hostile))
    for name in ("report_detail", "report_sign"):
        page = browser.get(url(name, draft)).content.decode()
        assert "&lt;script&gt;" in page
        assert hostile not in page


def test_characters_that_the_pdf_cannot_print_are_told_before_signing(draft, doctor, log_in):
    browser = log_in(doctor)
    browser.post(url("report_detail", draft), form_of(draft, impression="\u4e2d\u6587 \u202e done"))
    for name in ("report_detail", "report_sign"):
        page = browser.get(url(name, draft)).content.decode()
        assert "\u4e2d \u6587 U+202E" in page


def test_a_draft_saves_itself_and_hands_back_the_revision(draft, doctor, log_in):
    browser = log_in(doctor)
    answer = browser.post(
        url("report_detail", draft), form_of(draft, impression="Typing"), headers={"Accept": "application/json"}
    )
    assert answer.status_code == 200
    told = answer.json()
    assert (told["state"], told["revision"], told["others"]) == ("saved", 2, [])
    draft.refresh_from_db()
    assert draft.impression == "Typing"


def test_a_draft_that_cannot_save_itself_says_so_and_overwrites_nothing(draft, doctor, log_in):
    browser = log_in(doctor)
    browser.post(url("report_detail", draft), form_of(draft, impression="First tab"))
    stale = form_of(draft, impression="Second tab")
    answer = browser.post(url("report_detail", draft), stale, headers={"Accept": "application/json"})
    assert answer.status_code == 409
    told = answer.json()
    assert (told["state"], told["revision"]) == ("conflict", 2)
    assert "You have changed this draft in another window" in told["sentence"]
    assert told["stored"]["impression"] == "First tab"
    assert told["both"]["impression"] == "First tab\nSecond tab"
    too_long = form_of(draft, revision=2, impression="x" * 10_001)
    answer = browser.post(url("report_detail", draft), too_long, headers={"Accept": "application/json"})
    assert answer.status_code == 400
    assert "Not saved" in answer.json()["sentence"]
    draft.refresh_from_db()
    assert draft.impression == "First tab"


# --- signing ----------------------------------------------------------------------------------------------------------


def test_a_signature_needs_the_explicit_confirmation(draft, doctor, log_in):
    browser = log_in(doctor)
    data = signature_of(draft)
    del data["is_confirmed"]
    answer = browser.post(url("report_sign", draft), data)
    assert answer.status_code == 400
    assert "Please tick the box" in answer.content.decode()
    assert Report.objects.get().state == Report.State.DRAFT


def test_looking_at_the_signing_page_signs_nothing(draft, doctor, log_in):
    assert log_in(doctor).get(url("report_sign", draft)).status_code == 200
    assert Report.objects.get().state == Report.State.DRAFT


def test_a_stale_signature_is_409_and_asks_to_read_again(draft, doctor, log_in):
    data = signature_of(draft)
    draft.edit(by=doctor, revision=draft.revision, findings_text="New findings.", impression="New impression.")
    answer = log_in(doctor).post(url("report_sign", draft), data)
    assert answer.status_code == 409
    assert "New impression." in answer.content.decode()
    assert answer.context["form"]["is_confirmed"].value() is None
    assert Report.objects.get().state == Report.State.DRAFT


def test_signing_again_gets_a_sentence(signed, doctor, log_in):
    answer = log_in(doctor).post(url("report_sign", signed), signature_of(signed), follow=True)
    assert "signed already" in answer.content.decode()
    assert actions(signed).count("signed") == 0


def test_releasing_a_draft_or_twice_gets_a_sentence(draft, doctor, log_in):
    browser = log_in(doctor)
    answer = browser.post(url("report_release", draft), follow=True)
    assert "Only a signed report" in answer.content.decode()
    browser.post(url("report_sign", draft), signature_of(draft))
    for _ in range(2):
        answer = browser.post(url("report_release", draft), follow=True)
    assert "has not been released yet" in answer.content.decode()
    assert actions(draft).count("released") == 1


@pytest.mark.parametrize("name", ["report_create", "report_release"])
def test_acts_need_a_post(draft, doctor, log_in, name):
    address = reverse(f"reports:{name}", args=[draft.study_id if name == "report_create" else draft.id])
    assert log_in(doctor).get(address).status_code == 405


def test_a_post_without_the_forms_token_is_refused(draft, doctor):
    from django.test import Client

    browser = Client(enforce_csrf_checks=True)
    browser.force_login(doctor)
    assert browser.post(url("report_sign", draft), signature_of(draft)).status_code == 403
    assert Report.objects.get().state == Report.State.DRAFT


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_draft_has_no_pdf_to_download(draft, doctor, log_in):
    assert log_in(doctor).get(url("report_pdf", draft)).status_code == 404


def test_a_damaged_pdf_is_not_sent(signed, doctor, log_in):
    with Path(signed.pdf.path).open("ab") as file:
        file.write(b"x")
    browser = log_in(doctor)
    answer = browser.get(url("report_pdf", signed))
    assert answer.status_code == 500
    assert "tell your administrator" in answer.content.decode()
    assert "downloaded" not in actions(signed)
    assert "not as it was signed" in browser.get(url("report_detail", signed)).content.decode()


@pytest.mark.parametrize("name", ["report_slice", "report_overlay"])
def test_pictures_are_sent_privately_and_recorded(released, doctor, reader, log_in, name):
    for person in (doctor, reader):
        answer = log_in(person).get(url(name, released, number=1))
        assert answer.status_code == 200
        assert b"".join(answer).startswith(b"\x89PNG")
        assert answer["Cache-Control"] == "private, no-store"
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert AccessEvent.objects.filter(actor=person, action="viewed", target_id=released.id).exists()
    assert log_in(reader).get(url(name, released, number=2)).status_code == 404


def test_the_patient_sees_the_pictures_that_were_signed(released, reader, log_in):
    browser = log_in(reader)
    signed = b"".join(browser.get(url("report_overlay", released, number=1)))
    with PillowImage.open(io.BytesIO(signed)) as picture:
        assert (np.asarray(picture.convert("RGB")) == OUTLINE_COLOUR).all(axis=2).any()
    ImageFactory(study=released.study)
    AnalysisFactory(image=released.study.images.get(number=1), is_done=True, result=model_answer(findings=()))
    assert browser.get(url("report_slice", released, number=2)).status_code == 404
    assert b"".join(browser.get(url("report_overlay", released, number=1))) == signed


def test_slices_with_outlined_regions_are_shown_first(doctor, log_in):
    study = StudyFactory(created_by=doctor)
    AnalysisFactory(image=ImageFactory(study=study), is_done=True, result=model_answer(findings=()))
    AnalysisFactory(image=ImageFactory(study=study), is_done=True)
    report = ReportFactory(study=study)
    page = log_in(doctor).get(url("report_detail", report)).content.decode()
    assert page.index(url("report_overlay", report, number=2)) < page.index(url("report_overlay", report, number=1))
    assert "Show 1 more slice" in page


def test_a_slice_without_answer_has_no_overlay(draft, doctor, log_in):
    AnalysisFactory(image=ImageFactory(study=draft.study), has_failed=True)
    browser = log_in(doctor)
    assert browser.get(url("report_slice", draft, number=2)).status_code == 200
    assert browser.get(url("report_overlay", draft, number=2)).status_code == 404
    assert "was not analysed" in browser.get(url("report_detail", draft)).content.decode()


def test_a_picture_whose_file_is_gone_is_404(draft, doctor, log_in):
    image = Image.objects.get()
    image.file.storage.delete(image.file.name)
    assert log_in(doctor).get(url("report_slice", draft, number=1)).status_code == 404


# --- who sees what ----------------------------------------------------------------------------------------------------

EVERYBODY_ELSE = {
    "another doctor of the hospital": lambda doctor: DoctorFactory(hospital=doctor.hospital),
    "a doctor of another hospital": lambda doctor: DoctorFactory(),
    "a doctor nobody has approved": lambda doctor: DoctorFactory(hospital=doctor.hospital, approved_at=None),
    "another patient": lambda doctor: UserFactory(),
    "an administrator": lambda doctor: AdministratorFactory(hospital=doctor.hospital),
    "a superuser": lambda doctor: AdministratorFactory(is_superuser=True),
}


@pytest.mark.parametrize("who", EVERYBODY_ELSE)
def test_for_everybody_else_the_report_does_not_exist(released, doctor, log_in, who):
    browser = log_in(EVERYBODY_ELSE[who](doctor))
    for name, kwargs in [
        ("report_detail", {}),
        ("report_sign", {}),
        ("report_pdf", {}),
        ("report_slice", {"number": 1}),
        ("report_overlay", {"number": 1}),
        ("my_report", {}),
    ]:
        assert browser.get(url(name, released, **kwargs)).status_code == 404, name
    for name in ("report_detail", "report_sign", "report_release"):
        assert browser.post(url(name, released), {"impression": "x", "revision": 1}).status_code == 404, name
    study = StudyFactory(created_by=doctor)
    assert browser.post(reverse("reports:report_create", args=[study.id])).status_code == 404
    assert actions(released) == []


def test_the_patient_of_an_unreleased_report_sees_nothing(signed, reader, log_in):
    browser = log_in(reader)
    for name in ("report_detail", "report_pdf", "my_report"):
        assert browser.get(url(name, signed)).status_code == 404
    assert browser.get(url("report_overlay", signed, number=1)).status_code == 404
    assert "No report yet" in browser.get(reverse("reports:my_reports")).content.decode()


def test_the_patient_changes_nothing(released, reader, log_in):
    browser = log_in(reader)
    assert browser.get(url("report_detail", released)).headers["Location"] == url("my_report", released)
    for name in ("report_sign", "report_release"):
        assert browser.post(url(name, released)).status_code == 404


def test_nobody_is_let_in_without_log_in(released, client):
    for name in ("report_detail", "report_pdf", "my_report"):
        answer = client.get(url(name, released))
        assert answer.status_code == 302
        assert "login" in answer.headers["Location"]


def test_an_unknown_report_is_404(doctor, log_in):
    assert log_in(doctor).get(reverse("reports:report_detail", args=[uuid.uuid4()])).status_code == 404


# --- lists ------------------------------------------------------------------------------------------------------------


def test_the_doctors_list_shows_exactly_the_own_reports_by_state(doctor, patient, log_in):
    mine = {
        "draft": ReportFactory(study=StudyFactory(created_by=doctor, patient=patient)),
        "signed": ReportFactory(study=StudyFactory(created_by=doctor, patient=patient), is_signed=True),
        "released": ReportFactory(study=StudyFactory(created_by=doctor, patient=patient), is_released=True),
    }
    ReportFactory()
    browser = log_in(doctor)
    for state, report in mine.items():
        answer = browser.get(reverse("reports:report_list"), {"state": state})
        assert list(answer.context["page"]) == [report]
        assert [tab["count"] for tab in answer.context["tabs"]] == [1, 1, 1, 0]
    assert list(browser.get(reverse("reports:report_list")).context["page"]) == [mine["draft"]]


@pytest.mark.parametrize("query", ["state=nonsense", "page=0", "page=x", "page=99", "state=%00"])
def test_odd_addresses_of_the_list_show_a_page(doctor, log_in, query):
    assert log_in(doctor).get(f"{reverse('reports:report_list')}?{query}").status_code == 200


def test_an_empty_list_says_what_to_do(doctor, log_in):
    browser = log_in(doctor)
    for state, words in (("draft", "No drafts"), ("signed", "Nothing to release"), ("released", "Nothing released")):
        assert words in browser.get(reverse("reports:report_list"), {"state": state}).content.decode()


def test_patients_and_administrators_have_no_doctors_list(log_in):
    for person in (UserFactory(), AdministratorFactory(), DoctorFactory(approved_at=None)):
        assert log_in(person).get(reverse("reports:report_list")).status_code == 404


def test_doctors_and_administrators_have_no_patients_list(doctor, log_in):
    for person in (doctor, AdministratorFactory()):
        assert log_in(person).get(reverse("reports:my_reports")).status_code == 404


def test_the_lists_need_a_fixed_number_of_queries(doctor, patient, log_in, django_assert_max_num_queries):
    for _ in range(4):
        ReportFactory(study=StudyFactory(created_by=doctor, patient=patient))
    browser = log_in(doctor)
    with django_assert_max_num_queries(8):
        browser.get(reverse("reports:report_list"))
