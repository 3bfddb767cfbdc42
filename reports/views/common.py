"""What the pages of reports share: finding the report, and the facts that stand on every page of it."""

from typing import Any

from django.contrib import messages
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _

from accounts.models import AccessEvent, User
from reports.comparison import plots_of
from reports.forms import DraftForm
from reports.models import AutomaticReport, BulkJob, BulkLine, Report
from reports.pdf import unprintable_characters
from studies.worklist import next_to_report

PAGE_SIZE = 25


def visible_report(user: User, report_id: Any) -> Report:
    """Return the report, or answer 404 if this person may not see it."""
    visible = Report.objects.visible_to(user)
    people = ("signed_by", "released_by", "created_by", "edited_by")
    related = ("study__patient__hospital", "study__patient__user", "amends", *people)
    return get_object_or_404(visible.select_related(*related), id=report_id)


def impression_comes_first(request: HttpRequest, report: Report) -> HttpResponse:
    """Lead a doctor who has not noted a first impression of the study to where it is noted, and say why."""
    messages.info(request, _("Please note your first impression; then the draft is shown."))
    return redirect("studies:first_impression", report.study_id)


def detail_page(
    request: HttpRequest, report: Report, *, form: DraftForm | None, status: int = 200, **context: Any
) -> HttpResponse:
    """Show a report beside its pictures, with its versions and addenda; a draft with its editor."""
    content = report.content_for(request.user)
    can_change = report.can_be_changed_by(request.user)
    if report.is_signed and can_change and isinstance(request.user, User):
        context["next_study"] = next_to_report(request.user, behind=report.study, session=request.session)
    context |= {
        "report": report,
        "content": content,
        "plots": plots_of(content.examinations),
        "form": form,
        "can_change": can_change,
        "unprintable": "" if report.is_signed else unprintable(report),
        "verification": report.verify() if report.is_signed else None,
        "addenda": report.addenda.all(),
        "versions": Report.objects.filter(study=report.study_id).select_related("signed_by").order_by("-version"),
    }
    return render(request, "reports/report_detail.html", context, status=status)


def unprintable(report: Report) -> str:
    """Return the characters of the report's words that the PDF cannot print, for people to find them."""
    content = report.content
    texts = (
        content.patient.full_name,
        content.hospital.name,
        content.hospital.address,
        content.study.clinical_question,
        report.findings_text,
        report.impression,
        report.amendment_reason,
    )
    missing = unprintable_characters("".join(texts))
    # Invisible ones are named, because a direction mark would turn the sentence around that tells of it.
    return " ".join(character if character.isprintable() else f"U+{ord(character):04X}" for character in missing)


def patients_list_link(request: HttpRequest) -> str:
    """Return the address of the patient's list for an e-mail."""
    return request.build_absolute_uri(reverse("reports:my_reports"))


def way_back(request: HttpRequest, *, default: str) -> str:
    """Return the address of this site that a form names as ``next``, or ``default``."""
    wanted = request.POST.get("next", "")
    is_ours = url_has_allowed_host_and_scheme(wanted, allowed_hosts={request.get_host()}, require_https=False)
    return wanted if wanted.startswith("/") and is_ours else default


def finished_job(user: User, job_id: Any) -> BulkJob:
    """Return a job of this person whose archive is there, or answer 404."""
    job = get_object_or_404(BulkJob.objects.visible_to(user), id=job_id)
    if not job.has_archive:
        raise Http404
    return job


def archived_reports(job: BulkJob, *, user: User) -> list[Report] | None:
    """Return the reports in a job's archive; None if this person may not read every one of them any more."""
    wanted = set(job.lines.filter(state=BulkLine.State.DONE).values_list("report_id", flat=True))
    reports = list(Report.objects.visible_to(user).filter(id__in=wanted))
    return reports if len(reports) == len(wanted) else None


def archive_response(job: BulkJob, *, name: str) -> HttpResponse:
    """Return a job's archive as a download, or answer 404 where its file is gone."""
    try:
        file = job.archive.open("rb")
    except OSError as error:
        raise Http404 from error
    response: HttpResponse = private(
        FileResponse(file, as_attachment=True, filename=f"{name}-{job.queued_at:%Y-%m-%d}.zip")
    )
    return response


def note_archive(request: HttpRequest, job: BulkJob, *, reports: list[Report]) -> None:
    """Record everything in a job's archive as downloaded; of a patient's own data, also records and uploads."""
    user = job.requested_by
    targets: list[Any] = list(reports)
    note = ""
    if job.kind == BulkJob.Kind.MY_DATA:
        automatic = AutomaticReport.objects.visible_to(user).filter(made_at__lte=job.finished_at)
        targets = [*user.patient_records.all(), *reports, *automatic]
        note = "all my data"
    for target in targets:
        AccessEvent.record(request, action=AccessEvent.Action.DOWNLOADED, target=target, note=note)


def start_my_data(user: User) -> BulkJob:
    """Have the archive of a patient's own data made; an older archive is deleted for it. One at a time."""
    jobs = BulkJob.objects.visible_to(user)
    if (running := jobs.filter(state__in=BulkJob.ACTIVE).first()) is not None:
        return running
    jobs.remove_archives()
    reports = Report.objects.visible_to(user).select_related("study").order_by("released_at", "id")
    return BulkJob.objects.start(kind=BulkJob.Kind.MY_DATA, studies=[report.study for report in reports], by=user)


def private(response: Any) -> Any:
    """Keep a file out of every cache, and its type as sent."""
    response["Cache-Control"] = "private, no-store"
    response["X-Content-Type-Options"] = "nosniff"
    return response
