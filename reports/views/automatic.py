"""The automatic report on a patient's own upload: page, PDF and picture, each marked as read by no doctor."""

from typing import Any

from django.core.files import File
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.models import AccessEvent, User
from reports.automatic import MARK, automatic_report_of, render_automatic
from reports.errors import PdfError
from reports.explanation import explain
from reports.models import AutomaticReport
from reports.views.common import private
from studies.access import current_user, own_study, patients_only
from studies.models import Analysis


@never_cache
@require_safe
@patients_only
def automatic_report(request: HttpRequest, study_id: Any) -> HttpResponse:
    """Show what the software says about an upload; before there is an answer, lead to the page that waits for it."""
    study = own_study(current_user(request), study_id)
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


@require_safe
@patients_only
def automatic_pdf(request: HttpRequest, study_id: Any) -> HttpResponse:
    """Send the automatic report as a PDF."""
    report = own_report(current_user(request), study_id)
    try:
        return send_pdf(request, report)
    except PdfError as error:
        return render(request, "reports/pdf_damaged.html", {"problem": str(error)}, status=500)


@require_safe
@patients_only
def automatic_overlay(request: HttpRequest, study_id: Any) -> HttpResponse:
    """Send the slice with what the software outlined, as the frozen report names it."""
    report = own_report(current_user(request), study_id)
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


def send_pdf(request: HttpRequest, report: AutomaticReport) -> HttpResponse:
    """Make the PDF, record that it was downloaded, and send it. Raises ``PdfError`` where it cannot be made."""
    pdf = render_automatic(report)
    AccessEvent.record(request, action=AccessEvent.Action.DOWNLOADED, target=report)
    response = HttpResponse(pdf, content_type="application/pdf")
    response["Content-Disposition"] = f'attachment; filename="automatic-report-{report.made_at:%Y-%m-%d}.pdf"'
    sent: HttpResponse = private(response)
    return sent


def own_report(user: User, study_id: Any) -> AutomaticReport:
    """Return the automatic report on an upload of this patient's, or answer 404 where there is none (yet)."""
    report = automatic_report_of(own_study(user, study_id))
    if report is None:
        raise Http404
    return report
