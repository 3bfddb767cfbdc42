"""The report on one study: a draft that a doctor edits, a signed text that nobody changes, a release to the patient."""

import hashlib
import json
import uuid
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.files.base import ContentFile
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from guardian.models import UserObjectPermissionBase

from reports.errors import InvalidTransitionError, StaleDraftError
from studies.models import AllowedPermissionsMixin, Study


def report_pdf_path(instance: models.Model, filename: str) -> str:
    """Name the stored PDF of a signed report."""
    name = uuid.uuid4()
    return f"reports/{name.hex[:2]}/{name}.pdf"


class ReportQuerySet(models.QuerySet["Report"]):
    """Reports, restricted to what somebody may see."""

    def visible_to(self, user: Any) -> "ReportQuerySet":
        """Return a doctor's reports (those of the studies they may see) or a patient's released ones; else nothing."""
        if getattr(user, "is_approved_doctor", False):
            return self.filter(study__in=Study.objects.visible_to(user))
        if getattr(user, "is_patient", False):
            return self.filter(
                state=Report.State.RELEASED,
                study__patient__user=user,
                id__in=ReportUserObjectPermission.objects.filter(user=user, permission__codename="view_report").values(
                    "content_object_id"
                ),
            )
        return self.none()


class Report(models.Model):
    """A doctor's report on one study.

    ::

        DRAFT ──sign()──▶ SIGNED ──release()──▶ RELEASED

    Signing freezes the content: it is stored as JSON together with its SHA-256 and the PDF made from it, and never
    changes again. Releasing grants the patient.
    """

    class State(models.TextChoices):
        """Where the report stands."""

        DRAFT = "draft", _("draft")
        SIGNED = "signed", _("signed")
        RELEASED = "released", _("released to the patient")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    study = models.OneToOneField(Study, on_delete=models.PROTECT, related_name="report")
    state = models.CharField(max_length=10, choices=State, default=State.DRAFT, editable=False)
    findings_text = models.TextField(_("findings"), blank=True, max_length=20_000)
    impression = models.TextField(_("impression"), blank=True, max_length=10_000)
    revision = models.PositiveIntegerField(default=1, editable=False)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    edited_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    edited_at = models.DateTimeField(null=True, editable=False)
    signed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, editable=False, related_name="signed_reports"
    )
    signed_at = models.DateTimeField(null=True, editable=False)
    signed_content = models.JSONField(null=True, editable=False)
    content_sha256 = models.CharField(max_length=64, blank=True, editable=False)
    pdf = models.FileField(upload_to=report_pdf_path, max_length=100, blank=True, editable=False)
    pdf_sha256 = models.CharField(max_length=64, blank=True, editable=False)
    released_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, editable=False, related_name="+"
    )
    released_at = models.DateTimeField(null=True, editable=False)

    objects = ReportQuerySet.as_manager()

    class Meta:
        verbose_name = _("report")
        verbose_name_plural = _("reports")
        ordering = ["-created_at", "id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(state="draft")
                | (
                    models.Q(signed_by__isnull=False, signed_at__isnull=False, signed_content__isnull=False)
                    & ~models.Q(content_sha256="")
                    & ~models.Q(pdf="")
                    & ~models.Q(pdf_sha256="")
                ),
                name="a_signed_report_has_signer_content_and_pdf",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="draft") | models.Q(signed_at__isnull=True), name="a_draft_is_not_signed"
            ),
            models.CheckConstraint(
                condition=~models.Q(state="released") | models.Q(released_by__isnull=False, released_at__isnull=False),
                name="a_released_report_says_who_released_it",
            ),
        ]

    def __str__(self) -> str:
        return f"report {self.id}"

    @property
    def can_be_edited(self) -> bool:
        """Whether the text may still change."""
        return self.state == self.State.DRAFT

    @property
    def can_be_signed(self) -> bool:
        """Whether it is a draft with an impression."""
        return self.state == self.State.DRAFT and bool(self.impression.strip())

    @property
    def can_be_released(self) -> bool:
        """Whether it is signed and the patient has not got it yet."""
        return self.state == self.State.SIGNED

    @property
    def is_signed(self) -> bool:
        """Whether the content is frozen."""
        return self.state in (self.State.SIGNED, self.State.RELEASED)

    def edit(self, *, by: Any, revision: int, findings_text: str, impression: str) -> None:
        """Store a new text of the draft.

        Raises ``InvalidTransitionError`` once signed, ``StaleDraftError`` if ``revision`` is not the stored one.
        """
        is_stored = Report.objects.filter(id=self.id, state=self.State.DRAFT, revision=revision).update(
            findings_text=findings_text,
            impression=impression,
            edited_by=by,
            edited_at=timezone.now(),
            revision=models.F("revision") + 1,
        )
        if not is_stored:
            self.refresh_from_db()
            if not self.can_be_edited:
                raise InvalidTransitionError("This report is signed, so its text can no longer be changed.")
            raise StaleDraftError(
                f"{self.edited_by} has changed this draft since you opened it. Your text is still below and nothing was "
                "overwritten: compare it with the stored text, then save again."
            )
        self.refresh_from_db()

    def sign(self, *, by: Any, revision: int, content: dict[str, Any], pdf: bytes) -> None:
        """Freeze the report: ``content`` (JSON-ready) and the PDF made from it are stored with their hashes.

        Raises ``PermissionDenied`` unless ``by`` is an approved doctor, ``InvalidTransitionError`` unless this is a
        draft with an impression, ``StaleDraftError`` if the draft changed since ``revision``.
        """
        if not by.is_approved_doctor:
            raise PermissionDenied("Only an approved doctor can sign a report.")
        if not self.can_be_signed:
            raise InvalidTransitionError(
                "Only a draft with an impression can be signed. Please write the impression first."
            )
        field = self._meta.get_field("pdf")
        path = field.storage.save(field.generate_filename(self, "report.pdf"), ContentFile(pdf))
        try:
            with transaction.atomic():
                is_signed = Report.objects.filter(id=self.id, state=self.State.DRAFT, revision=revision).update(
                    state=self.State.SIGNED,
                    signed_by=by,
                    signed_at=timezone.now(),
                    signed_content=content,
                    content_sha256=content_sha256(content),
                    pdf=path,
                    pdf_sha256=hashlib.sha256(pdf).hexdigest(),
                    revision=models.F("revision") + 1,
                )
                if not is_signed:
                    raise StaleDraftError(
                        "The draft was changed or signed by somebody else meanwhile. Please read it again before signing."
                    )
        except BaseException:
            field.storage.delete(path)
            raise
        self.refresh_from_db()

    def release(self, *, by: Any) -> None:
        """Let the patient read the signed report. The grant itself is written by ``reports.permissions``.

        Raises ``PermissionDenied`` unless ``by`` is an approved doctor, ``InvalidTransitionError`` unless signed.
        """
        if not by.is_approved_doctor:
            raise PermissionDenied("Only an approved doctor can release a report.")
        is_released = Report.objects.filter(id=self.id, state=self.State.SIGNED).update(
            state=self.State.RELEASED, released_by=by, released_at=timezone.now()
        )
        if not is_released:
            raise InvalidTransitionError("Only a signed report that has not been released yet can be released.")
        self.refresh_from_db()


def content_sha256(content: dict[str, Any]) -> str:
    """Return the SHA-256 of the canonical JSON (sorted keys, no white space, UTF-8) of a report's content."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


class ReportUserObjectPermission(AllowedPermissionsMixin, UserObjectPermissionBase):
    """A patient's grant on one released report."""

    allowed_permissions = frozenset({"view_report"})
    content_object = models.ForeignKey(Report, on_delete=models.CASCADE)

    class Meta(UserObjectPermissionBase.Meta):
        pass
