"""The automatic report on a patient's own upload: page, PDF and picture, each marked as read by no doctor."""

from typing import Any

from django.core.files import File
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts.models import AccessEvent
from reports.automatic import MARK, automatic_report_of, render_automatic
from reports.errors import PdfError
from reports.explanation import explain
from reports.models import AutomaticReport
from reports.views.common import private
from studies.access import current_user, patients_only
from studies.models import Analysis, Study


@never_cache
@require_GET
@patients_only
def automatic_report(request: HttpRequest, study_id: Any) -> HttpResponse:
    """Show what the software says about an upload; before there is an answer, lead to the page that waits for it."""
    studies = Study.objects.uploaded_by(current_user(request)).select_related("patient")
    study = get_object_or_404(studies, id=study_id)
    report = automatic_report_of(study)
    if report is None:
        return redirect("studies:own_study", study_id=study.id)
    AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=report)
    context = {
        "study": study,
        "report": report,
        "content": report.content,
        "explanation": explain(report.content),
        "mark": MARK,
    }
    return render(request, "reports/automatic_report.html", context)


@require_GET
@patients_only
def automatic_pdf(request: HttpRequest, study_id: Any) -> HttpResponse:
    """Send the automatic report as a PDF."""
    report = _frozen(request, study_id)
    try:
        pdf = render_automatic(report)
    except PdfError as error:
        return render(request, "reports/pdf_damaged.html", {"problem": str(error)}, status=500)
    AccessEvent.record(request, action=AccessEvent.Action.DOWNLOADED, target=report)
    response = HttpResponse(pdf, content_type="application/pdf")
    response["Content-Disposition"] = f'attachment; filename="automatic-report-{report.made_at:%Y-%m-%d}.pdf"'
    sent: HttpResponse = private(response)
    return sent


@require_GET
@patients_only
def automatic_overlay(request: HttpRequest, study_id: Any) -> HttpResponse:
    """Send the slice with what the software outlined, as the frozen report names it."""
    report = _frozen(request, study_id)
    part = report.content.analysed_slices[0].analysis
    assert part is not None  # noqa: S101 - narrows the type: these slices have an answer
    analysis = get_object_or_404(Analysis, id=part.id)
    try:
        file: File = analysis.overlay.open("rb")
    except (OSError, ValueError) as error:
        raise Http404 from error
    AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=report)
    response: HttpResponse = private(FileResponse(file, content_type="image/png"))
    return response


def _frozen(request: HttpRequest, study_id: Any) -> AutomaticReport:
    return get_object_or_404(AutomaticReport.objects.visible_to(current_user(request)), study_id=study_id)
