"""Pages of the trainings: compare them, ask for one, watch it, stop it. For administrators of the installation."""

import uuid

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from ml.errors import TrainingRunError
from ml.models import TrainingRun
from portal.learning.plots import COMPARED, comparison_of, curves_of
from studies.access import current_user
from studies.paging import page_of

PLOTTED = 20


def _superusers_only(request: HttpRequest) -> None:
    if not current_user(request).is_superuser:
        raise Http404


@never_cache
@require_safe
def training_list(request: HttpRequest) -> HttpResponseBase:
    """Show trainings in a table, the newest first, and how their figures compare."""
    _superusers_only(request)
    page = page_of(
        TrainingRun.objects.select_related("requested_by"),
        order=("-requested_at", "-id"),
        after=request.GET.get("after", ""),
    )
    with_model = TrainingRun.objects.filter(state=TrainingRun.State.FINISHED).exclude(model_version="")
    compared = list(reversed(with_model.order_by("-requested_at", "-id")[:PLOTTED]))
    rows = [(run, [run.figures.get(name) for name in COMPARED]) for run in page.rows]
    context = {
        "page": page,
        "rows": rows,
        "columns": [name.replace("_", " ") for name in COMPARED],
        "plots": list(comparison_of(compared)),
        "is_busy": TrainingRun.objects.active().exclude(source=TrainingRun.Source.COMMAND).exists(),
    }
    return render(request, "portal/training_list.html", context)


@require_POST
def training_ask(request: HttpRequest) -> HttpResponseBase:
    """Put a training with what doctors judged into the queue of the trainer."""
    _superusers_only(request)
    try:
        run = TrainingRun.objects.ask(by=current_user(request), options={"from_portal": True})
    except TrainingRunError as error:
        messages.warning(request, str(error))
        return redirect("training_list")
    messages.success(request, _("The training waits for a trainer. This page tells how far it is."))
    return redirect("training", run_id=run.id)


@never_cache
@require_safe
def training(request: HttpRequest, run_id: uuid.UUID) -> HttpResponseBase:
    """Show one training: how far it is, its curves, figures and parameters."""
    _superusers_only(request)
    return render(request, "portal/training.html", _context(run_id))


@never_cache
@require_safe
def training_progress(request: HttpRequest, run_id: uuid.UUID) -> HttpResponseBase:
    """Return the part of the page that changes while it trains; the page asks for it by itself."""
    _superusers_only(request)
    return render(request, "portal/_training_progress.html", _context(run_id))


@require_POST
def training_stop(request: HttpRequest, run_id: uuid.UUID) -> HttpResponseBase:
    """Stop a training that waits or runs."""
    _superusers_only(request)
    run = get_object_or_404(TrainingRun, id=run_id)
    try:
        run.cancel()
    except TrainingRunError as error:
        messages.warning(request, str(error))
    else:
        messages.success(request, _("The training is stopped within a few seconds."))
    return redirect("training", run_id=run.id)


def _context(run_id: uuid.UUID) -> dict[str, object]:
    run = get_object_or_404(TrainingRun.objects.select_related("requested_by"), id=run_id)
    return {
        "run": run,
        "plots": list(curves_of(run)),
        "figures": sorted(run.figures.items()),
        "parameters": sorted(run.parameters.items()),
    }
