"""An invitation by letter or mail with which a patient claims the record that a hospital keeps."""

import hashlib
import secrets
import uuid
from datetime import timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from studies.models.patient import Patient


class RecordInvitationQuerySet(models.QuerySet["RecordInvitation"]):
    """Invitations, restricted to those that still open something."""

    def open(self) -> "RecordInvitationQuerySet":
        """Return those that are neither used nor revoked nor too old, on records that nobody has claimed."""
        return self.filter(
            used_at__isnull=True, revoked_at__isnull=True, expires_at__gt=timezone.now(), patient__user__isnull=True
        )

    def with_token(self, token: str) -> "RecordInvitationQuerySet":
        """Return the one that this link was made for."""
        return self.filter(token_hash=hash_of(token))


def hash_of(token: str) -> str:
    """Return what is stored of a link's token; the token itself stands in the mail only."""
    return hashlib.sha256(token.encode()).hexdigest()


class RecordInvitation(models.Model):
    """A link that opens one record to whoever also knows its number and date of birth.

    ::

        open ──use()──▶ used
          ├──count_wrong_guess(), MAX_WRONG_GUESSES times──▶ revoked
          ├──a newer invitation──▶ revoked
          └──expires_at over──▶ closed
    """

    MAX_WRONG_GUESSES = 5
    VALID_FOR = timedelta(days=14)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    patient = models.ForeignKey(Patient, on_delete=models.PROTECT, related_name="invitations")
    token_hash = models.CharField(max_length=64, unique=True)
    email = models.EmailField(_("sent to"))
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)
    used_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    revoked_at = models.DateTimeField(null=True)
    wrong_guesses = models.PositiveSmallIntegerField(default=0)

    objects = RecordInvitationQuerySet.as_manager()

    class Meta:
        verbose_name = _("record invitation")
        verbose_name_plural = _("record invitations")
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["patient"],
                condition=models.Q(used_at__isnull=True, revoked_at__isnull=True),
                name="a_record_has_one_open_invitation",
            ),
            models.CheckConstraint(
                condition=models.Q(used_at__isnull=True, used_by__isnull=True)
                | models.Q(used_at__isnull=False, used_by__isnull=False, revoked_at__isnull=True),
                name="an_invitation_is_used_by_somebody_or_revoked",
            ),
        ]

    def __str__(self) -> str:
        return f"invitation {self.pk}"

    @classmethod
    def issue(cls, patient: Patient, *, by: User) -> tuple["RecordInvitation", str]:
        """Store a new invitation in place of an older one; return it and its token, which is kept nowhere."""
        token = secrets.token_urlsafe(32)
        now = timezone.now()
        cls.objects.filter(patient=patient, used_at__isnull=True, revoked_at__isnull=True).update(revoked_at=now)
        invitation = cls.objects.create(
            patient=patient,
            token_hash=hash_of(token),
            email=patient.email,
            created_by=by,
            expires_at=now + cls.VALID_FOR,
        )
        return invitation, token

    def use(self, *, by: User) -> None:
        """Close the invitation as used. The caller holds the row's lock."""
        self.used_at, self.used_by = timezone.now(), by
        self.save(update_fields=["used_at", "used_by"])

    def count_wrong_guess(self) -> None:
        """Note one wrong guess; the one that is one too many revokes. The caller holds the row's lock."""
        self.wrong_guesses += 1
        if self.wrong_guesses >= self.MAX_WRONG_GUESSES:
            self.revoked_at = timezone.now()
        self.save(update_fields=["wrong_guesses", "revoked_at"])
