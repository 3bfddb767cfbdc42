"""Pages of reports: the doctor's drafts and releases, the patient's reading, and the files that belong to them."""

import copy
from typing import Any

from django.contrib import messages
from django.core.files import File
from django.core.paginator import Paginator
from django.db import models
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.models import AccessEvent, User
from reports.drafting import draft_report
from reports.errors import InvalidTransitionError, NothingToReportError, PdfError, ReportExistsError, StaleDraftError
from reports.explanation import explain
from reports.forms import DraftForm, SignForm
from reports.models import Report
from reports.pdf import unprintable_characters
from reports.signing import release_report, sign_report
from studies.access import current_user, doctors_only, patients_only
from studies.models import Analysis, Image, Study

PAGE_SIZE = 25
Action = AccessEvent.Action


@never_cache
@require_GET
@doctors_only
def report_list(request: HttpRequest) -> HttpResponse:
    """List a doctor's reports by state: drafts to finish, signed ones to release, released ones."""
    user = current_user(request)
    visible = Report.objects.visible_to(user)
    counts = dict(visible.order_by().values_list("state").annotate(count=models.Count("id")))
    state = request.GET.get("state", "")
    if state not in Report.State.values:
        # What waits for the doctor comes first: drafts, then what is signed and not released.
        state = next((s for s in (Report.State.DRAFT, Report.State.SIGNED) if counts.get(s)), Report.State.DRAFT).value
    reports = visible.filter(state=state).select_related("study__patient", "signed_by", "created_by", "edited_by")
    tabs = [
        {"state": value, "label": label, "count": counts.get(value, 0), "is_current": value == state}
        for value, label in (
            (Report.State.DRAFT.value, _("Drafts")),
            (Report.State.SIGNED.value, _("To release")),
            (Report.State.RELEASED.value, _("Released")),
        )
    ]
    page = Paginator(reports, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "reports/report_list.html", {"page": page, "tabs": tabs, "state": state})


@require_POST
@doctors_only
def report_create(request: HttpRequest, study_id: Any) -> HttpResponse:
    """Have the draft of a study's report written, and open it."""
    user = current_user(request)
    study = get_object_or_404(Study.objects.visible_to(user), id=study_id)
    if not study.can_be_changed_by(user):
        return render(request, "403.html", status=403)
    try:
        report = draft_report(study, by=user)
    except ReportExistsError as error:
        messages.info(request, str(error))
        return redirect("reports:report_detail", Report.objects.get(study=study).id)
    except NothingToReportError as error:
        messages.error(request, str(error))
        return redirect("studies:study_detail", study.id)
    AccessEvent.record(request, action=Action.CREATED, target=report)
    return redirect("reports:report_detail", report.id)


@never_cache
@require_http_methods(["GET", "POST"])
def report_detail(request: HttpRequest, report_id: Any) -> HttpResponse:
    """Show a report beside its pictures; a draft can be edited there by whoever may change it."""
    user = current_user(request)
    report = _visible_report(user, report_id)
    if user.is_patient:
        return redirect("reports:my_report", report.id)
    can_change = report.can_be_changed_by(user)
    if request.method == "POST":
        if not can_change:
            return render(request, "403.html", status=403)
        return _save_draft(request, report)
    AccessEvent.record(request, action=Action.VIEWED, target=report)
    form = _draft_form(report) if report.can_be_edited and can_change else None
    return _detail_page(request, report, form=form)


@never_cache
@require_http_methods(["GET", "POST"])
@doctors_only
def report_sign(request: HttpRequest, report_id: Any) -> HttpResponse:
    """Show exactly what will be signed, and sign it once the doctor has confirmed having read it."""
    user = current_user(request)
    report = _visible_report(user, report_id)
    if not report.can_be_changed_by(user):
        return render(request, "403.html", status=403)
    if not report.can_be_signed:
        sentence = (
            _("This report is signed already.")
            if report.is_signed
            else _("Please write the impression first; then the report can be signed.")
        )
        messages.info(request, sentence)
        return redirect("reports:report_detail", report.id)
    if request.method == "GET":
        AccessEvent.record(request, action=Action.VIEWED, target=report)
        return _sign_page(request, report, form=_sign_form(report))
    form = SignForm(request.POST)
    if not form.is_valid():
        return _sign_page(request, report, form=form, status=400)
    data = form.cleaned_data
    try:
        sign_report(report, by=user, revision=data["revision"], evidence=data["evidence"])
    except (StaleDraftError, InvalidTransitionError, PdfError) as error:
        report.refresh_from_db()
        if report.is_signed:
            messages.error(request, str(error))
            return redirect("reports:report_detail", report.id)
        # A fresh form: the doctor confirms anew what is on the page now.
        return _sign_page(request, report, form=_sign_form(report), problem=str(error), status=409)
    AccessEvent.record(request, action=Action.SIGNED, target=report)
    messages.success(
        request, _("The report is signed and can no longer be changed. Release it to let the patient read it.")
    )
    return redirect("reports:report_detail", report.id)


