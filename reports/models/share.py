"""A link with which a patient shows one report to somebody outside the portal, and the code that opens it."""

import hmac
import secrets
import uuid
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from reports.models.report import Report
from studies.models.invitation import hash_of


class ShareLinkQuerySet(models.QuerySet["ShareLink"]):
    """Links, restricted to those of one patient or to those that still open something."""

    def visible_to(self, user: Any) -> "ShareLinkQuerySet":
        """Return the links that this patient made for reports of their own records; nothing for anyone else."""
        if not getattr(user, "is_patient", False):
            return self.none()
        return self.filter(created_by=user, report__study__patient__user=user)

    def open(self) -> "ShareLinkQuerySet":
        """Return those that are neither revoked nor too old, of patients who may still read the report themselves."""
        return self.filter(
            revoked_at__isnull=True,
            expires_at__gt=timezone.now(),
            created_by__is_active=True,
            report__study__patient__user=models.F("created_by"),
        )

    def with_token(self, token: str) -> "ShareLinkQuerySet":
        """Return the one that this token was made for."""
        return self.filter(token_hash=hash_of(token))


class ShareLink(models.Model):
    """One report shown to whoever holds the link and can read the recipient's mail.

    ::

        open ──revoke()──▶ revoked
          └──expires_at over──▶ closed

    A code belongs to the browser that asked for it, opens once, and is forgotten after ``CODE_VALID_FOR`` or
    ``MAX_WRONG_CODES`` wrong ones. Neither token nor code is stored, only hashes.
    """

    MAX_WRONG_CODES = 5
    CODE_DIGITS = 8
    CODE_VALID_FOR = timedelta(minutes=10)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    report = models.ForeignKey(Report, on_delete=models.PROTECT, related_name="share_links")
    recipient_email = models.EmailField(_("e-mail address of the reader"))
    token_hash = models.CharField(max_length=64, unique=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    code_hash = models.CharField(max_length=64, blank=True)
    code_expires_at = models.DateTimeField(null=True)
    wrong_codes = models.PositiveSmallIntegerField(default=0)
    opened_count = models.PositiveIntegerField(default=0)
    last_opened_at = models.DateTimeField(null=True)

    objects = ShareLinkQuerySet.as_manager()

    class Meta:
        verbose_name = _("share link")
        verbose_name_plural = _("share links")
        ordering = ["-created_at", "id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(expires_at__gt=models.F("created_at")), name="a_share_link_lasts_for_a_while"
            ),
            models.CheckConstraint(
                condition=models.Q(code_hash="", code_expires_at__isnull=True)
                | (~models.Q(code_hash="") & models.Q(code_expires_at__isnull=False)),
                name="a_code_of_a_share_link_has_an_end",
            ),
            models.CheckConstraint(
                condition=models.Q(opened_count=0, last_opened_at__isnull=True)
                | models.Q(opened_count__gt=0, last_opened_at__isnull=False),
                name="an_opened_share_link_says_when",
            ),
        ]

    def __str__(self) -> str:
        return f"share link {self.pk}"

    @classmethod
    def issue(cls, report: Report, *, by: User, recipient_email: str, days: int) -> tuple["ShareLink", str]:
        """Store a new link that lasts so many days; return it and its token, which is kept nowhere."""
        token = secrets.token_urlsafe(32)
        now = timezone.now()
        link = cls.objects.create(
            report=report,
            recipient_email=recipient_email.strip().lower(),
            token_hash=hash_of(token),
            created_by=by,
            created_at=now,
            expires_at=now + timedelta(days=days),
        )
        return link, token

    @property
    def is_open(self) -> bool:
        """Whether the link still opens something."""
        return self.revoked_at is None and self.expires_at > timezone.now()

    @property
    def report_in_force(self) -> Report | None:
        """The version of the report that its patient reads at this moment."""
        return Report.objects.newest_released().filter(study=self.report.study_id).select_related("study").first()

    def revoke(self) -> None:
        """Close the link at once, for running readings too; revoking twice keeps the first time."""
        ShareLink.objects.filter(pk=self.pk, revoked_at__isnull=True).update(
            revoked_at=timezone.now(), code_hash="", code_expires_at=None
        )
        self.refresh_from_db()

    def issue_code(self, *, browser: str) -> str:
        """Make a code that opens the link in the browser of this name, in place of an older one; return its digits."""
        code = f"{secrets.randbelow(10**self.CODE_DIGITS):0{self.CODE_DIGITS}}"
        self.code_hash = self._hash_of_code(code, browser=browser)
        self.code_expires_at = timezone.now() + self.CODE_VALID_FOR
        self.wrong_codes = 0
        self.save(update_fields=["code_hash", "code_expires_at", "wrong_codes"])
        return code

    def has_code(self, *, at: datetime) -> bool:
        """Whether a code is on its way or in the recipient's mail that opens the link at this time."""
        return self.code_expires_at is not None and self.code_expires_at > at

    def use_code(self, code: str, *, browser: str) -> bool:
        """Return whether this is the code that this browser asked for. A right one is used up, a wrong one counted."""
        with transaction.atomic():
            stored = ShareLink.objects.select_for_update().get(pk=self.pk)
            is_right = stored.has_code(at=timezone.now()) and hmac.compare_digest(
                stored.code_hash, self._hash_of_code(code, browser=browser)
            )
            stored.wrong_codes = 0 if is_right else stored.wrong_codes + 1
            if is_right or stored.wrong_codes >= self.MAX_WRONG_CODES:
                stored.code_hash, stored.code_expires_at, stored.wrong_codes = "", None, 0
            stored.save(update_fields=["code_hash", "code_expires_at", "wrong_codes"])
        self.refresh_from_db()
        return is_right

    def note_opening(self) -> None:
        """Count that the report was read or taken along through this link."""
        ShareLink.objects.filter(pk=self.pk).update(
            opened_count=models.F("opened_count") + 1, last_opened_at=timezone.now()
        )

    def _hash_of_code(self, code: str, *, browser: str) -> str:
        # Keyed: eight digits could be tried out by whoever reads the database.
        return salted_hmac("reports.share_link", f"{self.pk}:{browser}:{code}", algorithm="sha256").hexdigest()
