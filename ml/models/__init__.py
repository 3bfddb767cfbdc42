"""What is stored about the model's life: its versions, who let which of them answer when, and what happened."""

from ml.models.deployment import Deployment, DeploymentQuerySet
from ml.models.event import Event, EventQuerySet, Level, Stage
from ml.models.problem import EVERYWHERE, News, Problem, ProblemQuerySet
from ml.models.training import TrainingRun, TrainingRunQuerySet
from ml.models.version import ModelVersion, ModelVersionQuerySet

__all__ = [
    "EVERYWHERE",
    "Deployment",
    "DeploymentQuerySet",
    "Event",
    "EventQuerySet",
    "Level",
    "ModelVersion",
    "ModelVersionQuerySet",
    "News",
    "Problem",
    "ProblemQuerySet",
    "Stage",
    "TrainingRun",
    "TrainingRunQuerySet",
]
