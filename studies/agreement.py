"""What doctors thought first beside what the software said: one comparison for each first impression, and their sum."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from django.db import models

from studies.models import Analysis, Diagnosis, FirstImpression, Suspicion
from studies.models.study import CLASS_LABELS

# The steps of suspicion that say something: below the lower one a doctor expects nothing malignant, above the upper one
# they do. The step between is no opinion, and agrees with nobody.
_BENIGN_UP_TO = Suspicion.MODERATELY_UNLIKELY
_MALIGNANT_FROM = Suspicion.MODERATELY_SUSPICIOUS


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One doctor's first impression of a study and the software's answer about its most suspicious slice.

    The software's part is empty while no analysis of the study has succeeded. ``is_same_class`` and ``is_same_side``
    (malignant or not) are None where one of the two has no opinion.
    """

    impression: FirstImpression
    analysis: Analysis | None

    @property
    def ai_class(self) -> str:
        """The most probable class of the most suspicious slice, or empty."""
        return (self.analysis.top_class or "") if self.analysis is not None else ""

    @property
    def ai_class_label(self) -> Any:
        """The class as people read it."""
        return CLASS_LABELS.get(self.ai_class, self.ai_class)

    @property
    def ai_malignant_probability(self) -> float | None:
        """The highest probability of malignancy of the study's slices, in 0..1."""
        return self.analysis.malignant_probability if self.analysis is not None else None

    @property
    def doctor_says_malignant(self) -> bool | None:
        """Which side the doctor took, None for neither."""
        if self.impression.suspicion >= _MALIGNANT_FROM:
            return True
        return False if self.impression.suspicion <= _BENIGN_UP_TO else None

    @property
    def ai_says_malignant(self) -> bool | None:
        """Which side the software took by its own threshold, None without an answer."""
        if self.analysis is None or self.analysis.malignant_probability is None:
            return None
        return bool(self.analysis.malignant_probability >= self.analysis.thresholds.get("malignant", 0.5))

    @property
    def is_same_class(self) -> bool | None:
        """Whether both named the same class."""
        if not self.ai_class or self.impression.diagnosis == Diagnosis.UNSURE:
            return None
        return self.impression.diagnosis == self.ai_class

    @property
    def is_same_side(self) -> bool | None:
        """Whether both, or neither, thought of something malignant."""
        if self.doctor_says_malignant is None or self.ai_says_malignant is None:
            return None
        return self.doctor_says_malignant == self.ai_says_malignant

    def to_row(self) -> dict[str, Any]:
        """Return one line for a table or a CSV file; names nobody but by identifiers."""
        return {
            "study_id": str(self.impression.study_id),
            "doctor_id": str(self.impression.doctor_id),
            "noted_at": self.impression.noted_at.isoformat(),
            "diagnosis": self.impression.diagnosis,
            "suspicion": self.impression.suspicion,
            "model_version": self.analysis.model_version if self.analysis is not None else "",
            "ai_class": self.ai_class,
            "ai_malignant_probability": self.ai_malignant_probability,
            "is_same_class": self.is_same_class,
            "is_same_side": self.is_same_side,
        }


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Counts over many comparisons; those of classes and of sides each add up to ``compared``."""

    noted: int
    compared: int
    same_class: int
    other_class: int
    class_undecided: int
    both_malignant: int
    both_benign: int
    only_doctor_malignant: int
    only_ai_malignant: int
    side_undecided: int

    def to_row(self) -> dict[str, int]:
        """Return the counts as one line for a table or a CSV file."""
        return asdict(self)


def compare_with_ai(impression: FirstImpression) -> Comparison:
    """Compare one first impression with the newest answers about its study."""
    return compare_all([impression])[0]


def compare_all(impressions: Iterable[FirstImpression]) -> list[Comparison]:
    """Compare first impressions with the newest answers about their studies, in the order given.

    One query for the answers, however many first impressions there are.
    """
    noted = list(impressions)
    newer = Analysis.objects.filter(
        image=models.OuterRef("image"), state=Analysis.State.SUCCEEDED, queued_at__gt=models.OuterRef("queued_at")
    )
    answers = Analysis.objects.filter(
        ~models.Exists(newer),
        state=Analysis.State.SUCCEEDED,
        image__study__in={impression.study_id for impression in noted},
    ).select_related("image")
    most_suspicious: dict[Any, Analysis] = {}
    for analysis in answers.order_by("malignant_probability", "-image__number"):
        most_suspicious[analysis.image.study_id] = analysis
    return [Comparison(impression=one, analysis=most_suspicious.get(one.study_id)) for one in noted]


def agreement(comparisons: Sequence[Comparison]) -> Agreement:
    """Count how often doctors and software agreed, before the doctors knew what it said."""
    answered = [one for one in comparisons if one.analysis is not None]
    sides = [(one.doctor_says_malignant, one.ai_says_malignant) for one in answered]
    classes = [one.is_same_class for one in answered]
    return Agreement(
        noted=len(comparisons),
        compared=len(answered),
        same_class=classes.count(True),
        other_class=classes.count(False),
        class_undecided=classes.count(None),
        both_malignant=sides.count((True, True)),
        both_benign=sides.count((False, False)),
        only_doctor_malignant=sides.count((True, False)),
        only_ai_malignant=sides.count((False, True)),
        side_undecided=sum(doctor is None or software is None for doctor, software in sides),
    )
