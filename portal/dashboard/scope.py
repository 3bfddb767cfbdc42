"""Whose figures somebody may see: a doctor and an administrator those of their hospital, a superuser all."""

import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.db import models
from django.http import Http404, HttpRequest
from django.utils.http import urlencode

from accounts.models import Hospital, User
from portal.dashboard.period import Period
from portal.dashboard.serving import serving_card
from studies.models import InferenceRecord


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The period, and the hospital whose figures are counted; None counts everything, patients' own uploads too."""

    period: Period
    hospital: Hospital | None
    hospitals: tuple[Hospital, ...]
    is_administrator: bool

    @cached_property
    def card(self) -> Mapping[str, Any]:
        """The card of the model that answers now."""
        return serving_card()

    @property
    def version(self) -> str:
        """The version that answers now, or empty."""
        return str(self.card.get("version", ""))

    def of_hospital(self, path: str) -> models.Q:
        """Return the condition on rows whose hospital lies at ``path``."""
        return models.Q() if self.hospital is None else models.Q(**{path: self.hospital.pk})

    def records(self) -> models.QuerySet[InferenceRecord]:
        """Return the answers of the period."""
        mine = self.of_hospital("analysis__image__study__patient__hospital")
        return InferenceRecord.objects.filter(mine, self.period.within("created_at")).order_by()

    @property
    def query(self) -> str:
        """What an address needs so that it shows the same."""
        asked: dict[str, Any] = {"days": self.period.days}
        if self.hospitals and self.hospital is not None:
            asked["hospital"] = self.hospital.pk
        return urlencode(asked)


def scope_of(request: HttpRequest) -> Scope:
    """Return what this person may see of what was asked for. Raises ``Http404`` for whoever may see no figures."""
    user = request.user
    period = Period.of(request.GET)
    if not isinstance(user, User) or not (user.is_approved_doctor or user.is_administrator):
        raise Http404
    if user.is_administrator and user.is_superuser:
        hospitals = tuple(Hospital.objects.order_by("name"))
        return Scope(period=period, hospital=_asked_for(request, hospitals), hospitals=hospitals, is_administrator=True)
    if user.hospital is None:
        raise Http404
    return Scope(period=period, hospital=user.hospital, hospitals=(), is_administrator=user.is_administrator)


def _asked_for(request: HttpRequest, hospitals: tuple[Hospital, ...]) -> Hospital | None:
    with suppress(ValueError):
        wanted = uuid.UUID(request.GET.get("hospital", ""))
        return next((hospital for hospital in hospitals if hospital.pk == wanted), None)
    return None
