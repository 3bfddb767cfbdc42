"""Reports in the administration: who signed and released what and when, never what it says, and nothing to change."""

from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from reports import template_admin  # noqa: F401 - registers the templates
from reports.models import Report


@admin.register(Report)
class ReportAdmin(admin.ModelAdmin):
    """The states of the reports of the administrator's own hospital; a superuser sees those of all hospitals."""

    list_display = ["id", "hospital", "record_number", "state", "created_at", "signed_by", "signed_at", "released_at"]
    list_display_links = ["id"]
    list_filter = ["state", "signed_at", "released_at", "study__patient__hospital"]
    search_fields = ["=id", "=study__patient__record_number", "signed_by__email", "signed_by__family_name"]
    search_help_text = _("Report or record number as a whole, or the signing doctor's name or e-mail address.")
    date_hierarchy = "created_at"
    list_select_related = ["study__patient__hospital", "signed_by"]
    fields = readonly_fields = (
        "id",
        "hospital",
        "record_number",
        "state",
        "revision",
        "created_by",
        "created_at",
        "edited_by",
        "edited_at",
        "signed_by",
        "signed_at",
        "content_sha256",
        "pdf_sha256",
        "is_intact",
        "released_by",
        "released_at",
    )

    @admin.display(description=_("hospital"), ordering="study__patient__hospital__name")
    def hospital(self, report: Report) -> str:
        """Whose report it is."""
        return str(report.study.patient.hospital)

    @admin.display(description=_("record number"))
    def record_number(self, report: Report) -> str:
        """Under which number the hospital keeps the patient; the administration shows no names of patients."""
        return report.study.patient.record_number

    @admin.display(description=_("as it was signed"), boolean=True)
    def is_intact(self, report: Report) -> bool:
        """Whether content and PDF still have the hashes recorded at the signature."""
        return report.verify().is_intact

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Report]:
        """Return the reports of the administrator's hospital."""
        reports = super().get_queryset(request).select_related("study__patient__hospital")
        user = request.user
        if not isinstance(user, User) or not user.is_administrator:
            return reports.none()
        if user.is_superuser:
            return reports
        return reports.filter(study__patient__hospital_id=user.hospital_id) if user.hospital_id else reports.none()

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Administrators see this part of the administration."""
        return bool(getattr(request.user, "is_administrator", False))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Administrators look; which rows there are is up to ``get_queryset``."""
        return bool(getattr(request.user, "is_administrator", False))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody writes a report here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes a report here."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes a report."""
        return False
