"""Report templates in the administration: each hospital's administrators write their own hospital's."""

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from reports.models import ReportTemplate


@admin.register(ReportTemplate)
class ReportTemplateAdmin(admin.ModelAdmin):
    """The templates of the administrator's own hospital; a superuser sees and writes those of all hospitals."""

    list_display = ["name", "hospital", "is_active", "changed_by", "changed_at"]
    list_filter = ["is_active", "hospital"]
    search_fields = ["name", "findings_text", "impression"]
    search_help_text = _("Name, or words of the text.")
    list_select_related = ["hospital", "changed_by"]
    fields = ["hospital", "name", "findings_text", "impression", "placeholders", "is_active"]
    readonly_fields = ["placeholders"]

    @admin.display(description=_("placeholders"))
    def placeholders(self, template: ReportTemplate) -> SafeString:
        """What may stand in braces."""
        return format_html_join("", "<div><code>{{{}}}</code> {}</div>", ReportTemplate.PLACEHOLDERS.items())

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[ReportTemplate]:
        """Return the templates of the administrator's hospital."""
        templates = super().get_queryset(request)
        user = request.user
        if not isinstance(user, User) or not user.is_administrator:
            return templates.none()
        return templates if user.is_superuser else templates.filter(hospital_id=user.hospital_id or None)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm]:
        """Offer an administrator no hospital but the own one, and not the ways to add or change one."""
        form = super().get_form(request, obj, change=change, **kwargs)
        field = form.base_fields["hospital"]
        user = request.user
        assert isinstance(user, User)  # noqa: S101 - narrows the type: the administration has no anonymous pages
        if not user.is_superuser:
            field.queryset = field.queryset.filter(id=user.hospital_id)  # type: ignore[attr-defined]
            field.initial = user.hospital_id
        return form

    def save_model(self, request: HttpRequest, obj: ReportTemplate, form: Any, change: bool) -> None:
        """Store the template and who wrote it."""
        obj.changed_by = cast(User, request.user)
        super().save_model(request, obj, form, change)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Administrators see this part of the administration."""
        return bool(getattr(request.user, "is_administrator", False))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Administrators look; which rows there are is up to ``get_queryset``."""
        return bool(getattr(request.user, "is_administrator", False))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """An administrator of a hospital, or a superuser, writes templates."""
        user = request.user
        return self.has_view_permission(request) and bool(
            getattr(user, "is_superuser", False) or getattr(user, "hospital_id", None)
        )

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """As for adding; of other hospitals' templates ``get_queryset`` knows nothing."""
        return self.has_add_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A template may go: reports hold their own text."""
        return self.has_add_permission(request)
