"""The administration of what belongs to no room alone: the event log of the model's life, to search and to read."""

import uuid
from contextlib import suppress
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from ml.models import Event
from portal import models_in_use  # noqa: F401 - importing registers its pages


class ProblemFilter(admin.SimpleListFilter):
    """Only what went wrong."""

    title = _("problem")
    parameter_name = "wrong"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Offer problems only, all else is the default."""
        return [("yes", _("only what went wrong"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Event]) -> QuerySet[Event]:
        """Restrict the list."""
        return queryset.exclude(problem="") if self.value() == "yes" else queryset


@admin.register(Event)
class EventAdmin(admin.ModelAdmin):
    """The event log: read-only. Administrators see their hospital's analyses and what concerns all; superusers all."""

    list_display = ["at", "kind", "level", "message", "problem", "run_id", "study_id"]
    list_display_links = ["at", "message"]
    list_filter = ["kind", "level", ProblemFilter, "at"]
    search_fields = ["message", "problem", "run_id"]
    search_help_text = _("Identifier of a run or a study, kind of problem, or words of the message.")
    ordering = ["-at", "-id"]
    list_per_page = 50
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        """Return all events for a superuser, for an administrator those of the own hospital and of no study."""
        events = super().get_queryset(request)
        who = request.user
        if not isinstance(who, User) or not who.is_administrator:
            return events.none()
        return events if who.is_superuser else Event.objects.of_hospital(who.hospital_id).order_by(*self.ordering)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Event], search_term: str
    ) -> tuple[QuerySet[Event], bool]:
        """Find by identifier what looks like one, by words everything else."""
        term = search_term.strip()
        with suppress(ValueError):
            return queryset.filter(Q(study_id=uuid.UUID(term)) | Q(run_id=term)), False
        return super().get_search_results(request, queryset, search_term)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Allow administrators: the role is the permission."""
        return getattr(request.user, "is_administrator", False)

    def has_view_permission(self, request: HttpRequest, obj: Event | None = None) -> bool:
        """Allow administrators; the queryset holds which rows."""
        return getattr(request.user, "is_administrator", False)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never: ``ml.events`` writes them."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Event | None = None) -> bool:
        """Never."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Event | None = None) -> bool:
        """Never: they go when their time is over."""
        return False
