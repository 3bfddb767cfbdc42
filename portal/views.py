"""The door to the portal: sends everybody to the page where their work begins."""

from dataclasses import dataclass
from typing import Any

from django.db import models
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from reports.models import Report
from studies.models import Analysis, Handover, Study
from studies.worklist import ORDERS, UNREAD, UNREPORTED, awaiting_report, rows_for

SHOWN = 5
COUNTED_UP_TO = 100


@dataclass(frozen=True, kw_only=True)
class Errand:
    """One kind of work that awaits a doctor: how much of it, the first few, and where the rest is."""

    key: str
    label: str
    all_label: str
    none: str
    url: str
    count: int
    rows: tuple[Any, ...]

    @property
    def count_label(self) -> str:
        """The number, and beyond ``COUNTED_UP_TO`` that there are more; nobody needs to know how many more."""
        return f"{COUNTED_UP_TO}+" if self.count > COUNTED_UP_TO else str(self.count)


def home(request: HttpRequest) -> HttpResponse:
    """Show a doctor what awaits them; send a patient to the reports, an administrator to the administration."""
    user = request.user
    assert isinstance(user, User)
    if user.is_approved_doctor:
        context = {"errands": errands_of(user), "today": timezone.localdate()}
        return render(request, "portal/today.html", context)
    if user.is_patient:
        return redirect("reports:my_reports")
    if user.is_administrator and user.is_staff:
        return redirect("admin:index")
    return render(request, "portal/waiting.html")


def errands_of(doctor: User) -> tuple[Errand, ...]:
    """Return what awaits this doctor, most urgent first: new answers, failures, drafts, and what is to be released."""
    studies = Study.objects.visible_to(doctor)
    worklist, reports = reverse("studies:study_list"), reverse("reports:report_list")
    unread = studies.with_unread(doctor).filter(is_unread=True)  # type: ignore[misc] # annotated
    # What was opened and put aside is in none of the other lists.
    waiting = awaiting_report(Study.objects.changeable_by(doctor)).filter(reports=None)
    opened = waiting.with_unread(doctor).filter(is_unread=False)  # type: ignore[misc] # annotated
    drafts = Report.objects.visible_to(doctor).select_related("study__patient")

    def errand(rows: models.QuerySet[Any], **words: str) -> Errand:
        count = rows.order_by()[: COUNTED_UP_TO + 1].count()
        return Errand(count=count, rows=tuple(rows[:SHOWN]) if count else (), **words)

    return (
        errand(
            rows_for(doctor, unread).order_by(*ORDERS["triage"].fields),
            key="unread",
            label=_("Unread answers"),
            all_label=_("All unread answers"),
            none=_("You have opened every answer."),
            url=f"{worklist}?state={UNREAD}",
        ),
        errand(
            rows_for(doctor, opened).order_by(*ORDERS["triage"].fields),
            key="unreported",
            label=_("Opened, no report begun"),
            all_label=_("All that wait for a report"),
            none=_("Every study that you have opened has a report or a draft."),
            url=f"{worklist}?state={UNREPORTED}",
        ),
        errand(
            rows_for(doctor, studies.filter(state=Analysis.State.FAILED)).order_by(*ORDERS["newest"].fields),
            key="failed",
            label=_("Failed analyses"),
            all_label=_("All failed analyses"),
            none=_("No analysis has failed."),
            url=f"{worklist}?state=failed",
        ),
        errand(
            drafts.filter(state=Report.State.DRAFT).order_by("-created_at", "id"),
            key="draft",
            label=_("Drafts to finish and sign"),
            all_label=_("All drafts to finish and sign"),
            none=_("No draft is open."),
            url=f"{reports}?state=draft",
        ),
        errand(
            drafts.filter(state=Report.State.SIGNED, superseded_at=None).order_by("-created_at", "id"),
            key="signed",
            label=_("Signed, not yet released"),
            all_label=_("All signed, not yet released"),
            none=_("Nothing waits to be released."),
            url=f"{reports}?state=signed",
        ),
        errand(
            Handover.objects.waiting_for(doctor).select_related("study__patient"),
            key="handover",
            label=_("Patients who ask for a doctor"),
            all_label=_("All patients who ask for a doctor"),
            none=_("No patient waits for a doctor of your hospital."),
            url=reverse("studies:handover_list"),
        ),
    )
