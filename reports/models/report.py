"""The report on one study: a draft that a doctor edits, a signed text that nobody changes, a release to the patient.

A signed report is corrected by another one, its amendment, which is a row of its own; a remark is added by an addendum.
"""

import hashlib
import uuid
from datetime import datetime
from functools import cached_property
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.files.base import ContentFile
from django.db import IntegrityError, models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from reports.content import ReportContent, SignaturePart, collect_content, content_sha256
from reports.errors import InvalidTransitionError, PdfError, StaleDraftError, UnreadReportError
from reports.models.frozen import Verification, read_frozen_pdf, report_pdf_path
from reports.models.grant import ReportUserObjectPermission
from reports.text import DraftText
from studies.models import Study
from studies.storage import may_be_committed


class ReportQuerySet(models.QuerySet["Report"]):
    """Reports, restricted to what somebody may see."""

    def visible_to(self, user: Any) -> "ReportQuerySet":
        """Return a doctor's reports (those of the studies they may see) or a patient's released ones; else nothing."""
        if getattr(user, "is_approved_doctor", False):
            return self.filter(study__in=Study.objects.visible_to(user))
        if getattr(user, "is_patient", False):
            return self.newest_released().filter(
                study__patient__user=user,
                id__in=ReportUserObjectPermission.objects.filter(user=user, permission__codename="view_report").values(
                    "content_object_id"
                ),
            )
        return self.none()

    def newest_released(self) -> "ReportQuerySet":
        """Return of each study the newest version that was released: the one that its patient reads."""
        newer = Report.objects.filter(
            study=models.OuterRef("study"), state=Report.State.RELEASED, version__gt=models.OuterRef("version")
        )
        return self.filter(~models.Exists(newer), state=Report.State.RELEASED)

    def newest_of(self, study: Study) -> "Report | None":
        """Return the study's newest version, in whatever state, or None while there is no report."""
        return self.filter(study=study).order_by("-version").first()

    def in_force(self) -> "ReportQuerySet":
        """Return the signed reports that no amendment has replaced."""
        return self.filter(state__in=Report.SIGNED_STATES, superseded_at__isnull=True)


