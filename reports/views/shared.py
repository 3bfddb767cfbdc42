"""The reader's side of a share link: the code, then one report and nothing else of the portal.

A link that is unknown, revoked or too old, and a report whose code this browser has not entered, get one and the same
page, so that nothing can be learnt by trying.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from allauth.core import ratelimit
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from accounts.limits import too_many_tries, wait_for
from accounts.models import AccessEvent
from reports.comparison import plots_of
from reports.copies import copy_of
from reports.errors import MailError, PdfError
from reports.forms import CodeForm
from reports.models import Report, ShareLink
from reports.sharing import is_proven, is_waiting_for_code, send_code, try_code
from reports.views.common import private
from reports.views.files import stored_overlay, stored_slice

Action = AccessEvent.Action
Arguments = ParamSpec("Arguments")
View = Callable[Concatenate[HttpRequest, Arguments], HttpResponse]


def outside(view: View[Arguments]) -> View[Arguments]:
    """Let people without a log-in ask, keep the answer out of caches and search engines, and tell all failures alike.

    The portal's Referrer-Policy (``same-origin``) keeps the address from other sites; forms need it for this one.
    """

    @login_not_required
    @never_cache
    @wraps(view)
    def answered(request: HttpRequest, *args: Arguments.args, **kwargs: Arguments.kwargs) -> HttpResponse:
        try:
            response = view(request, *args, **kwargs)
        except Http404:
            response = render(request, "reports/shared_gone.html", status=404)
        response["X-Robots-Tag"] = "noindex, nofollow, noarchive"
        answer: HttpResponse = private(response)
        return answer

    return answered


@outside
@require_http_methods(["GET", "POST"])
def share_open(request: HttpRequest, token: str) -> HttpResponse:
    """Offer to mail a code to the link's reader, and take it. Nothing is sent before somebody presses the button:
    programs that look into mails follow links too.
    """
    link = ShareLink.objects.open().with_token(token).first()
    if link is None:
        raise Http404
    if is_proven(request, link):
        return redirect("reports:shared_report", link.id)
    if request.method == "GET":
        return _door(request, link)
    if "send" in request.POST:
        return _send(request, link)
    form = CodeForm(request.POST)
    if not form.is_valid():
        return _door(request, link, form=form, status=400)
    keys = [str(link.id)]
    if not ratelimit.consume(request, action="share_code", key=keys[0]):
        form.add_error(None, too_many_tries(wait_for(request, action="share_code", keys=keys)))
        return _door(request, link, form=form, status=429)
    if try_code(request, link, code=form.cleaned_data["code"]):
        return redirect("reports:shared_report", link.id)
    AccessEvent.record(request, action=Action.LOGIN_FAILED, target=link, note="wrong code of a share link")
    form.add_error("code", _("This code is not right or too old. Please check it, or have a new one sent."))
    return _door(request, link, form=form, status=400)


@outside
@require_GET
def shared_report(request: HttpRequest, link_id: Any) -> HttpResponse:
    """Show the version of the report that is in force, and say so where it is not the one that was shared."""
    link, report = _opened(request, link_id)
    _note(request, link, report, action=Action.VIEWED)
    link.note_opening()
    content = report.content
    context = {
        "share_link": link,
        "report": report,
        "content": content,
        "addenda": report.addenda.all(),
        "plots": plots_of(content.examinations),
        "is_newer": report.pk != link.report_id,
    }
    return render(request, "reports/shared_report.html", context)


@outside
@require_GET
def shared_pdf(request: HttpRequest, link_id: Any) -> HttpResponse:
    """Send the PDF of the version in force."""
    link, report = _opened(request, link_id)
    try:
        copy = copy_of(report)
    except PdfError as error:
        return render(request, "reports/shared_damaged.html", {"problem": str(error)}, status=500)
    _note(request, link, report, action=Action.DOWNLOADED)
    link.note_opening()
    response = HttpResponse(copy.pdf, content_type="application/pdf")
    response["Content-Disposition"] = f'attachment; filename="{copy.name}"'
    return response


@outside
@require_GET
def shared_slice(request: HttpRequest, link_id: Any, number: int) -> HttpResponse:
    """Send one slice of the shared report, as taken."""
    link, report = _opened(request, link_id)
    picture = stored_slice(report, number)
    _note(request, link, report, action=Action.VIEWED)
    return picture


@outside
@require_GET
def shared_overlay(request: HttpRequest, link_id: Any, number: int) -> HttpResponse:
    """Send one slice of the shared report with the outlined regions drawn."""
    link, report = _opened(request, link_id)
    picture = stored_overlay(report, number)
    _note(request, link, report, action=Action.VIEWED)
    return picture


def _opened(request: HttpRequest, link_id: Any) -> tuple[ShareLink, Report]:
    """Return an open link whose code this browser has entered, and the report it shows; 404 for everything else."""
    link = ShareLink.objects.open().select_related("report", "created_by").filter(id=link_id).first()
    report = link.report_in_force if link is not None and is_proven(request, link) else None
    if link is None or report is None:
        raise Http404
    return link, report


def _note(request: HttpRequest, link: ShareLink, report: Report, *, action: AccessEvent.Action) -> None:
    AccessEvent.record(request, action=action, target=link, note=f"report {report.pk}")


def _send(request: HttpRequest, link: ShareLink) -> HttpResponse:
    keys = [str(link.id)]
    if not ratelimit.consume(request, action="share_code_mail", key=keys[0]):
        problem = too_many_tries(wait_for(request, action="share_code_mail", keys=keys))
        return _door(request, link, problem=problem, status=429)
    try:
        send_code(request, link)
    except MailError as error:
        return _door(request, link, problem=str(error), status=503)
    return redirect(request.path)


def _door(
    request: HttpRequest, link: ShareLink, *, form: CodeForm | None = None, problem: str = "", status: int = 200
) -> HttpResponse:
    is_waiting = is_waiting_for_code(request, link)
    context = {"form": form or CodeForm(), "is_waiting": is_waiting, "problem": problem, "had_code": form is not None}
    return render(request, "reports/share_open.html", context, status=status)
