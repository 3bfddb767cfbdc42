"""The reading page: the picture in a viewer, and beside it what concerns the slice that is shown."""

import hashlib
import uuid
from typing import Any

from django.db.models import Count
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_safe

from accounts.models import AccessEvent, User
from studies.access import current_user, doctors_only
from studies.agreement import compare_with_ai
from studies.earlier import earlier_judgements
from studies.models import Analysis, Image, Study, judged_findings
from studies.review_forms import FirstImpressionForm
from studies.views.reviews import visible_study
from studies.worklist import next_to_report


@require_safe
@doctors_only
def study_read(request: HttpRequest, study_id: uuid.UUID) -> HttpResponseBase:
    """Show a study for reading, from the slice that ``?slice=`` names on.

    Without JavaScript the slice is a plain picture with links to its neighbours; with it, a viewer takes its place.
    """
    doctor = current_user(request)
    study = visible_study(doctor, study_id)
    AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=study)
    study.mark_read(by=doctor)
    context = _panel_of(request, study=study, doctor=doctor)
    image: Image | None = context["image"]
    numbers = list(study.images.order_by("number").values_list("number", flat=True))
    place = numbers.index(image.number) if image else 0
    context |= {
        "slice_count": len(numbers),
        "place": place + 1,
        "previous": numbers[place - 1] if place > 0 else None,
        "next": numbers[place + 1] if place + 1 < len(numbers) else None,
        "next_study": next_to_report(doctor, behind=study, session=request.session),
    }
    response = render(request, "studies/study_read.html", context)
    patch_cache_control(response, private=True, no_store=True)
    return response


@require_safe
@doctors_only
def study_read_panel(request: HttpRequest, study_id: uuid.UUID) -> HttpResponseBase:
    """Answer the page with what concerns one slice, or with 204 while nothing has changed since ``seen``."""
    doctor = current_user(request)
    study = visible_study(doctor, study_id)
    context = _panel_of(request, study=study, doctor=doctor)
    response: HttpResponseBase
    if request.GET.get("seen") == context["seen"]:
        response = HttpResponse(status=204)
    else:
        AccessEvent.record(request, action=AccessEvent.Action.VIEWED, target=study)
        study.mark_read(by=doctor)
        response = render(request, "studies/_reading_panel.html", context)
    patch_cache_control(response, private=True, no_store=True)
    return response


def _panel_of(request: HttpRequest, *, study: Study, doctor: User) -> dict[str, Any]:
    """Gather what the panel of one slice shows. What the software said is left out until the study is revealed."""
    wanted = request.GET.get("slice", "")
    number = int(wanted) if wanted.isdecimal() and len(wanted) <= 9 else None
    slices = study.images.order_by("number")
    image = (slices.filter(number=number).first() if number else None) or slices.first()
    newest = image.latest_analysis if image else None
    is_revealed = study.reveals_ai_to(doctor)
    answer = image.latest_success if image and is_revealed else None
    # The plugin for types does not follow the annotation through a related manager.
    states = study.images.with_state().order_by().values("state").annotate(count=Count("id"))  # type: ignore[misc]
    counts: dict[str, int] = {row["state"]: row["count"] for row in states}
    is_active = any(state in Analysis.ACTIVE for state in counts)
    own = study.first_impressions.filter(doctor=doctor).first()
    judged = judged_findings([image])[image.id] if image and is_revealed else ()
    facts = f"{sorted(counts.items(), key=str)} {newest.id if newest else ''} {newest.state if newest else ''}"
    return {
        "study": study,
        "back": "read",
        "image": image,
        "newest": newest,
        "answer": answer,
        "is_revealed": is_revealed,
        "comparison": compare_with_ai(own) if own is not None and is_revealed else None,
        "impression_form": None if is_revealed else FirstImpressionForm(),
        "judged": judged,
        "earlier": earlier_judgements(image, judged=judged) if image and is_revealed else (),
        "slice_review": image.reviews.order_by("-revision").select_related("by").first()
        if image and is_revealed
        else None,
        "can_change": study.can_be_changed_by(doctor),
        "waiting_count": sum(counts.get(state, 0) for state in Analysis.ACTIVE),
        "is_active": is_active,
        "seen": hashlib.sha256(facts.encode()).hexdigest()[:16],
    }
