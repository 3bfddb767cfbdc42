"""What is stored about the model's life."""

from ml.models.event import Event, EventQuerySet, Level, Stage
from ml.models.problem import EVERYWHERE, News, Problem, ProblemQuerySet

__all__ = ["EVERYWHERE", "Event", "EventQuerySet", "Level", "News", "Problem", "ProblemQuerySet", "Stage"]
