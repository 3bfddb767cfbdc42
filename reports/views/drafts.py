"""Drafts: having one written, editing it while it saves itself, and what happens when two doctors do so at once."""

import copy
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.models import AccessEvent
from reports import keeping
from reports.drafting import discard_draft, draft_report, template_text
from reports.errors import (
    FirstImpressionMissingError,
    InvalidTransitionError,
    NothingToReportError,
    ReportExistsError,
    StaleDraftError,
)
from reports.forms import DiscardForm, DraftForm
from reports.merging import merged
from reports.models import Opening, Report, ReportTemplate
from reports.views.common import detail_page, impression_comes_first, visible_report, way_back
from studies.access import current_user, doctors_only
from studies.models import Study

Action = AccessEvent.Action


@require_POST
@doctors_only
def report_create(request: HttpRequest, study_id: Any) -> HttpResponse:
    """Have the draft of a study's report written, from a template if one was chosen, and open it."""
    user = current_user(request)
    study = get_object_or_404(Study.objects.visible_to(user), id=study_id)
    if not study.can_be_changed_by(user):
        return render(request, "403.html", status=403)
    template = ReportTemplate.objects.chosen(request.POST.get("template"), by=user)
    try:
        report = draft_report(study, by=user, template=template)
    except ReportExistsError as error:
        existing = Report.objects.newest_of(study)
        if existing is None:
            raise Http404 from error
        if existing.created_by_id != user.pk:
            messages.info(
                request,
                _("%(name)s has had the draft written already. Here it is.") % {"name": existing.created_by},
            )
        # Otherwise it was a second click on the button: the doctor gets what was asked for, and no lecture.
        return redirect(way_back(request, default=reverse("reports:report_detail", args=[existing.id])))
    except FirstImpressionMissingError as error:
        messages.info(request, str(error))
        return redirect("studies:first_impression", study.id)
    except NothingToReportError as error:
        messages.error(request, str(error))
        return redirect("studies:study_detail", study.id)
    AccessEvent.record(request, action=Action.CREATED, target=report)
    return redirect(way_back(request, default=reverse("reports:report_detail", args=[report.id])))


@never_cache
@login_not_required
@require_http_methods(["GET", "POST"])
def report_detail(request: HttpRequest, report_id: Any) -> HttpResponse:
    """Show a report beside its pictures; a draft can be edited there by whoever may change it.

    A text that arrives after the session has ended is kept until its author has logged in again.
    """
    if not request.user.is_authenticated:
        return _without_session(request, report_id)
    user = current_user(request)
    report = visible_report(user, report_id)
    if user.is_patient:
        return redirect("reports:my_report", report.id)
    if request.method == "GET" and not report.is_signed and not report.study.reveals_ai_to(user):
        # A draft quotes the software; a signed report is a colleague's word and hides nothing.
        return impression_comes_first(request, report)
    can_change = report.can_be_changed_by(user)
    if request.method == "POST":
        if not can_change:
            return render(request, "403.html", status=403)
        return _save(request, report)
    AccessEvent.record(request, action=Action.VIEWED, target=report)
    is_editing = report.can_be_edited and can_change
    if can_change:
        Opening.objects.note(report, doctor=user, is_editing=is_editing)
    kept = keeping.kept_text(request, report)
    if kept is None:
        return detail_page(request, report, form=DraftForm.of(report) if is_editing else None)
    if not is_editing:
        return detail_page(request, report, form=None, unsaved=kept.text)
    if kept.revision != report.revision and kept.text != report.text:
        return _conflict_page(request, report, text=kept.text, problem=report.changed_by_sentence(reader=user))
    return detail_page(request, report, form=DraftForm.of(report, text=kept.text), is_restored=kept.text != report.text)


@never_cache
@require_http_methods(["GET", "POST"])
@doctors_only
def report_discard(request: HttpRequest, report_id: Any) -> HttpResponse:
    """Show the draft once more and throw it away; whoever has its newest text on the screen may do so."""
    user = current_user(request)
    report = visible_report(user, report_id)
    if not report.can_be_changed_by(user):
        return render(request, "403.html", status=403)
    if report.is_signed:
        messages.info(request, _("Only a draft can be discarded. What is signed is amended instead."))
        return redirect("reports:report_detail", report.id)
    if not report.study.reveals_ai_to(user):
        return impression_comes_first(request, report)
    form = DiscardForm(request.POST or None, initial={"revision": report.revision})
    if request.method == "POST" and form.is_valid():
        try:
            discard_draft(report, by=user, revision=form.cleaned_data["revision"])
        except StaleDraftError as error:
            report.refresh_from_db()
            return _discard_page(request, report, form=DiscardForm.of(report), problem=str(error), status=409)
        except InvalidTransitionError as error:
            messages.error(request, str(error))
            return redirect("studies:study_detail", report.study_id)
        AccessEvent.record(request, action=Action.DELETED, target=report, note="draft discarded")
        keeping.forget_text(request, report)
        if report.amends_id is not None:
            messages.success(request, _("The amendment is discarded. This version stays in force."))
            return redirect("reports:report_detail", report.amends_id)
        messages.success(request, _("The draft is discarded. Another one can be written."))
        return redirect("studies:study_read", report.study_id)
    return _discard_page(request, report, form=form, status=400 if request.method == "POST" else 200)