class Report(models.Model):
    """A doctor's report on one study; of an amended report, one version.

    ::

        DRAFT ──sign()──▶ SIGNED ──release()──▶ RELEASED
          ▲                 │                      │
          └────amend()──────┴──────────────────────┘   a new row, the next version

    Signing freezes the content: it is stored as JSON together with its SHA-256 and the PDF made from it, and never
    changes again. Releasing grants the patient. Signing an amendment marks the version before it as superseded; that
    version's content and PDF stay as they are, and the patient reads it until the amendment is released.
    """

    class State(models.TextChoices):
        """Where the report stands."""

        DRAFT = "draft", _("draft")
        SIGNED = "signed", _("signed")
        RELEASED = "released", _("released to the patient")

    SIGNED_STATES = (State.SIGNED, State.RELEASED)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="reports")
    version = models.PositiveSmallIntegerField(default=1, editable=False)
    amends = models.OneToOneField("self", on_delete=models.PROTECT, null=True, editable=False, related_name="amendment")
    amendment_reason = models.TextField(_("reason for the amendment"), blank=True, max_length=1000, editable=False)
    superseded_at = models.DateTimeField(null=True, editable=False)
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
            models.UniqueConstraint(fields=["study", "version"], name="a_version_stands_once_in_a_study"),
            models.UniqueConstraint(
                fields=["study"], condition=models.Q(state="draft"), name="a_study_has_one_draft_at_a_time"
            ),
            models.UniqueConstraint(
                fields=["study"],
                condition=models.Q(state__in=["signed", "released"], superseded_at__isnull=True),
                name="a_study_has_one_signed_report_in_force",
            ),
            models.CheckConstraint(
                condition=models.Q(version=1, amends__isnull=True, amendment_reason="")
                | (models.Q(version__gt=1, amends__isnull=False) & ~models.Q(amendment_reason="")),
                name="every_version_but_the_first_amends_another_for_a_reason",
            ),
            models.CheckConstraint(
                condition=models.Q(superseded_at__isnull=True) | ~models.Q(state="draft"),
                name="only_a_signed_report_is_superseded",
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
        """Whether it is signed, in force, and the patient has not got it yet."""
        return self.state == self.State.SIGNED and not self.is_superseded

    @property
    def is_signed(self) -> bool:
        """Whether the content is frozen."""
        return self.state in self.SIGNED_STATES

    @property
    def text(self) -> DraftText:
        """Findings and impression together."""
        return DraftText(findings_text=self.findings_text, impression=self.impression)

    @property
    def is_amendment(self) -> bool:
        """Whether this version corrects an earlier one."""
        return self.version > 1

    @property
    def is_superseded(self) -> bool:
        """Whether a signed amendment has taken this version's place."""
        return self.superseded_at is not None

    @property
    def can_be_supplemented(self) -> bool:
        """Whether it is signed and in force, so that a doctor may add a remark."""
        return self.is_signed and not self.is_superseded

    @property
    def can_be_amended(self) -> bool:
        """Whether it is signed, in force, and nobody is writing an amendment already."""
        return self.can_be_supplemented and self.next_version is None

    @cached_property
    def are_pictures_erased(self) -> bool:
        """Whether the study's pictures were erased at the patient's wish, so that only the signed words are left."""
        return self.is_signed and not self.study.images.exists()

    @cached_property
    def next_version(self) -> "Report | None":
        """The amendment of this version, be it a draft, or None."""
        return Report.objects.filter(amends=self).select_related("signed_by", "created_by").first()

    @cached_property
    def content(self) -> ReportContent:
        """What the report says: the frozen content once signed, the present state of a draft."""
        return self.content_for(None)

    def content_for(self, reader: Any) -> ReportContent:
        """Return what the report says; a draft compares with the earlier studies that ``reader`` may see."""
        if self.signed_content is not None:
            return ReportContent.from_json(self.signed_content)
        return collect_content(self, reader=reader)

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        """Read the row again, and forget what was made from the old one."""
        for name in ("content", "next_version"):
            self.__dict__.pop(name, None)
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
            raise PdfError(_("This report has no PDF yet: the PDF is made when the report is signed."))
        return read_frozen_pdf(self.pdf, sha256=self.pdf_sha256)

    def verify(self) -> Verification:
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
        for addendum in self.addenda.all():
            problems += addendum.verify().problems
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
                raise InvalidTransitionError(_("This report is signed, so its text can no longer be changed."))
            raise StaleDraftError(self.changed_by_sentence(reader=by))
        self.refresh_from_db()

    def changed_by_sentence(self, *, reader: Any) -> str:
        """Tell whoever holds an older text of this draft who has changed it, when, and that nothing is lost."""
        at = timezone.localtime(self.edited_at or self.created_at)
        values = {"name": str(self.edited_by or self.created_by), "at": f"{at:%H:%M}"}
        if self.edited_by_id == reader.pk:
            return (
                _(
                    "You have changed this draft in another window at %(at)s. Nothing was overwritten: compare both "
                    "texts and choose."
                )
                % values
            )
        return (
            _(
                "%(name)s has changed this draft at %(at)s, after you opened it. Nothing was overwritten: compare both "
                "texts and choose."
            )
            % values
        )

    def news_sentence(self, *, reader: Any) -> str:
        """Tell an editor that was opened earlier what has become of the draft."""
        if self.signed_at is not None:
            at = timezone.localtime(self.signed_at)
            return _("%(name)s has signed this report at %(at)s, so it can no longer be changed.") % {
                "name": self.signed_by,
                "at": f"{at:%H:%M}",
            }
        at = timezone.localtime(self.edited_at or self.created_at)
        return _("%(name)s has changed this draft at %(at)s.") % {
            "name": self.edited_by or self.created_by,
            "at": f"{at:%H:%M}",
        }

    def check_can_be_signed(self, *, by: Any, revision: int) -> None:
        """Raise what ``sign`` would raise for this person and revision, before the slow work of making a PDF."""
        if not by.is_approved_doctor:
            raise PermissionDenied(_("Only an approved doctor can sign a report."))
        if self.is_signed:
            raise InvalidTransitionError(
                _("%(name)s has signed this report already, so it was not signed a second time.")
                % {"name": self.signed_by}
            )
        if not self.can_be_signed:
            raise InvalidTransitionError(
                _("Only a draft with an impression can be signed. Please write the impression first.")
            )
        if self.revision != revision:
            raise StaleDraftError(
                _("The draft was changed since you read it. Please read it again, then sign what you have read.")
            )
        if not self.openings.filter(doctor=by, revision=revision).exists():
            raise UnreadReportError(
                _(
                    "You have not opened this report yet. Please open it, look at the pictures and read the text; "
                    "then sign. Reports cannot be signed unread."
                )
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
                if self.amends_id is not None:
                    # First, because only one signed report of a study may be in force.
                    Report.objects.filter(id=self.amends_id).update(superseded_at=signature.at)
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
                    raise StaleDraftError(_("The draft was changed meanwhile. Please read it again before signing."))
        except BaseException as error:
            if not may_be_committed(error):
                self.pdf.storage.delete(path)
            raise
        self.refresh_from_db()

    def release(self, *, by: Any) -> None:
        """Let the patient read the signed report. The grant itself is written by ``reports.permissions``.

        Raises ``PermissionDenied`` unless ``by`` is an approved doctor, ``InvalidTransitionError`` unless signed.
        """
        if not by.is_approved_doctor:
            raise PermissionDenied(_("Only an approved doctor can release a report."))
        waiting = Report.objects.filter(id=self.id, state=self.State.SIGNED, superseded_at__isnull=True)
        is_released = waiting.update(state=self.State.RELEASED, released_by=by, released_at=timezone.now())
        if not is_released:
            raise InvalidTransitionError(_("Only a signed report that has not been released yet can be released."))
        self.refresh_from_db()

    def amend(self, *, by: Any, reason: str) -> "Report":
        """Open the next version: a draft with this version's text, to be corrected and signed like any other.

        Raises ``PermissionDenied`` unless ``by`` is an approved doctor, ``InvalidTransitionError`` unless this version
        is signed, in force and not being amended yet, or without a reason. This version stays as it is.
        """
        if not by.is_approved_doctor:
            raise PermissionDenied(_("Only an approved doctor can amend a report."))
        if not reason.strip():
            raise InvalidTransitionError(_("Please say why the report is amended; the reason is printed on it."))
        refusal = InvalidTransitionError(
            _("Only the signed version that is in force can be amended, and by one amendment at a time.")
        )
        if not self.can_be_supplemented:
            raise refusal
        # What was added later belongs to what the new version has to say; the doctor shortens it.
        additions = [
            _("Addendum of %(at)s by %(name)s: %(text)s")
            % {"at": f"{timezone.localtime(one.signed_at):%d.%m.%Y}", "name": one.signer_name, "text": one.text}
            for one in self.addenda.all()
        ]
        try:
            with transaction.atomic():
                return Report.objects.create(
                    study=self.study,
                    version=self.version + 1,
                    amends=self,
                    amendment_reason=reason.strip(),
                    findings_text="\n\n".join([self.findings_text, *additions]).strip(),
                    impression=self.impression,
                    created_by=by,
                )
        except IntegrityError as error:
            raise refusal from error
