"""The files of a report: its PDF and its pictures. They leave only here: checked, recorded, never cached."""

from typing import Any

from django.core.files import File
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from accounts.models import AccessEvent
from reports.copies import copy_of
from reports.drawing import outlined_picture
from reports.errors import PdfError
from reports.models import Report
from reports.views.common import private, visible_report
from studies.access import current_user
from studies.models import Image

Action = AccessEvent.Action


@require_GET
def report_pdf(request: HttpRequest, report_id: Any) -> HttpResponse:
    """Send the PDF of a signed report with its addenda, after comparing each part with the hash of its signature.

    The PDF of a superseded version says so on every page.
    """
    report = visible_report(current_user(request), report_id)
    if not report.is_signed:
        raise Http404
    try:
        copy = copy_of(report)
    except PdfError as error:
        return render(request, "reports/pdf_damaged.html", {"problem": str(error)}, status=500)
    AccessEvent.record(request, action=Action.DOWNLOADED, target=report)
    response = HttpResponse(copy.pdf, content_type="application/pdf")
    response["Content-Disposition"] = f'attachment; filename="{copy.name}"'
    return private(response)


@require_GET
def report_slice(request: HttpRequest, report_id: Any, number: int) -> HttpResponse:
    """Send one slice of a report, as taken."""
    report = visible_report(current_user(request), report_id)
    picture = stored_slice(report, number)
    AccessEvent.record(request, action=Action.VIEWED, target=report)
    return picture


@require_GET
def report_overlay(request: HttpRequest, report_id: Any, number: int) -> HttpResponse:
    """Send one slice of a report with the outlined regions drawn."""
    report = visible_report(current_user(request), report_id)
    if not report.is_signed and not report.study.reveals_ai_to(request.user):
        raise Http404
    picture = stored_overlay(report, number)
    AccessEvent.record(request, action=Action.VIEWED, target=report)
    return picture


def stored_slice(report: Report, number: int) -> HttpResponse:
    """Return the picture of one slice of a report as an answer, or 404. Whether it may be seen is the caller's."""
    slice_ = report.content.slice_of(number)
    if slice_ is None:
        raise Http404
    return _picture(get_object_or_404(Image, id=slice_.image_id).file)


def stored_overlay(report: Report, number: int) -> HttpResponse:
    """Return one slice with the outlined regions as an answer, or 404. Whether it may be seen is the caller's."""
    slice_ = report.content.slice_of(number)
    if slice_ is None or not slice_.is_pictured:
        raise Http404
    try:
        png = outlined_picture(slice_)
    except (LookupError, OSError, ValueError) as error:
        raise Http404 from error
    answer: HttpResponse = private(HttpResponse(png, content_type="image/png"))
    return answer


def _picture(stored: Any) -> HttpResponse:
    try:
        file: File = stored.open("rb")
    except (OSError, ValueError) as error:
        raise Http404 from error
    response: HttpResponse = private(FileResponse(file, content_type="image/png"))
    return response
