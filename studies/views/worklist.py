"""The worklist: the list of studies, the news about its rows, and what is done to several studies at once."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_cache_control
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from accounts.models import AccessEvent
from studies.access import current_user, doctors_only
from studies.errors import InvalidTransitionError
from studies.intake import request_analysis
from studies.models import Analysis, Image, Study, StudyRead
from studies.worklist import Worklist, chosen_studies, rows_for


@require_safe
@doctors_only
def study_list(request: HttpRequest) -> HttpResponseBase:
    """List the studies that the doctor may see, in the order and narrowed down as asked for."""
    worklist = Worklist.of(current_user(request), asked=request.GET, session=request.session)
    page = worklist.page(after=request.GET.get("after", ""))
    context = {
        "worklist": worklist,
        "page": page,
        "back": request.GET.urlencode(),
        "active": [study for study in page.rows if study.state in Analysis.ACTIVE],
    }
    return render(request, "studies/study_list.html", context)


@require_safe
@doctors_only
def study_rows(request: HttpRequest) -> HttpResponseBase:
    """Answer a worklist that asks for news of its unfinished rows: what has changed, or 204 while nothing has.

    Each ``row`` of the address is a study and the state in which the page shows it, ``<uuid>:<state>``.
    """
    doctor = current_user(request)
    shown = dict(row.partition(":")[::2] for row in request.GET.getlist("row"))
    studies = list(rows_for(doctor, chosen_studies(doctor, asked=list(shown))))
    changed = [study for study in studies if shown.get(str(study.id)) != study.state]
    response: HttpResponseBase
    if not changed and len(studies) == len(shown):
        response = HttpResponse(status=204)
    else:
        active = [study for study in studies if study.state in Analysis.ACTIVE]
        response = render(request, "studies/_worklist_news.html", {"changed": changed, "active": active})
    patch_cache_control(response, private=True, no_store=True)
    return response


@require_POST
@doctors_only
def study_mark(request: HttpRequest) -> HttpResponseBase:
    """Mark the chosen studies as read, or as unread where ``mark`` says so."""
    doctor = current_user(request)
    ids = list(chosen_studies(doctor, asked=request.POST.getlist("studies")).values_list("id", flat=True))
    if not ids:
        _ask_to_choose(request)
    elif request.POST.get("mark") == "unread":
        StudyRead.objects.unmark(ids, by=doctor)
        text = ngettext("%(count)d study is marked as unread.", "%(count)d studies are marked as unread.", len(ids))
        messages.success(request, text % {"count": len(ids)})
    else:
        StudyRead.objects.mark(ids, by=doctor)
        text = ngettext("%(count)d study is marked as read.", "%(count)d studies are marked as read.", len(ids))
        messages.success(request, text % {"count": len(ids)})
    return _back_to_the_list(request)


@require_POST
@doctors_only
def study_retry(request: HttpRequest) -> HttpResponseBase:
    """Analyse the failed slices of the chosen studies again, and say which studies were left out and why."""
    doctor = current_user(request)
    studies = list(chosen_studies(doctor, asked=request.POST.getlist("studies")).select_related("patient"))
    if not studies:
        _ask_to_choose(request)
        return _back_to_the_list(request)
    ids = [study.id for study in studies]
    changeable = set(Study.objects.changeable_by(doctor).filter(id__in=ids).values_list("id", flat=True))
    failed = Image.objects.filter(study__in=changeable).with_state().filter(state=Analysis.State.FAILED)  # type: ignore[misc] # annotated
    queued: set[object] = set()
    count = 0
    for image in failed:
        try:
            analysis = request_analysis(image, by=doctor)
        except InvalidTransitionError:
            # Somebody else was faster: the slice waits already, which is what was asked for.
            continue
        AccessEvent.record(request, action=AccessEvent.Action.CREATED, target=analysis)
        queued.add(image.study_id)
        count += 1
    if count:
        text = ngettext("%(count)d slice is analysed again.", "%(count)d slices are analysed again.", count)
        messages.success(request, text % {"count": count})
    for study in studies:
        who = {"patient": str(study.patient), "study": str(study)}
        if study.id not in changeable:
            messages.warning(request, _("%(patient)s, %(study)s: you may read this study, but not change it.") % who)
        elif study.id not in queued:
            messages.info(request, _("%(patient)s, %(study)s: no analysis of it has failed.") % who)
    return _back_to_the_list(request)


def _ask_to_choose(request: HttpRequest) -> None:
    messages.warning(request, _("Nothing was done: please choose one or more studies in the list first."))


def _back_to_the_list(request: HttpRequest) -> HttpResponseRedirect:
    """Lead back to the list as it was: the same filters, the same page."""
    back = QueryDict(request.POST.get("back", "")[:2000])
    address = reverse("studies:study_list")
    return HttpResponseRedirect(f"{address}?{back.urlencode()}" if back else address)
