"""What is stored about the model's life."""

from ml.models.event import Event, EventQuerySet, Level, Stage

__all__ = ["Event", "EventQuerySet", "Level", "Stage"]
