"""A remark that a doctor adds to a signed report, signed itself; the report stays untouched."""

import hashlib
import uuid
from functools import cached_property
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.files.base import ContentFile
from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

from reports.content import AddendumContent, content_sha256
from reports.errors import InvalidTransitionError, PdfError
from reports.models.frozen import Verification, read_frozen_pdf, report_pdf_path
from reports.models.report import Report
from studies.storage import may_be_committed


class Addendum(models.Model):
    """One signed remark under a report. A row is written once, with its signature, and never changed."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    report = models.ForeignKey(Report, on_delete=models.PROTECT, related_name="addenda", editable=False)
    number = models.PositiveSmallIntegerField(editable=False)
    text = models.TextField(_("addendum"), max_length=5000, editable=False)
    signed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, editable=False, related_name="signed_addenda"
    )
    signed_at = models.DateTimeField(editable=False)
    signed_content = models.JSONField(editable=False)
    content_sha256 = models.CharField(max_length=64, editable=False)
    pdf = models.FileField(upload_to=report_pdf_path, max_length=100, editable=False)
    pdf_sha256 = models.CharField(max_length=64, editable=False)

    class Meta:
        verbose_name = _("addendum")
        verbose_name_plural = _("addenda")
        ordering = ["report", "number"]
        constraints = [
            models.UniqueConstraint(fields=["report", "number"], name="an_addendum_number_stands_once_in_a_report"),
            models.CheckConstraint(condition=~models.Q(text=""), name="an_addendum_says_something"),
            models.CheckConstraint(
                condition=~models.Q(content_sha256="") & ~models.Q(pdf="") & ~models.Q(pdf_sha256=""),
                name="an_addendum_is_signed",
            ),
        ]

    def __str__(self) -> str:
        return f"addendum {self.id}"

    @cached_property
    def content(self) -> AddendumContent:
        """What was signed."""
        return AddendumContent.from_json(self.signed_content)

    @property
    def signer_name(self) -> str:
        """The signer's name on the day of signing."""
        return self.content.signature.name

    @classmethod
    def sign(cls, report: Report, *, by: Any, content: AddendumContent, pdf: bytes) -> "Addendum":
        """Store ``content``, which carries the signature, with the PDF made from it and their hashes.

        Raises ``PermissionDenied`` unless ``by`` is an approved doctor, ``InvalidTransitionError`` unless the report
        is signed and in force and has no addendum of this number yet. Then no file is left.
        """
        if not by.is_approved_doctor:
            raise PermissionDenied(_("Only an approved doctor can add to a report."))
        if content.signature.user_id != str(by.pk) or content.report_id != str(report.pk):
            raise ValueError(f"The content is not this signer's or report's. Received: report_id={content.report_id}.")
        frozen = content.to_json()
        storage = cls.pdf.field.storage
        path = storage.save(report_pdf_path(report, "addendum.pdf"), ContentFile(pdf))
        try:
            with transaction.atomic():
                # Under the report's lock, so that an amendment cannot take its place in the same moment.
                locked = Report.objects.select_for_update().get(id=report.id)
                if not locked.can_be_supplemented:
                    raise InvalidTransitionError(
                        _("Only a signed report that is in force can get an addendum. Please open its newest version.")
                    )
                if locked.addenda.count() + 1 != content.number:
                    raise InvalidTransitionError(
                        _("Another addendum was signed a moment ago. Please read it, then sign yours again.")
                    )
                return cls.objects.create(
                    report=locked,
                    number=content.number,
                    text=content.text,
                    signed_by=by,
                    signed_at=content.signature.at,
                    signed_content=frozen,
                    content_sha256=content_sha256(frozen),
                    pdf=path,
                    pdf_sha256=hashlib.sha256(pdf).hexdigest(),
                )
        except BaseException as error:
            if not may_be_committed(error):
                storage.delete(path)
            raise

    def read_pdf(self) -> bytes:
        """Return the stored page. Raises ``PdfError`` where it is missing or not the one that was signed."""
        return read_frozen_pdf(self.pdf, sha256=self.pdf_sha256)

    def verify(self) -> Verification:
        """Compare the addendum with its hashes."""
        problems = []
        if content_sha256(self.signed_content) != self.content_sha256:
            problems.append(f"The content of addendum {self.number} is not the one whose hash was recorded.")
        try:
            content = AddendumContent.from_json(self.signed_content)
        except (AttributeError, KeyError, TypeError, ValueError):
            problems.append(f"The content of addendum {self.number} cannot be read.")
        else:
            recorded = (str(self.report_id), self.number, self.text, str(self.signed_by_id), self.signed_at)
            signature = content.signature
            if recorded != (content.report_id, content.number, content.text, signature.user_id, signature.at):
                problems.append(f"Text, signer or time of addendum {self.number} differ from the signed content.")
        try:
            self.read_pdf()
        except PdfError:
            problems.append(f"The PDF of addendum {self.number} is missing or not the one whose hash was recorded.")
        return Verification(problems=tuple(problems))
