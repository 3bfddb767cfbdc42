"""Who let which version answer, when and why. Rows are added and stay as they are."""

from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ml.models.version import ModelVersion


class DeploymentQuerySet(models.QuerySet["Deployment"]):
    """What was changed, in order."""

    def of_champions(self) -> "DeploymentQuerySet":
        """Return the rows that made a version answer: the first one, promotions and rollbacks."""
        return self.filter(kind__in=Deployment.MAKES_CHAMPION)

    def in_force(self) -> "Deployment | None":
        """Return the row that made the present champion, with its version and the row before."""
        return self.of_champions().select_related("version", "previous__version").order_by("-id").first()

    def update(self, **kwargs: Any) -> int:
        """Raise ``PermissionDenied``: what was done stays on record."""
        raise PermissionDenied("Deployments are never changed.")

    def delete(self) -> tuple[int, dict[str, int]]:
        """Raise ``PermissionDenied``: what was done stays on record."""
        raise PermissionDenied("Deployments are never deleted.")


class Deployment(models.Model):
    """One change of what answers, or of what answers in shadow.

    ``previous`` of a row that made a champion is the row to which a rollback leads: of a promotion the one that was in
    force before, of a rollback the one before its target. So rolling back twice goes back two steps.
    """

    class Kind(models.TextChoices):
        """What was done."""

        FIRST = "first", _("first model")
        PROMOTED = "promoted", _("promoted")
        ROLLED_BACK = "rolled_back", _("rolled back to")
        CHALLENGED = "challenged", _("challenges")
        CHALLENGE_ENDED = "challenge_ended", _("challenges no more")

    MAKES_CHAMPION = (Kind.FIRST, Kind.PROMOTED, Kind.ROLLED_BACK)

    kind = models.CharField(_("what was done"), max_length=20, choices=Kind, editable=False)
    version = models.ForeignKey(
        ModelVersion, on_delete=models.PROTECT, related_name="deployments", editable=False, verbose_name=_("version")
    )
    replaced = models.ForeignKey(
        ModelVersion,
        on_delete=models.PROTECT,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("instead of"),
    )
    previous = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="+", editable=False)
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("by"),
    )
    # Whoever had no log-in at hand: the account of the machine at whose command line it was done.
    operator = models.CharField(_("account of the machine"), max_length=80, blank=True, editable=False)
    at = models.DateTimeField(_("at"), default=timezone.now, editable=False, db_index=True)
    address = models.GenericIPAddressField(_("address"), null=True, editable=False)
    reason = models.CharField(_("reason"), max_length=500, blank=True, editable=False)
    is_forced = models.BooleanField(_("forced"), default=False, editable=False)
    # The sentences that spoke against it, and that whoever forced it has overruled.
    objections = models.JSONField(_("objections"), default=list, editable=False)
    challenge_share = models.FloatField(_("share of the analyses"), null=True, editable=False)

    objects = DeploymentQuerySet.as_manager()

    class Meta:
        verbose_name = _("change of the model in use")
        verbose_name_plural = _("changes of the model in use")
        ordering = ["-id"]
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(
                condition=models.Q(by__isnull=False) | ~models.Q(operator=""),
                name="whoever_changes_the_model_in_use_is_known",
            ),
            models.CheckConstraint(
                condition=models.Q(is_forced=False) | ~models.Q(reason=""), name="what_is_forced_has_a_reason"
            ),
            models.UniqueConstraint(fields=["kind"], condition=models.Q(kind="first"), name="there_is_one_first_model"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.version_id}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store a new row. Raises ``PermissionDenied`` for one that is already stored."""
        if not self._state.adding:
            raise PermissionDenied("Deployments are never changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Raise ``PermissionDenied``: what was done stays on record."""
        raise PermissionDenied("Deployments are never deleted.")

    @property
    def who(self) -> str:
        """Whoever did it, as a list shows it."""
        return str(self.by) if self.by is not None else self.operator
