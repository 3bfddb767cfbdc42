"""Signing freezes, releasing grants, and neither can be had twice."""

import threading
from pathlib import Path

import pytest
from django.core import mail
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from reports import signing
from reports.content import ReportContent
from reports.errors import InvalidTransitionError, PdfError, StaleDraftError
from reports.models import Opening, Report, ReportUserObjectPermission
from reports.permissions import grant_release, grant_released_reports
from reports.signing import release_report, sign_report
from studies.models import Analysis, Image
from studies.permissions import grant_study
from tests.factories import (
    AnalysisFactory,
    DoctorFactory,
    ImageFactory,
    ReportFactory,
    StudyFactory,
    UserFactory,
    answer,
)
from tests.reports.conftest import CARD, stored_files
from tests.tools import skip_where_threads_share_the_database

pytestmark = pytest.mark.django_db
LINK = "https://portal.example.org/reports/mine/"


def sign(report: Report, *, by, **changes):
    Opening.objects.note(report, doctor=by)
    values = {"revision": report.revision, "evidence": report.content.evidence} | changes
    sign_report(report, by=by, **values)


def test_a_signature_freezes_content_hash_and_pdf(draft, doctor):
    before = timezone.now().replace(microsecond=0)
    sign(draft, by=doctor)
    stored = Report.objects.get()
    assert stored.state == Report.State.SIGNED
    assert stored.signed_by == doctor
    assert before <= stored.signed_at <= timezone.now()
    assert stored.content == ReportContent.from_json(stored.signed_content)
    assert stored.content.sha256 == stored.content_sha256
    assert stored.content.signature.name == "Robin Hale"
    assert stored.read_pdf().startswith(b"%PDF-")
    assert stored.verify().is_intact
    assert not stored.can_be_edited
    assert not stored.can_be_signed
    assert stored.can_be_released


def test_the_pdf_of_a_signed_report_never_changes(signed, doctor, model_card):
    pdf, content, address = signed.read_pdf(), signed.signed_content, signed.pdf.name
    study, patient = signed.study, signed.study.patient
    patient.given_name, patient.family_name, patient.record_number = "Other", "Name", "R-other"
    patient.save()
    patient.hospital.name = "Renamed Hospital"
    patient.hospital.save()
    study.clinical_question, study.accession_number = "Another question?", "A-2"
    study.save()
    doctor.family_name = "Married"
    doctor.save()
    model_card(CARD | {"version": "test-2", "figures": {}})
    AnalysisFactory(
        image=study.images.get(), is_done=True, result=answer(model_version="test-2", malignant_probability=0.1)
    )
    AnalysisFactory(image=ImageFactory(study=study), is_done=True)
    release_report(Report.objects.get(), by=type(doctor).objects.get(id=doctor.id), link=LINK)

    later = Report.objects.get()
    assert later.read_pdf() == pdf
    assert later.pdf.name == address
    assert later.signed_content == content
    assert later.content.patient.full_name != "Other Name"
    assert later.content.models[0].version == "test-1"
    assert later.verify().is_intact


def test_a_signed_text_can_no_longer_be_edited(signed, doctor):
    with pytest.raises(InvalidTransitionError, match="signed"):
        signed.edit(by=doctor, revision=signed.revision, findings_text="x", impression="y")
    assert Report.objects.get().impression == signed.content.impression


def test_a_report_without_impression_is_not_signed(draft, doctor, settings):
    draft.edit(by=doctor, revision=draft.revision, findings_text="Something.", impression=" \n ")
    with pytest.raises(InvalidTransitionError, match="impression"):
        sign(draft, by=doctor)
    assert not list(Path(settings.MEDIA_ROOT).glob("reports/**/*.pdf"))


def test_a_draft_changed_meanwhile_is_not_signed(draft, doctor):
    revision = draft.revision
    draft.edit(by=doctor, revision=revision, findings_text="New.", impression="New.")
    with pytest.raises(StaleDraftError, match="read it again"):
        sign(draft, by=doctor, revision=revision)
    assert Report.objects.get().state == Report.State.DRAFT


def test_new_answers_of_the_model_must_be_seen_before_signing(draft, doctor):
    evidence = draft.content.evidence
    AnalysisFactory(image=draft.study.images.get(), is_done=True)
    with pytest.raises(StaleDraftError, match="analysed again"):
        sign(draft, by=doctor, evidence=evidence)
    assert Report.objects.get().state == Report.State.DRAFT