def _discard_page(
    request: HttpRequest, report: Report, *, form: DiscardForm, problem: str = "", status: int = 200
) -> HttpResponse:
    context = {"report": report, "content": report.content_for(request.user), "form": form, "problem": problem}
    return render(request, "reports/report_discard.html", context, status=status)


@never_cache
@require_GET
@doctors_only
def report_state(request: HttpRequest, report_id: Any) -> HttpResponse:
    """Tell an open editor where the draft stands and who else has it open; holds no word of the report."""
    user = current_user(request)
    report = visible_report(user, report_id)
    if not report.can_be_changed_by(user):
        return JsonResponse({"state": "forbidden"}, status=403)
    Opening.objects.touch(report, doctor=user)
    return JsonResponse(
        {
            "state": report.state,
            "revision": report.revision,
            "others": Opening.objects.others_at(report, than=user),
            "sentence": report.news_sentence(reader=user),
        }
    )


def _without_session(request: HttpRequest, report_id: Any) -> HttpResponse:
    address = reverse("reports:report_detail", args=[report_id])
    if request.method == "POST":
        if _wants_json(request):
            sentence = _("You are logged out, so this text is not saved yet. It is kept in this browser: log in again.")
            return JsonResponse({"state": "logged_out", "sentence": sentence}, status=401)
        if keeping.keep_text(request, report_id):
            messages.warning(
                request, _("Your session had ended. Your text is kept: log in again, and it is put back on its page.")
            )
    return redirect_to_login(address)


def _save(request: HttpRequest, report: Report) -> HttpResponse:
    # The form validates a copy: a refused text must not stand on the report that the page is made of.
    form = DraftForm(request.POST, instance=copy.copy(report))
    user = current_user(request)
    if not form.is_valid():
        if _wants_json(request):
            errors = {name: [str(error) for error in errors] for name, errors in form.errors.items()}
            sentence = _("Not saved: %(why)s") % {
                "why": " ".join(error for field in errors.values() for error in field)
            }
            return JsonResponse({"state": "invalid", "sentence": sentence, "errors": errors}, status=400)
        return detail_page(request, report, form=form, status=400)
    text = form.text
    if request.POST.get("resolve") == "theirs":
        keeping.forget_text(request, report)
        messages.success(request, _("The stored text stays. Yours was put away."))
        return redirect("reports:report_detail", report.id)
    if request.POST.get("resolve") == "both":
        text = merged(stored=report.text, mine=text)
    template = ReportTemplate.objects.chosen(request.POST.get("template"), by=user)
    if "insert" in request.POST and template is not None:
        text = text.followed_by(template_text(template, study=report.study, by=user))
    try:
        # A second click on "save" brings the text that is stored already: nothing to do, and no conflict.
        if text != report.text or not report.can_be_edited:
            report.edit(
                by=user,
                revision=form.cleaned_data["revision"],
                findings_text=text.findings_text,
                impression=text.impression,
            )
            AccessEvent.record(request, action=Action.CHANGED, target=report)
    except InvalidTransitionError as error:
        if _wants_json(request):
            return JsonResponse({"state": "signed", "sentence": str(error)}, status=409)
        keeping.forget_text(request, report)
        return detail_page(request, report, form=None, problem=str(error), unsaved=text, status=409)
    except StaleDraftError as error:
        if _wants_json(request):
            return JsonResponse(_conflict(report, mine=text, sentence=str(error)), status=409)
        return _conflict_page(request, report, text=text, problem=str(error))
    keeping.forget_text(request, report)
    Opening.objects.note(report, doctor=user, is_editing=True)
    if _wants_json(request):
        return JsonResponse(
            {
                "state": "saved",
                "revision": report.revision,
                "saved_at": f"{timezone.localtime(report.edited_at or report.created_at):%H:%M:%S}",
                "others": Opening.objects.others_at(report, than=user),
            }
        )
    if "sign" in request.POST:
        return redirect("reports:report_sign", report.id)
    messages.success(request, _("The draft is saved."))
    return redirect(way_back(request, default=reverse("reports:report_detail", args=[report.id])))


def _conflict(report: Report, *, mine: Any, sentence: str) -> dict[str, Any]:
    both = merged(stored=report.text, mine=mine)
    return {
        "state": "conflict",
        "sentence": sentence,
        "revision": report.revision,
        "stored": {"findings_text": report.findings_text, "impression": report.impression},
        "both": {"findings_text": both.findings_text, "impression": both.impression},
    }


def _conflict_page(request: HttpRequest, report: Report, *, text: Any, problem: str) -> HttpResponse:
    form = DraftForm.of(report, text=text)
    return detail_page(request, report, form=form, problem=problem, is_conflict=True, mine=text, status=409)


def _wants_json(request: HttpRequest) -> bool:
    return request.get_preferred_type(["text/html", "application/json"]) == "application/json"
