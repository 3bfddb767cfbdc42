"""The main menu: which pages stand in it for whom, and where somebody is."""

from dataclasses import dataclass

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts.models import User


@dataclass(frozen=True, kw_only=True)
class NavigationItem:
    """One entry of the main menu."""

    label: str
    url: str
    is_current: bool
    is_section: bool


def navigation_for(request: HttpRequest) -> tuple[NavigationItem, ...]:
    """Return the menu of whoever asks, in order; empty for anonymous people, for doctors nobody has approved yet, and
    before a second step that is needed.

    ``is_current`` marks the page itself, ``is_section`` the entry under which the page stands (a study under
    "Studies").
    """
    user = getattr(request, "user", None)
    if not isinstance(user, User) or getattr(request, "is_second_factor_missing", False):
        return ()
    entries: list[tuple[str, str, tuple[str, ...]]] = []
    if user.is_approved_doctor:
        entries = [
            (_("Today"), "home", ()),
            (
                _("Studies"),
                "studies:study_list",
                (
                    "studies:study_detail",
                    "studies:study_read",
                    "studies:study_share",
                    "studies:image_add",
                    "studies:handover_list",
                    "studies:handover_take",
                ),
            ),
            (_("New study"), "studies:study_create", ()),
            (
                _("Import"),
                "studies:import_list",
                ("studies:import_create", "studies:import_detail", "studies:import_answer"),
            ),
            (
                _("Patients"),
                "studies:patient_list",
                (
                    "studies:patient_detail",
                    "studies:patient_edit",
                    "studies:patient_create",
                    "studies:emergency_access",
                ),
            ),
            (_("Worth judging"), "worth_judging", ()),
            (_("Reports"), "reports:report_list", ("reports:report_detail", "reports:report_sign")),
            (_("Figures"), "dashboard:quality", ("dashboard:page",)),
        ]
    elif user.is_patient:
        entries = [
            (_("My reports"), "reports:my_reports", ("reports:my_report", "reports:report_share")),
            (_("Shared"), "reports:share_list", ()),
            (
                _("My own pictures"),
                "studies:own_list",
                ("studies:own_create", "studies:own_study", "studies:own_handover", "reports:automatic_report"),
            ),
            (_("Claim my record"), "studies:claim_record", ()),
            (_("My data"), "reports:my_data", ("erasure_mine", "teaching")),
            (_("Who has looked"), "access_history", ()),
        ]
    elif user.is_administrator and user.is_staff:
        entries = [
            (_("Administration"), "admin:index", ()),
            (_("Figures"), "dashboard:quality", ("dashboard:page", "dashboard:problems")),
            (_("Monitoring"), "monitoring", ("monitoring_hospital",)),
            (_("Erasure"), "erasure_list", ("erasure_decide",)),
        ]
        if user.is_superuser:
            entries.append((_("Trainings"), "training_list", ("training",)))
    here = request.resolver_match.view_name if request.resolver_match else ""
    return tuple(
        NavigationItem(label=label, url=reverse(name), is_current=here == name, is_section=here in inner)
        for label, name, inner in entries
    )
