"""A patient downloads everything: asks for the archive, waits while it is made, fetches it."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from reports.models import BulkJob, Report
from reports.views.common import archive_response, archived_reports, finished_job, note_archive, start_my_data
from studies.access import current_user, patients_only
from studies.models import Study


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@patients_only
def my_data(request: HttpRequest) -> HttpResponse:
    """Show what the archive holds and how far it is; have one made. An older archive is deleted for the new one."""
    user = current_user(request)
    jobs = BulkJob.objects.visible_to(user)
    reports = Report.objects.visible_to(user)
    if request.method == "POST":
        start_my_data(user)
        return redirect("reports:my_data")
    context = {
        "job": jobs.order_by("-queued_at", "id").first(),
        "report_count": reports.count(),
        "upload_count": Study.objects.uploaded_by(user).count(),
    }
    return render(request, "reports/my_data.html", context)


@require_GET
@patients_only
def my_data_archive(request: HttpRequest, job_id: Any) -> HttpResponse:
    """Send the archive, if everything in it may still be read; each report, upload and record in it is recorded."""
    user = current_user(request)
    job = finished_job(user, job_id)
    reports = archived_reports(job, user=user)
    if reports is None:
        messages.warning(request, _("A report was amended or withdrawn since. Please have the archive made again."))
        return redirect("reports:my_data")
    response = archive_response(job, name="my-data")
    note_archive(request, job, reports=reports)
    return response