def test_new_slices_must_be_seen_before_signing(draft, doctor):
    evidence = draft.content.evidence
    AnalysisFactory(image=ImageFactory(study=draft.study), has_failed=True)
    with pytest.raises(StaleDraftError):
        sign(draft, by=doctor, evidence=evidence)


@pytest.mark.parametrize("state", [{}, {"is_running": True}])
def test_nothing_is_signed_while_a_slice_is_being_analysed(draft, doctor, state):
    AnalysisFactory(image=ImageFactory(study=draft.study), **state)
    with pytest.raises(InvalidTransitionError, match="still being analysed"):
        sign(draft, by=doctor)


def test_a_slice_that_failed_does_not_stop_the_signature_and_is_told(draft, doctor):
    AnalysisFactory(image=ImageFactory(study=draft.study), has_failed=True)
    draft.refresh_from_db()
    sign(draft, by=doctor)
    assert [slice_.analysis is None for slice_ in draft.content.slices] == [False, True]


def test_only_a_doctor_who_may_work_on_the_study_signs(draft, doctor):
    onlooker = DoctorFactory(hospital=doctor.hospital)
    grant_study(draft.study, to=onlooker, can_change=False)
    colleague_without_grant = DoctorFactory(hospital=doctor.hospital)
    for person in (onlooker, colleague_without_grant, DoctorFactory(), UserFactory(), draft.study.patient.user):
        with pytest.raises(PermissionDenied):
            sign(draft, by=person)
    assert Report.objects.get().state == Report.State.DRAFT


def test_a_colleague_who_may_work_on_the_study_signs_in_their_own_name(draft, doctor):
    colleague = DoctorFactory(hospital=doctor.hospital, given_name="Kim", family_name="Colleague")
    grant_study(draft.study, to=colleague, can_change=True)
    sign(draft, by=colleague)
    assert draft.signed_by == colleague
    assert draft.content.signature.name == "Kim Colleague"


def test_the_content_must_carry_the_signers_own_signature(draft, doctor):
    Opening.objects.note(draft, doctor=doctor)
    with pytest.raises(ValueError, match="signature"):
        draft.sign(by=doctor, revision=draft.revision, content=draft.content, pdf=b"%PDF-")


def test_of_two_signatures_the_second_gets_a_sentence_and_leaves_no_file(draft, doctor, settings, monkeypatch):
    colleague = DoctorFactory(hospital=doctor.hospital, given_name="Kim", family_name="Colleague")
    grant_study(draft.study, to=colleague, can_change=True)
    render, revision, evidence = signing.render_pdf, draft.revision, draft.content.evidence
    stored_before = stored_files(Path(settings.MEDIA_ROOT))
    for person in (doctor, colleague):
        Opening.objects.note(draft, doctor=person)

    def the_colleague_is_faster(*args, **kwargs):
        monkeypatch.setattr(signing, "render_pdf", render)
        sign_report(Report.objects.get(), by=colleague, revision=revision, evidence=evidence)
        return render(*args, **kwargs)

    monkeypatch.setattr(signing, "render_pdf", the_colleague_is_faster)
    with pytest.raises(InvalidTransitionError, match="Kim Colleague has signed this report already"):
        sign_report(draft, by=doctor, revision=revision, evidence=evidence)
    stored = Report.objects.get()
    assert stored.signed_by == colleague
    assert stored.verify().is_intact
    assert len(stored_files(Path(settings.MEDIA_ROOT)) - stored_before) == 1


def test_a_draft_that_changes_while_the_pdf_is_made_is_not_signed(draft, doctor, settings, monkeypatch):
    render, revision, evidence = signing.render_pdf, draft.revision, draft.content.evidence
    stored_before = stored_files(Path(settings.MEDIA_ROOT))
    Opening.objects.note(draft, doctor=doctor)

    def somebody_types(*args, **kwargs):
        Report.objects.get().edit(by=doctor, revision=revision, findings_text="Typed.", impression="Typed.")
        return render(*args, **kwargs)

    monkeypatch.setattr(signing, "render_pdf", somebody_types)
    with pytest.raises(StaleDraftError):
        sign_report(draft, by=doctor, revision=revision, evidence=evidence)
    assert Report.objects.get().impression == "Typed."
    assert stored_files(Path(settings.MEDIA_ROOT)) == stored_before


