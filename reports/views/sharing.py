"""The patient's side of sharing: a link to one report for one reader, the list of links, and their end."""

from typing import Any

from allauth.core import ratelimit
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.limits import too_many_tries, wait_for
from accounts.models import AccessEvent
from reports.errors import MailError
from reports.forms import ShareForm
from reports.models import ShareLink
from reports.sharing import share_report
from reports.views.common import PAGE_SIZE, visible_report, way_back
from studies.access import current_user, patients_only

Action = AccessEvent.Action


@never_cache
@require_http_methods(["GET", "POST"])
@patients_only
def report_share(request: HttpRequest, report_id: Any) -> HttpResponse:
    """Ask who is to read this report and for how long; mail them a link. Shows the links that there are already."""
    user = current_user(request)
    report = visible_report(user, report_id)
    form = ShareForm(request.POST or None)
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            if not ratelimit.consume(request, action="share_link"):
                form.add_error(None, too_many_tries(wait_for(request, action="share_link", keys=[])))
                status = 429
            else:
                try:
                    link = share_report(request, report, by=user, **form.cleaned_data)
                except MailError as error:
                    form.add_error(None, str(error))
                    status = 503
                else:
                    AccessEvent.record(request, action=Action.SHARED, target=link)
                    messages.success(request, _("The link was mailed to %(email)s.") % {"email": link.recipient_email})
                    return redirect("reports:report_share", report.id)
    links = ShareLink.objects.visible_to(user).filter(report__study=report.study_id)[:PAGE_SIZE]
    context = {"report": report, "content": report.content, "form": form, "links": links}
    return render(request, "reports/report_share.html", context, status=status)


@never_cache
@require_GET
@patients_only
def share_list(request: HttpRequest) -> HttpResponse:
    """List the patient's links with what became of each."""
    links = ShareLink.objects.visible_to(current_user(request)).select_related("report")
    page = Paginator(links, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "reports/share_list.html", {"page": page, "links": page.object_list})


@require_POST
@patients_only
def share_revoke(request: HttpRequest, link_id: Any) -> HttpResponse:
    """End a link at once."""
    link = get_object_or_404(ShareLink.objects.visible_to(current_user(request)), id=link_id)
    if link.is_open:
        link.revoke()
        AccessEvent.record(request, action=Action.UNSHARED, target=link)
    messages.success(request, _("The link for %(email)s opens nothing any more.") % {"email": link.recipient_email})
    return redirect(way_back(request, default="reports:share_list"))
