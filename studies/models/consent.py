"""What a patient agreed to before an upload of their own, and when."""

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

# Uploads are counted over so long a time.
QUOTA_WINDOW = timedelta(days=30)


class ConsentQuerySet(models.QuerySet["Consent"]):
    """Consents of a person."""

    def counted_now(self, user: Any) -> "ConsentQuerySet":
        """Return those that count against this person's quota, the oldest first."""
        return self.filter(user=user, given_at__gt=timezone.now() - QUOTA_WINDOW).order_by("given_at")

    def next_upload_at(self, user: Any) -> datetime | None:
        """Return when this person may upload again, or None where they may now."""
        limit = settings.OWN_UPLOADS_PER_MONTH
        counted = list(self.counted_now(user).values_list("given_at", flat=True))
        return counted[len(counted) - limit] + QUOTA_WINDOW if limit and len(counted) >= limit else None


class Consent(models.Model):
    """One consent to one upload: which wording, when. It stays when the upload is deleted, and then says when.

    ``study_id`` is no foreign key for that reason.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="consents")
    study_id = models.UUIDField(unique=True, editable=False)
    version = models.CharField(max_length=20, editable=False)
    wording_sha256 = models.CharField(max_length=64, editable=False)
    given_at = models.DateTimeField(default=timezone.now, editable=False)
    withdrawn_at = models.DateTimeField(null=True, editable=False)

    objects = ConsentQuerySet.as_manager()

    class Meta:
        verbose_name = _("consent")
        verbose_name_plural = _("consents")
        ordering = ["-given_at"]
        indexes = [models.Index(fields=["user", "given_at"], name="consent_by_person_and_time")]
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(version="") & ~models.Q(wording_sha256=""), name="a_consent_names_its_wording"
            ),
        ]

    def __str__(self) -> str:
        return f"consent {self.pk}"