def test_a_failing_database_leaves_no_file(draft, doctor, settings, monkeypatch):
    stored_before = stored_files(Path(settings.MEDIA_ROOT))
    evidence = draft.content.evidence
    monkeypatch.setattr("reports.models.report.content_sha256", lambda _: "")
    with pytest.raises(IntegrityError), transaction.atomic():
        sign(draft, by=doctor, evidence=evidence)
    assert stored_files(Path(settings.MEDIA_ROOT)) == stored_before
    assert Report.objects.get().state == Report.State.DRAFT


def test_a_missing_picture_stops_the_signature_before_anything_is_stored(draft, doctor, settings):
    content = draft.content
    image = Image.objects.get()
    image.file.storage.delete(image.file.name)
    stored_before = stored_files(Path(settings.MEDIA_ROOT))
    with pytest.raises(PdfError):
        sign(draft, by=doctor, evidence=content.evidence)
    assert stored_files(Path(settings.MEDIA_ROOT)) == stored_before
    assert Report.objects.get().state == Report.State.DRAFT


@pytest.mark.django_db(transaction=True)
def test_two_doctors_in_two_threads_make_one_signature(draft, doctor, settings):
    colleague = DoctorFactory(hospital=doctor.hospital)
    grant_study(draft.study, to=colleague, can_change=True)
    revision, evidence = draft.revision, draft.content.evidence
    for person in (doctor, colleague):
        Opening.objects.note(draft, doctor=person)
    skip_where_threads_share_the_database()
    sentences, start = [], threading.Barrier(2)

    def try_it(person):
        try:
            report = Report.objects.get()
            start.wait(10)
            sign_report(report, by=person, revision=revision, evidence=evidence)
        except (InvalidTransitionError, StaleDraftError) as error:
            sentences.append(str(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=try_it, args=(person,)) for person in (doctor, colleague)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(sentences) == 1
    assert Report.objects.get().verify().is_intact
    assert len(list(Path(settings.MEDIA_ROOT).glob("reports/**/*.pdf"))) == 1


# --- release ----------------------------------------------------------------------------------------------------------


def test_a_release_grants_exactly_the_patient_and_tells_nothing_medical(signed, doctor, reader):
    release = release_report(signed, by=doctor, link=LINK)
    assert release.has_reader
    assert release.is_notified
    assert [(grant.user, grant.permission.codename) for grant in ReportUserObjectPermission.objects.all()] == [
        (reader, "view_report")
    ]
    assert list(Report.objects.visible_to(reader)) == [signed]
    (message,) = mail.outbox
    assert message.to == [reader.email]
    assert LINK in message.body
    told = f"{message.subject}\n{message.body}".lower()
    content = signed.content
    for word in ("ct", "chest", "carcinoma", "malignan", "report", "radiolog", "scan", content.patient.record_number):
        assert f" {word.lower()}" not in told.replace(LINK, "")
    assert content.hospital.name.lower() not in told


def test_before_the_release_the_patient_sees_nothing(draft, signed, reader):
    assert not Report.objects.visible_to(reader).exists()


def test_only_a_signed_report_is_released_and_only_once(draft, signed, doctor):
    with pytest.raises(InvalidTransitionError, match="signed report"):
        release_report(draft, by=doctor, link=LINK)
    release_report(signed, by=doctor, link=LINK)
    with pytest.raises(InvalidTransitionError):
        release_report(signed, by=doctor, link=LINK)
    assert len(mail.outbox) == 1


def test_only_a_doctor_who_may_work_on_the_study_releases(signed, doctor, reader):
    onlooker = DoctorFactory(hospital=doctor.hospital)
    grant_study(signed.study, to=onlooker, can_change=False)
    for person in (onlooker, DoctorFactory(), reader):
        with pytest.raises(PermissionDenied):
            release_report(signed, by=person, link=LINK)
    assert Report.objects.get().state == Report.State.SIGNED
    assert mail.outbox == []


def test_a_mail_server_that_is_down_undoes_no_release(signed, doctor, reader, settings, caplog):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", 9, 1
    release = release_report(signed, by=doctor, link=LINK)
    assert release.has_reader
    assert not release.is_notified
    assert Report.objects.get().state == Report.State.RELEASED
    assert reader.email not in caplog.text


def test_a_patient_without_log_in_gets_the_grant_when_claiming_the_record(doctor):
    report = ReportFactory(study=StudyFactory(created_by=doctor), is_signed=True)
    release = release_report(report, by=doctor, link=LINK)
    assert not release.has_reader
    assert mail.outbox == []
    newcomer = UserFactory()
    assert not Report.objects.visible_to(newcomer).exists()
    patient = report.study.patient
    assert patient.link_to(newcomer)
    assert grant_released_reports(patient) == 1
    assert grant_released_reports(patient) == 1
    assert list(Report.objects.visible_to(newcomer)) == [report]
    assert ReportUserObjectPermission.objects.count() == 1


def test_claiming_brings_neither_drafts_nor_signed_nor_other_patients_reports(doctor, reader, patient):
    for step in ({}, {"is_signed": True}):
        ReportFactory(study=StudyFactory(created_by=doctor, patient=patient), **step)
    ReportFactory(study=StudyFactory(created_by=doctor), is_released=True)
    assert grant_released_reports(patient) == 0
    assert not Report.objects.visible_to(reader).exists()


def test_a_grant_is_not_written_for_an_unreleased_report(signed):
    assert not grant_release(signed)
    assert not ReportUserObjectPermission.objects.exists()


def test_a_grant_alone_shows_no_report_of_somebody_else(released, doctor):
    released.study.patient.user = UserFactory()
    released.study.patient.save()
    assert not Report.objects.visible_to(ReportUserObjectPermission.objects.get().user).exists()


def test_deactivated_patients_and_foreign_doctors_see_nothing(released, reader):
    reader.deactivate()
    assert not Report.objects.visible_to(reader).exists()
    assert not Report.objects.visible_to(DoctorFactory()).exists()


# --- checking ---------------------------------------------------------------------------------------------------------


def test_a_draft_has_nothing_to_verify(draft):
    assert draft.verify().is_intact


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"impression": "Forged."}, "The text differs"),
        ({"findings_text": "Forged."}, "The text differs"),
        ({"content_sha256": "0" * 64}, "not the one whose hash"),
        ({"pdf_sha256": "0" * 64}, "PDF is missing"),
        ({"signed_content": {}}, "cannot be read"),
        ({"signed_content": {"format": 1}}, "cannot be read"),
        ({"signed_at": timezone.make_aware(timezone.datetime(2020, 1, 1))}, "Signer or time"),
    ],
)
def test_a_changed_row_is_noticed(signed, changes, sentence):
    Report.objects.filter(id=signed.id).update(**changes)
    verification = Report.objects.get().verify()
    assert not verification.is_intact
    assert sentence in " ".join(verification.problems)


