"""Patients, their studies, the slices in them, and what the model said about each slice."""

from studies.models.bulk import Import, ImportFile, ImportGroup, ImportQuerySet, ImportSweep
from studies.models.consent import Consent, ConsentQuerySet
from studies.models.effective import EffectiveFinding, judged_findings
from studies.models.erasure import ErasureRequest, ErasureRequestQuerySet
from studies.models.finding import Finding
from studies.models.grant import (
    AllowedPermissionsMixin,
    LimitedGrantMixin,
    PatientUserObjectPermission,
    StudyUserObjectPermission,
)
from studies.models.handover import Handover, HandoverQuerySet
from studies.models.inference_record import InferenceRecord
from studies.models.invitation import RecordInvitation
from studies.models.monitoring import (
    Compared,
    MonitoringBaseline,
    MonitoringEpisode,
    MonitoringRun,
    hospitals_watched_by,
)
from studies.models.patient import Patient, PatientQuerySet, RecordClaimGuard, Teaching
from studies.models.read_mark import StudyRead, StudyReadQuerySet
from studies.models.review import Diagnosis, FindingReview, FirstImpression, ImageReview, Suspicion
from studies.models.shadow import Corrections, Latency, ShadowAnswer, ShadowAnswerQuerySet, ShadowComparison
from studies.models.study import (
    Analysis,
    AnalysisQuerySet,
    Image,
    ImageQuerySet,
    Study,
    StudyQuerySet,
    SweepResult,
)

__all__ = [
    "AllowedPermissionsMixin",
    "Analysis",
    "AnalysisQuerySet",
    "Compared",
    "Consent",
    "ConsentQuerySet",
    "Corrections",
    "Diagnosis",
    "EffectiveFinding",
    "ErasureRequest",
    "ErasureRequestQuerySet",
    "Finding",
    "FindingReview",
    "FirstImpression",
    "Handover",
    "HandoverQuerySet",
    "Image",
    "ImageQuerySet",
    "ImageReview",
    "Import",
    "ImportFile",
    "ImportGroup",
    "ImportQuerySet",
    "ImportSweep",
    "InferenceRecord",
    "Latency",
    "LimitedGrantMixin",
    "MonitoringBaseline",
    "MonitoringEpisode",
    "MonitoringRun",
    "Patient",
    "PatientQuerySet",
    "PatientUserObjectPermission",
    "RecordClaimGuard",
    "RecordInvitation",
    "ShadowAnswer",
    "ShadowAnswerQuerySet",
    "ShadowComparison",
    "Study",
    "StudyQuerySet",
    "StudyRead",
    "StudyReadQuerySet",
    "StudyUserObjectPermission",
    "Suspicion",
    "SweepResult",
    "Teaching",
    "hospitals_watched_by",
    "judged_findings",
]
