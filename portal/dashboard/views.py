"""The pages of figures, and each of their tables as a file."""

from django.db.models import Count, Max, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from ml.models import Event, EventQuerySet, Level
from portal.dashboard.export import as_csv
from portal.dashboard.pages import PAGES, Page
from portal.dashboard.panels import COUNT, MOMENT, TEXT, Column, Panel, Table
from portal.dashboard.period import CHOICES
from portal.dashboard.scope import Scope, scope_of
from portal.problems import kind_of

PROBLEMS_SHOWN = 50


@require_safe
def page(request: HttpRequest, name: str = "quality") -> HttpResponse:
    """Show a page of figures."""
    scope = scope_of(request)
    shown = _page(name)
    return _render(request, scope, name=shown.name, title=str(shown.title), panels=shown.panels_for(scope))


@require_safe
def table(request: HttpRequest, name: str, panel: str) -> HttpResponse:
    """Send the table behind one chart as a CSV file."""
    scope = scope_of(request)
    make = _page(name).panels.get(panel)
    if make is None:
        raise Http404
    return _file(make(scope).table, name=f"{panel}-{scope.period.days}-days")


@require_safe
def problems(request: HttpRequest) -> HttpResponse:
    """Show administrators what went wrong, by kind, and the newest events of it."""
    scope = _administrators_scope(request)
    rows = _problem_events(scope).only("at", "level", "problem", "message").order_by("-at", "-id")
    newest = [
        {
            "id": row.pk,
            "at": row.at,
            "level_label": Level(row.level).label,
            "problem": row.problem,
            "message": row.message,
        }
        for row in rows[:PROBLEMS_SHOWN]
    ]
    return _render(
        request,
        scope,
        name="problems",
        title=_("Problems"),
        panels=[problems_by_kind(scope)],
        newest=newest,
    )


@require_safe
def problems_table(request: HttpRequest) -> HttpResponse:
    """Send the table of problems as a CSV file."""
    scope = _administrators_scope(request)
    return _file(problems_by_kind(scope).table, name=f"problems-{scope.period.days}-days")


def problems_by_kind(scope: Scope) -> Panel:
    """Count what went wrong, by kind."""
    rows = (
        _problem_events(scope)
        .order_by()
        .values("problem")
        .annotate(n=Count("id"), errors=Count("id", filter=Q(level=Level.ERROR)), last_at=Max("at"))
        .order_by("-last_at")
    )
    found = tuple(
        (
            str(kind_of(row["problem"]).label),
            row["problem"],
            row["n"],
            row["errors"],
            row["last_at"],
            str(kind_of(row["problem"]).advice),
        )
        for row in rows
    )
    return Panel(
        key="problems",
        title=_("What went wrong"),
        intro=_("By kind of error, in this period. Errors were mailed to administrators; warnings were not."),
        table=Table(
            columns=(
                Column(_("Problem"), TEXT),
                Column(_("Kind"), TEXT),
                Column(_("Events"), COUNT),
                Column(_("of them errors"), COUNT),
                Column(_("Last"), MOMENT),
                Column(_("What to do"), TEXT),
            ),
            rows=found,
        ),
        empty=_("Nothing went wrong in this period."),
        is_wide=True,
    )


def _administrators_scope(request: HttpRequest) -> Scope:
    scope = scope_of(request)
    if not scope.is_administrator:
        raise Http404
    return scope


def _problem_events(scope: Scope) -> EventQuerySet:
    """Return the problems of the period that this administrator may read about."""
    if scope.hospital is not None:
        events = Event.objects.of_hospital(scope.hospital.pk)
    else:
        events = Event.objects.all()
    return events.filter(scope.period.within("at")).exclude(problem="")


def _page(name: str) -> Page:
    if name not in PAGES:
        raise Http404
    return PAGES[name]


def _file(table: Table, *, name: str) -> HttpResponse:
    response = HttpResponse(as_csv(table), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    response["Cache-Control"] = "no-store"
    return response


def _render(
    request: HttpRequest, scope: Scope, *, name: str, title: str, panels: list[Panel], **more: object
) -> HttpResponse:
    context = {
        "scope": scope,
        "name": name,
        "title": title,
        "panels": panels,
        "pages": list(PAGES.values()),
        "periods": CHOICES,
        **more,
    }
    return render(request, "portal/dashboard/page.html", context)