def test_a_forged_signer_is_noticed(signed):
    Report.objects.filter(id=signed.id).update(signed_by=DoctorFactory())
    assert not Report.objects.get().verify().is_intact


def test_forged_words_inside_the_content_are_noticed(signed):
    signed.signed_content["impression"] = "Forged."
    Report.objects.filter(id=signed.id).update(signed_content=signed.signed_content, impression="Forged.")
    assert not Report.objects.get().verify().is_intact


@pytest.mark.parametrize("damage", ["append", "remove"])
def test_a_damaged_or_missing_pdf_is_noticed(signed, damage):
    if damage == "remove":
        signed.pdf.storage.delete(signed.pdf.name)
    else:
        with Path(signed.pdf.path).open("ab") as file:
            file.write(b"%")
    assert "PDF is missing" in " ".join(Report.objects.get().verify().problems)
    with pytest.raises(PdfError, match="damaged"):
        Report.objects.get().read_pdf()


def test_a_draft_has_no_pdf(draft):
    with pytest.raises(PdfError, match="no PDF yet"):
        draft.read_pdf()


def test_an_unknown_format_of_content_is_refused(signed):
    with pytest.raises(ValueError, match="format=4"):
        ReportContent.from_json(signed.signed_content | {"format": 4})


def test_content_survives_the_database_unchanged(signed):
    stored = Report.objects.get().signed_content
    assert ReportContent.from_json(stored).to_json() == stored
    assert Analysis.objects.get().finished_at == ReportContent.from_json(stored).slices[0].analysis.finished_at
