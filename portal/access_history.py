"""Who has looked at my record: what a patient may know of the log of accesses, in words.

A doctor who signed a report that was released to the patient is named, because the patient knows the name from the
report; everybody else appears by role and hospital, which can tell more on request. What was done to a report that is
not released is not told apart from any other work on the record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.core.paginator import Page, Paginator
from django.db.models import Case, Count, F, Max, Min, Value, When
from django.db.models.functions import TruncDate
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_safe

from accounts.models import AccessEvent, Hospital, Role, User
from reports.models import Report
from studies.access import current_user, patients_only

ENTRIES_A_PAGE: Final = 50
Action = AccessEvent.Action
DEEDS: Final[Mapping[str, Promise]] = {
    Action.VIEWED: gettext_lazy("looked at"),
    Action.CREATED: gettext_lazy("worked on"),
    Action.CHANGED: gettext_lazy("worked on"),
    Action.SIGNED: gettext_lazy("worked on"),
    Action.RELEASED: gettext_lazy("released to you"),
    Action.DOWNLOADED: gettext_lazy("downloaded"),
    Action.CLAIMED: gettext_lazy("connected with a log-in"),
    Action.SHARED: gettext_lazy("gave somebody access to"),
    Action.UNSHARED: gettext_lazy("ended somebody's access to"),
    Action.OPENED_IN_EMERGENCY: gettext_lazy("used emergency access to"),
    Action.DELETED: gettext_lazy("deleted"),
    # With a record to it: somebody who has not entered the code of a link that the patient made.
    Action.LOGIN_FAILED: gettext_lazy("tried in vain to open"),
}
# Anything else of a patient's (a model's answer, an outline, a note beside a slice) is part of the scan for them.
THINGS: Final[Mapping[str, Promise]] = {
    "studies.patient": gettext_lazy("your record"),
    "reports.report": gettext_lazy("a report"),
    "reports.sharelink": gettext_lazy("a report, by a link of yours"),
}
SCAN: Final = gettext_lazy("a scan")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one person did with one kind of thing on one day."""

    who: str
    deed: str
    thing: str
    first_at: datetime
    last_at: datetime
    count: int
    reason: str
    is_own: bool
    is_emergency: bool

    @property
    def times(self) -> str:
        """How often, in words; empty for once."""
        if self.count == 1:
            return ""
        return ngettext("%(count)d time", "%(count)d times", self.count) % {"count": self.count}


@require_safe
@patients_only
def access_history(request: HttpRequest) -> HttpResponseBase:
    """Show a patient who has looked at their records."""
    page = history_of(current_user(request), page=request.GET.get("page"))
    return render(request, "portal/access_history.html", {"page": page})


def history_of(user: User, *, page: str | None) -> "Page[Entry]":
    """Return one page of what was done with this patient's records, newest first; of any other person, nothing."""
    records = user.patient_records.values_list("id", flat=True) if user.is_patient else []
    grouped = (
        AccessEvent.objects.filter(patient_id__in=list(records), action__in=list(DEEDS))
        .annotate(
            day=TruncDate("at"),
            # By which token a program asked is for the administration, and would only take a day's lines apart.
            told=Case(When(note__startswith="API token ", then=Value("")), default=F("note")),
        )
        .values("day", "actor", "action", "target_type", "hospital", "told")
        .annotate(count=Count("id"), first_at=Min("at"), last_at=Max("at"))
        .order_by("-last_at", "actor", "action", "target_type")
    )
    shown = Paginator(grouped, ENTRIES_A_PAGE).get_page(page)
    rows: Sequence[Any] = list(shown.object_list)
    people = User.objects.in_bulk([row["actor"] for row in rows if row["actor"]])
    hospitals = Hospital.objects.in_bulk([row["hospital"] for row in rows if row["hospital"]])
    signers = set(Report.objects.visible_to(user).values_list("signed_by", flat=True))
    entries = [
        Entry(
            who=_("Somebody with your link")
            if row["target_type"] == "reports.sharelink" and row["actor"] != user.pk
            else _who(people.get(row["actor"]), hospital=hospitals.get(row["hospital"]), reader=user, signers=signers),
            deed=str(DEEDS[row["action"]]),
            thing=str(THINGS.get(row["target_type"], SCAN)),
            first_at=row["first_at"],
            last_at=row["last_at"],
            count=row["count"],
            reason=row["told"] if row["action"] == Action.OPENED_IN_EMERGENCY else "",
            is_own=row["actor"] == user.pk,
            is_emergency=row["action"] == Action.OPENED_IN_EMERGENCY,
        )
        for row in rows
    ]
    shown.object_list = entries  # type: ignore[assignment] # words instead of rows
    return shown  # type: ignore[return-value]


def accesses_of(user: User) -> list[dict[str, Any]]:
    """Return all of ``history_of`` as plain values, for the archive of the person's own data."""
    first = history_of(user, page="1")
    pages = [first, *(history_of(user, page=str(number)) for number in range(2, first.paginator.num_pages + 1))]
    return [
        {
            "who": entry.who,
            "deed": entry.deed,
            "thing": entry.thing,
            "first_at": timezone.localtime(entry.first_at).isoformat(),
            "last_at": timezone.localtime(entry.last_at).isoformat(),
            "count": entry.count,
            "reason": entry.reason,
        }
        for page in pages
        for entry in page.object_list
    ]


def _who(person: User | None, *, hospital: Hospital | None, reader: User, signers: set[Any]) -> str:
    place = hospital.name if hospital is not None else _("the portal")
    if person is None:
        return _("Somebody without a log-in, at %(place)s") % {"place": place}
    if person.pk == reader.pk:
        return _("You")
    if person.pk in signers:
        return _("%(name)s, %(place)s") % {"name": person.get_full_name(), "place": place}
    if person.role == Role.DOCTOR:
        return _("A doctor of %(place)s") % {"place": place}
    if person.role == Role.ADMINISTRATOR:
        return _("An administrator of %(place)s") % {"place": place}
    return _("Another person")