@require_POST
@doctors_only
def report_release(request: HttpRequest, report_id: Any) -> HttpResponse:
    """Let the patient read a signed report."""
    user = current_user(request)
    report = _visible_report(user, report_id)
    if not report.can_be_changed_by(user):
        return render(request, "403.html", status=403)
    link = request.build_absolute_uri(reverse("reports:my_reports"))
    try:
        release = release_report(report, by=user, link=link)
    except InvalidTransitionError as error:
        messages.error(request, str(error))
        return redirect("reports:report_detail", report.id)
    AccessEvent.record(request, action=Action.RELEASED, target=report)
    if not release.has_reader:
        messages.success(
            request,
            _("The report is released. The patient has no log-in yet and will see it after claiming their record."),
        )
    elif release.is_notified:
        messages.success(request, _("The report is released. The patient can read it now and was told by e-mail."))
    else:
        messages.warning(
            request,
            _("The report is released, but the e-mail to the patient could not be sent. Please tell them yourself."),
        )
    return redirect("reports:report_detail", report.id)


@require_GET
def report_pdf(request: HttpRequest, report_id: Any) -> HttpResponse:
    """Send the PDF of a signed report, after comparing it with the hash that was recorded at the signature."""
    report = _visible_report(current_user(request), report_id)
    if not report.is_signed:
        raise Http404
    try:
        pdf = report.read_pdf()
    except PdfError as error:
        return render(request, "reports/pdf_damaged.html", {"problem": str(error)}, status=500)
    AccessEvent.record(request, action=Action.DOWNLOADED, target=report)
    response = HttpResponse(pdf, content_type="application/pdf")
    response["Content-Disposition"] = f'attachment; filename="report-{report.content.study.study_date:%Y-%m-%d}.pdf"'
    return _private(response)


@require_GET
def report_slice(request: HttpRequest, report_id: Any, number: int) -> HttpResponse:
    """Send one slice of a report, as taken."""
    report = _visible_report(current_user(request), report_id)
    slice_ = report.content.slice_of(number)
    if slice_ is None:
        raise Http404
    image = get_object_or_404(Image, id=slice_.image_id)
    return _picture(request, report, image.file)


@require_GET
def report_overlay(request: HttpRequest, report_id: Any, number: int) -> HttpResponse:
    """Send one slice of a report with the outlined regions drawn."""
    report = _visible_report(current_user(request), report_id)
    slice_ = report.content.slice_of(number)
    if slice_ is None or slice_.analysis is None:
        raise Http404
    analysis = get_object_or_404(Analysis, id=slice_.analysis.id)
    return _picture(request, report, analysis.overlay)


@never_cache
@require_GET
@patients_only
def my_reports(request: HttpRequest) -> HttpResponse:
    """List the reports that were released to whoever is logged in."""
    user = current_user(request)
    reports = Report.objects.visible_to(user).select_related("signed_by").order_by("-released_at", "id")
    page = Paginator(reports, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "reports/my_reports.html", {"page": page})


@never_cache
@require_GET
@patients_only
def my_report(request: HttpRequest, report_id: Any) -> HttpResponse:
    """Show a released report to its patient: the doctor's words, and what they mean."""
    user = current_user(request)
    report = _visible_report(user, report_id)
    AccessEvent.record(request, action=Action.VIEWED, target=report)
    context = {"report": report, "content": report.content, "explanation": explain(report.content)}
    return render(request, "reports/my_report.html", context)


def _visible_report(user: User, report_id: Any) -> Report:
    visible = Report.objects.visible_to(user)
    people = ("signed_by", "released_by", "created_by", "edited_by")
    related = ("study__patient__hospital", "study__patient__user", *people)
    return get_object_or_404(visible.select_related(*related), id=report_id)


