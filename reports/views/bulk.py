"""Many studies at once: start a job, watch its lines, fetch its archive. There is no page that signs many reports."""

import uuid
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from reports.models import BulkJob, BulkLine
from reports.views.common import archive_response, archived_reports, finished_job, note_archive
from studies.access import current_user, doctors_only
from studies.models import Study

MAX_STUDIES = 400


@require_POST
@doctors_only
def bulk_draft(request: HttpRequest) -> HttpResponse:
    """Have the drafts of many studies written in the background."""
    return _start(request, kind=BulkJob.Kind.DRAFT)


@require_POST
@doctors_only
def bulk_pdf(request: HttpRequest) -> HttpResponse:
    """Have the PDFs of many signed reports put into one archive in the background."""
    return _start(request, kind=BulkJob.Kind.PDF)


@never_cache
@require_GET
@doctors_only
def bulk_job(request: HttpRequest, job_id: Any) -> HttpResponse:
    """Show how far a job is: one line a study, done or skipped because of a reason."""
    user = current_user(request)
    job = get_object_or_404(BulkJob.objects.visible_to(user), id=job_id)
    lines = list(job.lines.select_related("study__patient", "report").order_by("number"))
    visible = set(
        Study.objects.visible_to(user).filter(id__in=[line.study_id for line in lines]).values_list("id", flat=True)
    )
    finished = sum(line.state != BulkLine.State.WAITING for line in lines)
    context = {
        "job": job,
        "rows": [{"line": line, "is_visible": line.study_id in visible} for line in lines],
        "count": len(lines),
        "finished": finished,
        "skipped": sum(line.state == BulkLine.State.SKIPPED for line in lines),
        "done": sum(line.state == BulkLine.State.DONE for line in lines),
    }
    return render(request, "reports/bulk_job.html", context)


@require_GET
@doctors_only
def bulk_archive(request: HttpRequest, job_id: Any) -> HttpResponse:
    """Send the archive of a job, if its doctor may still read every report in it; each is recorded as downloaded."""
    user = current_user(request)
    job = finished_job(user, job_id)
    reports = archived_reports(job, user=user)
    if reports is None:
        messages.error(
            request, _("You can no longer see every report in this archive. Please choose the studies again.")
        )
        return redirect("reports:bulk_job", job.id)
    response = archive_response(job, name="reports")
    note_archive(request, job, reports=reports)
    return response


def _start(request: HttpRequest, *, kind: str) -> HttpResponse:
    user = current_user(request)
    wanted = list(dict.fromkeys(filter(None, (_uuid(text) for text in request.POST.getlist("studies")))))
    if not wanted:
        messages.info(request, _("Please choose at least one study first."))
        return redirect("studies:study_list")
    if len(wanted) > MAX_STUDIES:
        messages.error(
            request, _("At most %(count)d studies go at once. Please choose fewer.") % {"count": MAX_STUDIES}
        )
        return redirect("studies:study_list")
    visible = Study.objects.visible_to(user).in_bulk(wanted)
    if not visible:
        raise Http404
    job = BulkJob.objects.start(kind=kind, studies=[visible[key] for key in wanted if key in visible], by=user)
    if missing := len(wanted) - len(visible):
        messages.warning(
            request,
            ngettext(
                "%(count)d of the chosen studies can no longer be seen and was left out.",
                "%(count)d of the chosen studies can no longer be seen and were left out.",
                missing,
            )
            % {"count": missing},
        )
    return redirect("reports:bulk_job", job.id)


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
