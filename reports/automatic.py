"""The automatic report on a patient's own upload: made from the software's answer alone, and marked as such."""

import uuid

from django.template.loader import render_to_string
from django.utils.translation import gettext_lazy

from reports.content import HospitalPart, PatientPart, ReportContent, StudyPart, collect_slices
from reports.explanation import explain
from reports.models import AutomaticReport
from reports.pdf import picture_sources, print_page, read_pictures
from studies.model_card import describe_model
from studies.models import Study

MARK = gettext_lazy("Automatic, not read by a doctor")
NOTICE = gettext_lazy("Automatic, not read by a doctor. Not a diagnosis; not a medical device.")


def automatic_report_of(study: Study) -> AutomaticReport | None:
    """Return the automatic report on an upload, making it where the answer is there; else None.

    Once a hospital has the study, none is made any more: what doctors do with it is theirs to release.
    """
    made = AutomaticReport.objects.filter(study=study).first()
    if made is not None or not study.is_own:
        return made
    content = _collect(study)
    return AutomaticReport.freeze(study, content=content) if content.analysed_slices else None


def render_automatic(report: AutomaticReport) -> bytes:
    """Return the PDF (A4) of an automatic report; the same report gives the same bytes.

    Raises ``PdfError`` where a picture is missing or has changed, or the PDF cannot be made.
    """
    content = report.content
    sources = picture_sources(read_pictures(content))
    context = {"content": content, "report": report, "explanation": explain(content), "mark": MARK}
    html = render_to_string("reports/automatic_pdf.html", context)
    return print_page(html, sources=sources, dated=report.made_at, name=str(report.pk))


def _collect(study: Study) -> ReportContent:
    patient = study.patient
    slices = collect_slices(study, is_final=True)
    versions = sorted({part.analysis.model_version for part in slices if part.analysis is not None})
    return ReportContent(
        report_id=str(uuid.uuid4()),
        hospital=HospitalPart(name="", department="", address="", phone=""),
        patient=PatientPart(
            record_number="",
            given_name=patient.given_name,
            family_name=patient.family_name,
            birth_date=patient.birth_date,
        ),
        study=StudyPart(
            id=str(study.id),
            accession_number="",
            study_date=study.study_date,
            clinical_question=study.clinical_question,
            is_synthetic=study.is_synthetic,
        ),
        slices=slices,
        models=tuple(describe_model(version) for version in versions),
        findings_text="",
        impression="",
        signature=None,
        notice=str(NOTICE),
    )