def _draft_form(report: Report) -> DraftForm:
    return DraftForm(instance=report, initial={"revision": report.revision})


def _sign_form(report: Report) -> SignForm:
    return SignForm(initial={"revision": report.revision, "evidence": report.content.evidence})


def _save_draft(request: HttpRequest, report: Report) -> HttpResponse:
    # The form validates a copy: a refused text must not stand on the report that the page is made of.
    form = DraftForm(request.POST, instance=copy.copy(report))
    is_autosave = bool(getattr(request, "htmx", False))
    if not form.is_valid():
        if is_autosave:
            return _autosave_status(request, report, problem=_("Not saved yet: please see what the fields say."))
        return _detail_page(request, report, form=form, status=400)
    data = form.cleaned_data
    text = {"findings_text": data["findings_text"], "impression": data["impression"]}
    is_changed = any(getattr(report, name) != value for name, value in text.items())
    try:
        # A second click on "save" brings the text that is stored already: nothing to do, and no conflict.
        if is_changed or not report.can_be_edited:
            report.edit(by=request.user, revision=data["revision"], **text)
            AccessEvent.record(request, action=Action.CHANGED, target=report)
    except InvalidTransitionError as error:
        if is_autosave:
            return _autosave_status(request, report, problem=str(error))
        return _detail_page(request, report, form=None, problem=str(error), unsaved=text, status=409)
    except StaleDraftError as error:
        if is_autosave:
            problem = _(
                "Somebody has saved another text meanwhile. Nothing was overwritten: save to compare both texts."
            )
            return _autosave_status(request, report, problem=problem, revision=data["revision"])
        conflict = DraftForm(initial=text | {"revision": report.revision})
        return _detail_page(request, report, form=conflict, problem=str(error), is_conflict=True, status=409)
    if is_autosave:
        return _autosave_status(request, report)
    if "sign" in request.POST:
        return redirect("reports:report_sign", report.id)
    messages.success(request, _("The draft is saved."))
    return redirect("reports:report_detail", report.id)


def _autosave_status(
    request: HttpRequest, report: Report, *, problem: str = "", revision: int | None = None
) -> HttpResponse:
    # Status 200 also for a problem: htmx shows nothing else, and the text stays in the form either way. A stale form
    # keeps its old revision, so that the next real save asks the doctor to compare.
    context = {"report": report, "problem": problem, "revision": revision or report.revision}
    return render(request, "reports/_draft_status.html", context)


def _detail_page(
    request: HttpRequest, report: Report, *, form: DraftForm | None, status: int = 200, **context: Any
) -> HttpResponse:
    can_change = report.can_be_changed_by(request.user)
    content = report.content
    context |= {
        "report": report,
        "content": content,
        "form": form,
        "can_change": can_change,
        "unprintable": "" if report.is_signed else _unprintable(report),
        "verification": report.verify() if report.is_signed else None,
    }
    return render(request, "reports/report_detail.html", context, status=status)


def _sign_page(
    request: HttpRequest, report: Report, *, form: SignForm, problem: str = "", status: int = 200
) -> HttpResponse:
    context = {
        "report": report,
        "content": report.content,
        "form": form,
        "problem": problem,
        "unprintable": _unprintable(report),
    }
    return render(request, "reports/report_sign.html", context, status=status)


def _unprintable(report: Report) -> str:
    content = report.content
    texts = (
        content.patient.full_name,
        content.hospital.name,
        content.hospital.address,
        content.study.clinical_question,
        report.findings_text,
        report.impression,
    )
    missing = unprintable_characters("".join(texts))
    # Invisible ones are named, because a direction mark would turn the sentence around that tells of it.
    return " ".join(character if character.isprintable() else f"U+{ord(character):04X}" for character in missing)


def _picture(request: HttpRequest, report: Report, stored: Any) -> HttpResponse:
    try:
        file: File = stored.open("rb")
    except (OSError, ValueError) as error:
        raise Http404 from error
    AccessEvent.record(request, action=Action.VIEWED, target=report)
    return _private(FileResponse(file, content_type="image/png"))


def _private(response: Any) -> Any:
    response["Cache-Control"] = "private, no-store"
    response["X-Content-Type-Options"] = "nosniff"
    return response
