"""Lists of reports, and the patient's own page."""

from typing import Any

from django.core.paginator import Paginator
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts.models import AccessEvent, User
from reports.comparison import plots_of
from reports.explanation import explain
from reports.glossary import ENTRIES, drawn_entries
from reports.models import BulkJob, Report
from reports.views.common import PAGE_SIZE, visible_report
from studies.access import current_user, doctors_only, patients_only

SHOWN_JOBS = 5


@never_cache
@require_GET
@doctors_only
def report_list(request: HttpRequest) -> HttpResponse:
    """List a doctor's reports by state: drafts to finish, signed ones to release, released ones, superseded ones."""
    visible = Report.objects.visible_to(current_user(request))
    in_force = visible.filter(superseded_at__isnull=True)
    counts = dict(in_force.order_by().values_list("state").annotate(count=models.Count("id")))
    counts["superseded"] = visible.filter(superseded_at__isnull=False).count()
    state = request.GET.get("state", "")
    if state not in (*Report.State.values, "superseded"):
        # What waits for the doctor comes first: drafts, then what is signed and not released.
        state = next((s for s in (Report.State.DRAFT, Report.State.SIGNED) if counts.get(s)), Report.State.DRAFT).value
    reports = in_force.filter(state=state) if state != "superseded" else visible.filter(superseded_at__isnull=False)
    reports = reports.select_related("study__patient", "signed_by", "created_by", "edited_by")
    tabs = [
        {"state": value, "label": label, "count": counts.get(value, 0), "is_current": value == state}
        for value, label in (
            (Report.State.DRAFT.value, _("Drafts")),
            (Report.State.SIGNED.value, _("To release")),
            (Report.State.RELEASED.value, _("Released")),
            ("superseded", _("Superseded")),
        )
    ]
    page = Paginator(reports, PAGE_SIZE).get_page(request.GET.get("page"))
    jobs = BulkJob.objects.visible_to(current_user(request))[:SHOWN_JOBS]
    return render(request, "reports/report_list.html", {"page": page, "tabs": tabs, "state": state, "jobs": jobs})


@never_cache
@require_GET
@patients_only
def my_reports(request: HttpRequest) -> HttpResponse:
    """List the reports that were released to whoever is logged in."""
    user = current_user(request)
    reports = Report.objects.visible_to(user).select_related("signed_by").order_by("-released_at", "id")
    page = Paginator(reports, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "reports/my_reports.html", {"page": page, "amended": unread_amendments(user)})


@require_GET
def glossary(request: HttpRequest) -> HttpResponse:
    """Explain the words of reports, with drawings."""
    return render(request, "reports/glossary.html", {"drawings": drawn_entries(), "entries": ENTRIES})


def unread_amendments(user: User) -> list[Report]:
    """Return the amended reports that this patient has neither opened nor downloaded yet, newest first."""
    amended = list(Report.objects.visible_to(user).filter(version__gt=1).order_by("-released_at", "id"))
    opened = AccessEvent.objects.filter(
        actor=user,
        target_type=Report._meta.label_lower,
        target_id__in=[report.pk for report in amended],
        action__in=(AccessEvent.Action.VIEWED, AccessEvent.Action.DOWNLOADED),
    )
    known = set(opened.values_list("target_id", flat=True))
    return [report for report in amended if report.pk not in known]


@never_cache
@require_GET
@patients_only
def my_report(request: HttpRequest, report_id: Any) -> HttpResponse:
    """Show a released report to its patient: the doctor's words, and what they mean.

    The address of a version that was amended since leads to the newest one.
    """
    user = current_user(request)
    try:
        report = visible_report(user, report_id)
    except Http404:
        newest = Report.objects.visible_to(user).filter(study__reports=report_id).first()
        if newest is None:
            raise
        return redirect("reports:my_report", newest.id)
    AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=report)
    content = report.content
    context = {
        "report": report,
        "content": content,
        "explanation": explain(content),
        "addenda": report.addenda.all(),
        "plots": plots_of(content.examinations),
    }
    return render(request, "reports/my_report.html", context)
