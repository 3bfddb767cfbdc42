"""The worklist: which studies a doctor sees, in which order, and what narrows them down.

The order comes from the address, else from the session, so that each doctor keeps the one chosen last. Nonsense in an
address is as if nothing had been asked for, never an error.
"""

import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from studies.models import Analysis, Patient, Study, StudyQuerySet
from studies.models.study import CLASS_LABELS
from studies.paging import PAGE_SIZE, Page, key_of, page_of

SESSION_KEY = "worklist_order"


@dataclass(frozen=True, kw_only=True)
class Order:
    """One order of the worklist; an index stands behind each (``TriagedModel.Meta.indexes``)."""

    label: Any
    caption: Any
    fields: tuple[str, ...]


ORDERS = {
    "triage": Order(
        label=_("Newest day, most suspicious first"),
        caption=_("Studies by the day they were received, newest first, and within a day the most suspicious first"),
        fields=("-received_on", "-triage_rank", "-created_at", "-id"),
    ),
    "suspicion": Order(
        label=_("Most suspicious first"),
        caption=_("Studies, the most suspicious first"),
        fields=("-triage_rank", "-created_at", "-id"),
    ),
    "newest": Order(label=_("Newest first"), caption=_("Studies, newest first"), fields=("-created_at", "-id")),
    "oldest": Order(label=_("Oldest first"), caption=_("Studies, oldest first"), fields=("created_at", "id")),
}
DEFAULT_ORDER = "triage"

UNREAD, ACTIVE, UNREPORTED = "unread", "active", "unreported"
MINE, SHARED = "mine", "shared"


class WorklistForm(forms.Form):
    """What narrows the worklist down. Every field may be left empty."""

    q = forms.CharField(
        label=_("Name or record number"),
        required=False,
        max_length=100,
        widget=forms.TextInput(attrs={"type": "search", "autocomplete": "off"}),
    )
    order = forms.ChoiceField(
        label=_("Order"), required=False, choices=[(name, order.label) for name, order in ORDERS.items()]
    )
    state = forms.ChoiceField(
        label=_("State"),
        required=False,
        choices=[
            ("", _("All")),
            (UNREAD, _("unread answers")),
            (UNREPORTED, _("done, no signed report yet")),
            (ACTIVE, _("waiting or being analysed")),
            *Analysis.State.choices,
        ],
    )
    whose = forms.ChoiceField(
        label=_("Whose"),
        required=False,
        choices=[("", _("All that I may see")), (MINE, _("Received by me")), (SHARED, _("Shared with me"))],
    )
    diagnosis = forms.ChoiceField(
        label=_("Class, where revealed to you"),
        required=False,
        choices=[("", _("All")), *CLASS_LABELS.items()],
    )
    since = forms.DateField(
        label=_("Study date from"), required=False, widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})
    )
    until = forms.DateField(
        label=_("Study date to"), required=False, widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})
    )
    patient = forms.UUIDField(required=False, widget=forms.HiddenInput)


