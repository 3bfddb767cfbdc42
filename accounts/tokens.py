"""Tokens with which a person's scripts ask the API: shown once, stored as a hash, scoped, expiring, revocable."""

import datetime
import hashlib
import secrets
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from accounts.models import User

# Tells people, and programs that look for leaked secrets, what they have found.
PREFIX: Final = "ira_"
# 256 bits of randomness: nothing that a slow hash would protect any better.
RANDOM_BYTES: Final = 32
SHOWN_CHARACTERS: Final = len(PREFIX) + 6
MOST_AT_ONCE: Final = 20
# A token that was used so recently is not written again.
USED_PRECISION: Final = datetime.timedelta(minutes=1)


class Scope(models.TextChoices):
    """What a token may do, within what its person may do."""

    READ = "read", _("read: lists, studies, pictures, results, reports")
    UPLOAD = "upload", _("upload: new studies, slices and bulk imports")
    WRITE = "write", _("write: records, judgements, drafts, analyses, jobs, sharing")
    SIGN = "sign", _("sign: sign, release, amend and supplement reports")
    CLASSIFY = "classify", _("classify: ask the model about one slice without storing it")
    MODELS = "models", _("models: promote, roll back and challenge versions of the model")


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    """Tokens: whose they are, which still open something."""

    def of(self, user: Any) -> "ApiTokenQuerySet":
        """Return a person's own tokens, newest first; nobody sees another's."""
        return self.filter(user=user).order_by("-created_at", "id")

    def open(self) -> "ApiTokenQuerySet":
        """Return those that are neither revoked nor over."""
        return self.filter(revoked_at__isnull=True, expires_at__gt=timezone.now())

    def named_by(self, text: str) -> "ApiToken | None":
        """Return the token that a request carries, whether or not it still opens anything."""
        return self.select_related("user__hospital").filter(token_hash=_hash(text)).first()

    def revoke(self) -> int:
        """End all of these tokens; return how many were still open."""
        return self.open().update(revoked_at=timezone.now())


class ApiToken(models.Model):
    """One token of one person. Only a hash of it is stored, so that the table opens nothing.

    ::

        open ──revoke()──────────▶ revoked
          └────expires_at over───▶ over
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="api_tokens")
    name = models.CharField(_("name"), max_length=60)
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    # The beginning, by which its owner tells it from others.
    hint = models.CharField(max_length=16, editable=False)
    scopes = models.JSONField(default=list, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False)
    last_address = models.GenericIPAddressField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")
        ordering = ["-created_at", "id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(expires_at__gt=models.F("created_at")), name="a_token_ends_after_it_began"
            ),
            models.CheckConstraint(condition=~models.Q(name=""), name="a_token_has_a_name"),
        ]

    def __str__(self) -> str:
        return f"API token {self.pk}"

    @classmethod
    def issue(cls, user: "User", *, name: str, scopes: Sequence[str], days: int) -> tuple["ApiToken", str]:
        """Make a token; return the row, and the token itself, which is in no other place.

        Raises ``ValidationError`` with a sentence for no or an unknown scope, a time out of bounds, or too many tokens.
        """
        chosen = [scope for scope in Scope.values if scope in scopes]
        if not chosen or set(scopes) - set(chosen):
            raise ValidationError(_("Please choose what the token may do."))
        if not 1 <= days <= settings.API_TOKEN_MAX_DAYS:
            raise ValidationError(
                _("A token lasts between one and %(days)d days. Please choose a shorter time."),
                params={"days": settings.API_TOKEN_MAX_DAYS},
            )
        text = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
        now = timezone.now()
        with transaction.atomic():
            # Two requests at once: the second is counted after the first.
            user._meta.model._default_manager.select_for_update(no_key=True).get(pk=user.pk)
            if cls.objects.of(user).open().count() >= MOST_AT_ONCE:
                raise ValidationError(
                    _("You have %(count)d tokens already. Please revoke one that you do not need any more."),
                    params={"count": MOST_AT_ONCE},
                )
            token = cls.objects.create(
                user=user,
                name=name,
                token_hash=_hash(text),
                hint=text[:SHOWN_CHARACTERS],
                scopes=chosen,
                created_at=now,
                expires_at=now + datetime.timedelta(days=days),
            )
        return token, text

    @property
    def is_revoked(self) -> bool:
        """Whether its owner, or what happened to the account, has ended it."""
        return self.revoked_at is not None

    @property
    def is_over(self) -> bool:
        """Whether its time is over."""
        return self.expires_at <= timezone.now()

    @property
    def is_open(self) -> bool:
        """Whether it still opens anything."""
        return not self.is_revoked and not self.is_over

    @property
    def scope_labels(self) -> list[Any]:
        """What it may do, as people read it."""
        return [Scope(scope).label for scope in self.scopes if scope in Scope.values]

    def may(self, scope: str) -> bool:
        """Whether it was made for this."""
        return scope in self.scopes

    def revoke(self) -> bool:
        """End it; return False where it was ended already."""
        is_ended = ApiToken.objects.filter(pk=self.pk, revoked_at__isnull=True).update(revoked_at=timezone.now())
        self.refresh_from_db(fields=["revoked_at"])
        return bool(is_ended)

    def note_use(self, *, address: str | None) -> None:
        """Note when and from where it was used; at most once a minute, however busy the script."""
        now = timezone.now()
        if self.last_used_at is None or now - self.last_used_at >= USED_PRECISION or self.last_address != address:
            ApiToken.objects.filter(pk=self.pk).update(last_used_at=now, last_address=address)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
