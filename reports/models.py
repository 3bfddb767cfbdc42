"""The report on one study: a draft that a doctor edits, a signed text that nobody changes, a release to the patient."""

import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.files.base import ContentFile
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from guardian.models import UserObjectPermissionBase

from reports.content import ReportContent, SignaturePart, collect_content, content_sha256
from reports.errors import InvalidTransitionError, PdfError, StaleDraftError
from studies.models import AllowedPermissionsMixin, Study


def report_pdf_path(instance: models.Model, filename: str) -> str:
    """Name the stored PDF of a signed report."""
    name = uuid.uuid4()
    return f"reports/{name.hex[:2]}/{name}.pdf"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What checking a signed report against its hashes found: full sentences, none if all is well."""

    problems: tuple[str, ...]

    @property
    def is_intact(self) -> bool:
        """Whether content and PDF are those that were signed."""
        return not self.problems


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

    @cached_property
    def content(self) -> ReportContent:
        """What the report says: the frozen content once signed, the present state of a draft."""
        if self.signed_content is not None:
            return ReportContent.from_json(self.signed_content)
        return collect_content(self)

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        """Read the row again, and forget the content that was made from the old one."""
        self.__dict__.pop("content", None)
        super().refresh_from_db(*args, **kwargs)

    def can_be_changed_by(self, user: Any) -> bool:
        """Whether this person may edit, sign and release: a doctor who may work on the study, not only look at it."""
        return self.study.can_be_changed_by(user)

    def signature_of(self, user: Any, *, at: datetime) -> SignaturePart:
        """Return the signature that ``user`` puts under the report at that time, told in the portal's time zone."""
        return SignaturePart(
            user_id=str(user.pk),
            name=user.get_full_name(),
            licence_number=user.licence_number,
            at=timezone.localtime(at).replace(microsecond=0),
            time_zone=timezone.get_current_timezone_name(),
        )

    def read_pdf(self) -> bytes:
        """Return the stored PDF. Raises ``PdfError`` where it is missing or not the one that was signed."""
        if not self.is_signed:
            raise PdfError("This report has no PDF yet: the PDF is made when the report is signed.")
        damaged = PdfError(
            "The stored PDF of this report is damaged, so it is not shown. Please tell your administrator at once."
        )
        try:
            with self.pdf.open("rb") as file:
                pdf = file.read()
        except OSError as error:
            raise damaged from error
        if hashlib.sha256(pdf).hexdigest() != self.pdf_sha256:
            raise damaged
        return pdf

    def verify(self) -> "Verification":
        """Compare the signed report with its hashes; a draft has nothing to compare and passes."""
        frozen = self.signed_content
        if not self.is_signed or frozen is None:
            return Verification(problems=())
        problems = []
        if content_sha256(frozen) != self.content_sha256:
            problems.append("The signed content is not the one whose hash was recorded.")
        try:
            content = ReportContent.from_json(frozen)
        except (AttributeError, KeyError, TypeError, ValueError):
            problems.append("The signed content cannot be read.")
        else:
            signature = content.signature
            if signature is None or signature.user_id != str(self.signed_by_id) or signature.at != self.signed_at:
                problems.append("Signer or time differ from the signed content.")
            if (content.findings_text, content.impression) != (self.findings_text, self.impression):
                problems.append("The text differs from the signed content.")
        try:
            self.read_pdf()
        except PdfError:
            problems.append("The PDF is missing or not the one whose hash was recorded.")
        return Verification(problems=tuple(problems))

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
                f"{self.edited_by or self.created_by} has changed this draft since you opened it. Your text is still "
                "below and nothing was overwritten: compare it with the stored text, then save again."
            )
        self.refresh_from_db()

    def check_can_be_signed(self, *, by: Any, revision: int) -> None:
        """Raise what ``sign`` would raise for this person and revision, before the slow work of making a PDF."""
        if not by.is_approved_doctor:
            raise PermissionDenied("Only an approved doctor can sign a report.")
        if self.is_signed:
            raise InvalidTransitionError(
                f"{self.signed_by} has signed this report already, so it was not signed a second time."
            )
        if not self.can_be_signed:
            raise InvalidTransitionError(
                "Only a draft with an impression can be signed. Please write the impression first."
            )
        if self.revision != revision:
            raise StaleDraftError(
                "The draft was changed since you read it. Please read it again, then sign what you have read."
            )

    def sign(self, *, by: Any, revision: int, content: ReportContent, pdf: bytes) -> None:
        """Freeze the report: ``content``, which carries the signature, and the PDF made from it, with their hashes.

        Raises ``PermissionDenied`` unless ``by`` is an approved doctor, ``InvalidTransitionError`` unless this is a
        draft with an impression, ``StaleDraftError`` if the draft changed since ``revision``. Then no file is left.
        """
        self.check_can_be_signed(by=by, revision=revision)
        signature = content.signature
        if signature is None or signature.user_id != str(by.pk):
            raise ValueError(f"The content does not carry the signer's signature. Received: signature={signature!r}.")
        frozen = content.to_json()
        path = self.pdf.storage.save(report_pdf_path(self, "report.pdf"), ContentFile(pdf))
        try:
            with transaction.atomic():
                is_signed = Report.objects.filter(id=self.id, state=self.State.DRAFT, revision=revision).update(
                    state=self.State.SIGNED,
                    signed_by=by,
                    signed_at=signature.at,
                    signed_content=frozen,
                    content_sha256=content_sha256(frozen),
                    pdf=path,
                    pdf_sha256=hashlib.sha256(pdf).hexdigest(),
                    revision=models.F("revision") + 1,
                )
                if not is_signed:
                    self.refresh_from_db()
                    self.check_can_be_signed(by=by, revision=revision)
                    raise StaleDraftError("The draft was changed meanwhile. Please read it again before signing.")
        except BaseException:
            self.pdf.storage.delete(path)
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


class ReportUserObjectPermission(AllowedPermissionsMixin, UserObjectPermissionBase):
    """A patient's grant on one released report."""

    allowed_permissions = frozenset({"view_report"})
    content_object = models.ForeignKey(Report, on_delete=models.CASCADE)

    class Meta(UserObjectPermissionBase.Meta):
        pass