@dataclass(frozen=True, kw_only=True)
class Worklist:
    """What one doctor asked for: the form with its values, and the studies that come of it."""

    doctor: User
    form: WorklistForm
    order_name: str

    @classmethod
    def of(cls, doctor: User, *, asked: QueryDict, session: Any) -> "Worklist":
        """Read what was asked for in an address; an order that was asked for is kept in the session."""
        asked_order, kept_order = asked.get("order"), session.get(SESSION_KEY)
        order = asked_order if asked_order in ORDERS else kept_order_name(session)
        if asked_order == order != kept_order:
            session[SESSION_KEY] = order
        # The form shows the order that holds, also where the address names none.
        data = asked.copy()
        data["order"] = order
        form = WorklistForm(data)
        form.is_valid()
        return cls(doctor=doctor, form=form, order_name=order)

    @property
    def order(self) -> Order:
        """The order that holds."""
        return ORDERS[self.order_name]

    @cached_property
    def chosen(self) -> dict[str, Any]:
        """The filters that narrow the list, by name; those that are empty or do not read are left out."""
        return {
            name: value for name, value in self.form.cleaned_data.items() if value not in ("", None) and name != "order"
        }

    @property
    def first_fields(self) -> list[forms.BoundField]:
        """The fields of the form that are always in sight."""
        return [self.form[name] for name in ("patient", "q", "state", "order")]

    @property
    def more_fields(self) -> list[forms.BoundField]:
        """The fields of the form that are folded away until they are needed."""
        return [self.form[name] for name in ("whose", "diagnosis", "since", "until")]

    @property
    def is_filtered(self) -> bool:
        """Whether anything narrows the list."""
        return bool(self.chosen)

    @property
    def has_more_filters(self) -> bool:
        """Whether one of the filters is in use that the page otherwise folds away."""
        return bool(self.chosen.keys() - {"q", "state", "patient"})

    @cached_property
    def patient(self) -> Patient | None:
        """The one patient whose studies are asked for, if the doctor may see the record."""
        if "patient" not in self.chosen:
            return None
        return Patient.objects.visible_to(self.doctor).filter(id=self.chosen["patient"]).first()

    def studies(self) -> StudyQuerySet:
        """Return the studies that the doctor may see and asked for, unordered."""
        chosen = self.chosen
        studies = Study.objects.visible_to(self.doctor)
        if "q" in chosen:
            studies = studies.filter(patient__in=Patient.objects.matching(chosen["q"]))
        if "patient" in chosen:
            studies = studies.filter(patient=chosen["patient"])
        if "since" in chosen:
            studies = studies.filter(study_date__gte=chosen["since"])
        if "until" in chosen:
            studies = studies.filter(study_date__lte=chosen["until"])
        if chosen.get("whose") == MINE:
            studies = studies.filter(created_by=self.doctor)
        elif chosen.get("whose") == SHARED:
            studies = studies.exclude(created_by=self.doctor)
        if "diagnosis" in chosen:
            # Of a study that the doctor has still to read first, a filter would give the answer away.
            studies = studies.with_revealed_to(self.doctor).filter(is_revealed=True, triage_class=chosen["diagnosis"])  # type: ignore[misc] # annotated
        return self._in_state(studies, state=chosen.get("state", ""))

    def _in_state(self, studies: StudyQuerySet, *, state: str) -> StudyQuerySet:
        if state == UNREAD:
            return studies.with_unread(self.doctor).filter(is_unread=True)  # type: ignore[misc] # annotated
        if state == ACTIVE:
            return studies.filter(state__in=Analysis.ACTIVE)
        if state == UNREPORTED:
            return awaiting_report(studies)
        return studies.filter(state=state) if state else studies

    def page(self, *, after: str) -> Page:
        """Return one page of rows, ready to be shown."""
        return page_of(rows_for(self.doctor, self.studies()), order=self.order.fields, after=after)


def kept_order_name(session: Any) -> str:
    """Return the order that a doctor chose last, or the one that holds until somebody chooses."""
    kept = session.get(SESSION_KEY)
    return kept if kept in ORDERS else DEFAULT_ORDER


def awaiting_report(studies: StudyQuerySet) -> StudyQuerySet:
    """Return those of the studies that are analysed and of which no report is signed yet.

    By the name of the relation only: what a report is, ``studies`` does not know.
    """
    return studies.filter(state=Analysis.State.SUCCEEDED).exclude(reports__signed_at__isnull=False)


def next_to_report(doctor: User, *, behind: Study, session: Any) -> Study | None:
    """Return the study that the doctor reads next: the one that waits for a report behind this one in their order.

    After the last one the list begins anew; None where no other study waits that the doctor may work on.
    """
    fields = ORDERS[kept_order_name(session)].fields
    waiting = awaiting_report(Study.objects.changeable_by(doctor)).exclude(id=behind.id).select_related("patient")
    for after in (key_of(behind, order=fields), ""):
        if rows := page_of(waiting, order=fields, after=after, size=1).rows:
            found: Study = rows[0]
            return found
    return None


def rows_for(doctor: User, studies: StudyQuerySet) -> StudyQuerySet:
    """Return the studies with all that a row of the worklist shows to this doctor."""
    return studies.with_slice_count().with_unread(doctor).with_revealed_to(doctor).select_related("patient")


def chosen_studies(doctor: User, *, asked: list[str]) -> StudyQuerySet:
    """Return those of the named studies that the doctor may see; at most one page of them, nonsense left out."""
    ids = []
    for text in asked[:PAGE_SIZE]:
        try:
            ids.append(uuid.UUID(text))
        except ValueError:
            continue
    return Study.objects.visible_to(doctor).filter(id__in=ids)
