"""Texts that a hospital's reports start from: written by its administrators, chosen by its doctors."""

import re
import uuid
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from accounts.models import Hospital
from reports.text import DraftText

PLACEHOLDER = re.compile(r"\{(\w+)\}")


class ReportTemplateQuerySet(models.QuerySet["ReportTemplate"]):
    """Templates, restricted to a doctor's own hospital."""

    def usable_by(self, user: Any) -> "ReportTemplateQuerySet":
        """Return the templates that this doctor may choose."""
        if not getattr(user, "is_approved_doctor", False):
            return self.none()
        return self.filter(hospital_id=user.hospital_id, is_active=True)

    def chosen(self, key: str | None, *, by: Any) -> "ReportTemplate | None":
        """Return the template that a form names, or None for none, an unknown or a foreign one."""
        try:
            return self.usable_by(by).filter(id=uuid.UUID(key or "")).first()
        except ValueError:
            return None


class ReportTemplate(models.Model):
    """A text with a small, fixed set of placeholders in braces, which are replaced and never executed."""

    # What may stand in braces; the administration lists it. The values are made in ``reports.drafting``.
    PLACEHOLDERS = {
        "patient": _("given and family name"),
        "birth_date": _("date of birth"),
        "record_number": _("record number"),
        "study_date": _("date of the examination"),
        "clinical_question": _("clinical question"),
        "slices": _("number of slices"),
        "measurements": _("the findings that the system writes from the measurements"),
        "summary": _("the impression that the system writes from the measurements"),
        "comparison": _("comparison with the examination before"),
        "doctor": _("name of the doctor who drafts"),
    }

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    hospital = models.ForeignKey(
        Hospital, on_delete=models.PROTECT, related_name="report_templates", verbose_name=_("hospital")
    )
    name = models.CharField(_("name"), max_length=80)
    findings_text = models.TextField(_("findings"), blank=True, max_length=10_000)
    impression = models.TextField(_("impression"), blank=True, max_length=5000)
    is_active = models.BooleanField(_("can be chosen"), default=True)
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, editable=False, related_name="+"
    )
    changed_at = models.DateTimeField(auto_now=True)

    objects = ReportTemplateQuerySet.as_manager()

    class Meta:
        verbose_name = _("report template")
        verbose_name_plural = _("report templates")
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint("hospital", Lower("name"), name="a_template_name_stands_once_in_a_hospital"),
            models.CheckConstraint(condition=~models.Q(findings_text="", impression=""), name="a_template_has_a_text"),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Raise ``ValidationError`` beside the text that has an unknown placeholder, naming those that exist."""
        known = ", ".join(f"{{{name}}}" for name in self.PLACEHOLDERS)
        wrong = {}
        for field in ("findings_text", "impression"):
            unknown = sorted(set(PLACEHOLDER.findall(getattr(self, field))) - set(self.PLACEHOLDERS))
            if unknown:
                wrong[field] = _("There is no placeholder %(unknown)s. Please use one of these: %(known)s.") % {
                    "unknown": ", ".join(f"{{{name}}}" for name in unknown),
                    "known": known,
                }
        if wrong:
            raise ValidationError(wrong)

    def filled(self, values: dict[str, str]) -> DraftText:
        """Return the text with the placeholders replaced; what a value contains is never looked at again."""

        def fill(text: str) -> str:
            return PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), text)

        return DraftText(findings_text=fill(self.findings_text), impression=fill(self.impression))
