"""Whether a version may take the champion's place: its leak-free figures beside the champion's.

Compared are figures of pictures that were never trained on. What was measured on pictures that also stand in training
(``official_test_…``) says nothing about a new slice, and is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.utils.translation import gettext as _

from ml.models.version import figure_value

# What every version has to bring, whatever the champion has.
REQUIRED: Final = (
    "test_unseen_accuracy",
    "test_unseen_macro_f1",
    "malignancy_auc",
    "lidc_dice_ge30px",
    "slice_dice",
    "false_positives_per_normal_slice",
)
# And whatever else the champion has of these sets.
LEAK_FREE_SETS: Final = ("test_unseen_", "grouped_cv_")
COUNTS: Final = ("false_positives_per_normal_slice",)
LESS_IS_BETTER: Final = (*COUNTS, "grouped_cv_ece", "test_unseen_ece")


@dataclass(frozen=True, kw_only=True)
class Margins:
    """By how much a figure may be worse: shares (accuracy, AUC, Dice … in [0, 1]), and regions a slice."""

    shares: float
    counts: float


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One figure of both versions; None where a version does not have it. ``margin`` is in the figure's own unit."""

    name: str
    champion: float | None
    candidate: float | None
    margin: float

    @property
    def loss(self) -> float:
        """By how much the candidate is worse; negative where it is better, 0 where one of them is unknown."""
        if self.champion is None or self.candidate is None:
            return 0.0
        difference = self.champion - self.candidate
        return -difference if self.name in LESS_IS_BETTER else difference

    @property
    def is_missing(self) -> bool:
        """Whether the candidate does not have the figure."""
        return self.candidate is None

    @property
    def is_worse(self) -> bool:
        """Whether the candidate is worse by more than the margin, beyond the last digits of a sum."""
        return self.loss > self.margin + 1e-9

    @property
    def objection(self) -> str:
        """The sentence that speaks against a promotion; empty where nothing does."""
        if self.is_missing:
            return _("The figure “%(name)s” is missing.") % {"name": self.name}
        if not self.is_worse:
            return ""
        return _(
            "The figure “%(name)s” is %(candidate).3f; the champion's is %(champion).3f, and it may be worse by "
            "%(margin).3f at most."
        ) % {
            "name": self.name,
            "candidate": self.candidate,
            "champion": self.champion,
            "margin": self.margin,
        }


def compare(
    candidate: Mapping[str, Any], *, champion: Mapping[str, Any] | None, margins: Margins
) -> tuple[Compared, ...]:
    """Return the leak-free figures of a candidate beside the champion's, in the order of the rule.

    Both are the ``figures`` of a model card. Without a champion there is nothing to be worse than, and figures may
    still be missing.
    """
    present = champion or {}
    others = (name for name in present if name.startswith(LEAK_FREE_SETS) and name not in REQUIRED)
    return tuple(
        Compared(
            name=name,
            champion=figure_value(dict(present), name=name),
            candidate=figure_value(dict(candidate), name=name),
            margin=margins.counts if name in COUNTS else margins.shares,
        )
        for name in (*REQUIRED, *others)
    )


def objections(compared: tuple[Compared, ...]) -> tuple[str, ...]:
    """Return the sentences that speak against a promotion; none where the candidate may take the place."""
    return tuple(one.objection for one in compared if one.objection)
