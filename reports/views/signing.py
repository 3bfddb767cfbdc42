"""Signing, releasing, adding to and amending a report."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts.models import AccessEvent
from reports.comparison import plots_of
from reports.errors import InvalidTransitionError, PdfError, StaleDraftError, UnreadReportError
from reports.forms import AddendumForm, AmendForm, SignForm
from reports.models import Opening, Report
from reports.signing import release_report, sign_addendum, sign_report
from reports.views.common import impression_comes_first, patients_list_link, unprintable, visible_report
from studies.access import current_user, doctors_only

Action = AccessEvent.Action


@never_cache
@require_http_methods(["GET", "POST"])
@doctors_only
def report_sign(request: HttpRequest, report_id: Any) -> HttpResponse:
    """Show exactly what will be signed, and sign it once the doctor has confirmed having read it."""
    user = current_user(request)
    report = visible_report(user, report_id)
    if not report.can_be_changed_by(user):
        return render(request, "403.html", status=403)
    if not report.is_signed and not report.study.reveals_ai_to(user):
        return impression_comes_first(request, report)
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
        return _sign_page(request, report, form=_sign_form(request, report))
    form = SignForm(request.POST)
    if not form.is_valid():
        return _sign_page(request, report, form=form, status=400)
    data = form.cleaned_data
    try:
        sign_report(report, by=user, revision=data["revision"], evidence=data["evidence"])
    except (StaleDraftError, UnreadReportError, InvalidTransitionError, PdfError) as error:
        report.refresh_from_db()
        if report.is_signed:
            messages.error(request, str(error))
            return redirect("reports:report_detail", report.id)
        # A fresh form: the doctor confirms anew what is on the page now.
        return _sign_page(request, report, form=_sign_form(request, report), problem=str(error), status=409)
    AccessEvent.record(request, action=Action.SIGNED, target=report)
    if "release" in request.POST:
        return _release(request, report)
    messages.success(
        request, _("The report is signed and can no longer be changed. Release it to let the patient read it.")
    )
    return redirect("reports:report_detail", report.id)


@require_POST
@doctors_only
def report_release(request: HttpRequest, report_id: Any) -> HttpResponse:
    """Let the patient read a signed report."""
    user = current_user(request)
    report = visible_report(user, report_id)
    if not report.can_be_changed_by(user):
        return render(request, "403.html", status=403)
    return _release(request, report)


def _release(request: HttpRequest, report: Report) -> HttpResponse:
    try:
        release = release_report(report, by=current_user(request), link=patients_list_link(request))
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


@never_cache
@require_http_methods(["GET", "POST"])
@doctors_only
def report_addendum(request: HttpRequest, report_id: Any) -> HttpResponse:
    """Add a signed remark to a signed report, which itself stays as it is."""
    user = current_user(request)
    report = visible_report(user, report_id)
    if not report.can_be_changed_by(user):
        return render(request, "403.html", status=403)
    if not report.can_be_supplemented:
        messages.info(request, _("Only a signed report that is in force can get an addendum."))
        return redirect("reports:report_detail", report.id)
    form = AddendumForm(request.POST or None)
    problem, status = "", 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            try:
                sign_addendum(report, by=user, text=form.cleaned_data["text"], link=patients_list_link(request))
            except (InvalidTransitionError, PdfError) as error:
                problem, status = str(error), 409
            else:
                AccessEvent.record(request, action=Action.SIGNED, target=report)
                messages.success(request, _("The addendum is signed and stands under the report."))
                return redirect("reports:report_detail", report.id)
    context = {"report": report, "content": report.content, "form": form, "problem": problem}
    return render(request, "reports/report_addendum.html", context, status=status)


@never_cache
@require_http_methods(["GET", "POST"])
@doctors_only
def report_amend(request: HttpRequest, report_id: Any) -> HttpResponse:
    """Ask for the reason of an amendment, and open the draft of the next version."""
    user = current_user(request)
    report = visible_report(user, report_id)
    if not report.can_be_changed_by(user):
        return render(request, "403.html", status=403)
    if (following := report.next_version) is not None:
        # Also the second click on the button: the amendment is there, so it is opened.
        return redirect("reports:report_detail", following.id)
    if not report.can_be_amended:
        messages.info(request, _("Only a signed report that is in force can be amended."))
        return redirect("reports:report_detail", report.id)
    form = AmendForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            amendment = report.amend(by=user, reason=form.cleaned_data["reason"])
        except InvalidTransitionError as error:
            messages.error(request, str(error))
            return redirect("reports:report_detail", report.id)
        AccessEvent.record(request, action=Action.CREATED, target=amendment)
        return redirect("reports:report_detail", amendment.id)
    context = {"report": report, "content": report.content, "form": form}
    return render(request, "reports/report_amend.html", context, status=400 if request.method == "POST" else 200)


def _sign_form(request: HttpRequest, report: Report) -> SignForm:
    return SignForm(initial={"revision": report.revision, "evidence": report.content_for(request.user).evidence})


def _sign_page(
    request: HttpRequest, report: Report, *, form: SignForm, problem: str = "", status: int = 200
) -> HttpResponse:
    # Whatever brought the doctor here: from now on this text has been on the screen.
    Opening.objects.note(report, doctor=request.user)
    content = report.content_for(request.user)
    context = {
        "report": report,
        "content": content,
        "plots": plots_of(content.examinations),
        "form": form,
        "problem": problem,
        "unprintable": unprintable(report),
    }
    return render(request, "reports/report_sign.html", context, status=status)
