"""One exported model that the portal knows, where its folder lies and what it was measured to be worth."""

import uuid
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class ModelVersionQuerySet(models.QuerySet["ModelVersion"]):
    """Versions: which one answers, which one answers beside it."""

    def champion(self) -> "ModelVersion | None":
        """Return the version that answers, or None where no version was ever promoted."""
        return self.filter(state=ModelVersion.State.CHAMPION).first()

    def challenger(self) -> "ModelVersion | None":
        """Return the version that answers in shadow, or None."""
        return self.filter(state=ModelVersion.State.CHALLENGER).first()


class ModelVersion(models.Model):
    """A version of the model. Its folder and figures never change; its state is written by ``ml.registry`` only.

    ::

        REGISTERED ──promote()──▶ CHAMPION ──another one is promoted, or rollback()──▶ RETIRED
          │  ▲                     ▲    ▲                                              │  ▲ │
          │  └─stop_challenge()─┐  │    └──────────promote(), rollback()───────────────┘  │ │
          └──challenge()──▶ CHALLENGER ──stop_challenge(), if it has answered before──────┘ │
                                ▲──────────────────challenge()──────────────────────────────┘
    """

    class State(models.TextChoices):
        """What the version does."""

        REGISTERED = "registered", _("registered")
        CHALLENGER = "challenger", _("challenger: answers in shadow")
        CHAMPION = "champion", _("champion: answers")
        RETIRED = "retired", _("retired")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    version = models.CharField(_("version"), max_length=60, unique=True, editable=False)
    state = models.CharField(_("state"), max_length=12, choices=State, default=State.REGISTERED, editable=False)
    # Of 1: which share of the analyses the challenger repeats.
    challenge_share = models.FloatField(_("share of the analyses"), null=True, editable=False)
    name = models.CharField(_("name"), max_length=120, blank=True, editable=False)
    # As the card has them: name → value, low, high (95 % interval), on (what it was measured on).
    figures = models.JSONField(_("measured figures"), default=dict, editable=False)
    # Of the folder as a whole, and of its card: what is loaded must be what was registered.
    sha256 = models.CharField(max_length=64, editable=False)
    card_sha256 = models.CharField(max_length=64, editable=False)
    data_fingerprint = models.CharField(_("fingerprint of the training data"), max_length=64, blank=True)
    trained_at = models.DateTimeField(_("trained"), null=True, editable=False)
    note = models.CharField(_("note"), max_length=500, blank=True)
    registered_at = models.DateTimeField(_("registered"), default=timezone.now, editable=False)
    registered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        editable=False,
        related_name="+",
        verbose_name=_("registered by"),
    )

    objects = ModelVersionQuerySet.as_manager()

    class Meta:
        verbose_name = _("version of the model")
        verbose_name_plural = _("versions of the model")
        ordering = ["-registered_at", "-version"]
        default_permissions = ("view",)
        permissions = [("promote_modelversion", "Can promote, roll back and challenge versions of the model")]
        constraints = [
            models.UniqueConstraint(
                fields=["state"], condition=models.Q(state="champion"), name="one_version_of_the_model_answers"
            ),
            models.UniqueConstraint(
                fields=["state"], condition=models.Q(state="challenger"), name="one_version_of_the_model_challenges"
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=["registered", "challenger", "champion", "retired"]),
                name="a_version_of_the_model_is_in_a_known_state",
            ),
            models.CheckConstraint(
                condition=models.Q(
                    state="challenger",
                    challenge_share__isnull=False,
                    challenge_share__gt=0,
                    challenge_share__lte=1,
                )
                | (~models.Q(state="challenger") & models.Q(challenge_share__isnull=True)),
                name="a_challenger_and_nobody_else_has_a_share_of_the_analyses",
            ),
        ]

    def __str__(self) -> str:
        return self.version

    @property
    def folder(self) -> Path:
        """Where the version's files lie."""
        return Path(settings.MODELS_DIR) / self.version

    @property
    def is_champion(self) -> bool:
        """Whether it answers."""
        return self.state == self.State.CHAMPION

    @property
    def is_challenger(self) -> bool:
        """Whether it answers in shadow."""
        return self.state == self.State.CHALLENGER

    def figure(self, name: str) -> float | None:
        """Return the value of one figure, or None where the card does not have it."""
        return figure_value(self.figures, name=name)


def figure_value(figures: dict[str, Any], *, name: str) -> float | None:
    """Return the value of one figure of a card, or None where it has none."""
    figure = figures.get(name)
    value = figure.get("value") if isinstance(figure, dict) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
