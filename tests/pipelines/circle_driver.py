"""Plays the people of tests/pipelines/test_circle.py, each act a process: ``python -m … ACTION [ARGUMENT]``."""

import json
import sys

import django

ROOT_EMAIL = "root@example.org"


def correct(_argument: str) -> None:
    """Make a hospital that teaches; a doctor corrects outlines, names classes and signs reports."""
    from accounts.models import User
    from ml.data import CLASSES
    from studies.models import Finding
    from studies.reviewing import Judgement, review_finding
    from tests.factories import outline_png
    from tests.learning_slices import analysed_study, judge_class, sign, teaching_doctor

    User.objects.create_superuser(ROOT_EMAIL, "a-long-password", given_name="Root", family_name="One")
    doctor = teaching_doctor()
    for seed, diagnosis in enumerate(CLASSES):
        study = analysed_study(doctor, seed=500 + seed)
        finding = Finding.objects.get(analysis__image__study=study)
        outline = outline_png(side_px=256, box=(90, 90, 24, 20))
        review_finding(
            finding.analysis.image,
            lesion_id=finding.id,
            by=doctor,
            judgement=Judgement(verdict="corrected", outline=outline),
            seen=None,
        )
        judge_class(study, diagnosis=diagnosis)
        sign(study)
    print(json.dumps({"doctor": doctor.email}))  # noqa: T201 - read by the test


def upload(seed: str) -> None:
    """The doctor uploads a new slice; it waits for the worker."""
    from accounts.models import Role, User
    from tests.factories import AnalysisFactory, PatientFactory, StudyFactory
    from tests.learning_slices import chest, store_slice

    doctor = User.objects.get(role=Role.DOCTOR)
    # Each act is a process of its own, in which the factories count from 0 again.
    study = StudyFactory(created_by=doctor, patient=PatientFactory(created_by=doctor, record_number=f"upload-{seed}"))
    analysis = AnalysisFactory.create(image=store_slice(study, pixels=chest(int(seed))))
    analysis.enqueue()
    print(json.dumps({"analysis": str(analysis.id)}))  # noqa: T201


def look(analysis_id: str) -> None:
    """Say how far an analysis is, which version answered, and what the challenger said."""
    from studies.models import Analysis, ShadowAnswer

    analysis = Analysis.objects.get(id=analysis_id)
    shadow = ShadowAnswer.objects.filter(analysis=analysis).first()
    said = {"state": analysis.state, "version": analysis.model_version, "error": analysis.error}
    said |= {"shadow": shadow.state if shadow else "", "shadow_version": shadow.version if shadow else ""}
    print(json.dumps(said))  # noqa: T201


def trail(_argument: str) -> None:
    """Say what stands on record of the whole circle."""
    from accounts.audit import verify_chain
    from accounts.models import AccessEvent
    from ml.models import Deployment, Event, ModelVersion, TrainingRun

    said = {
        "deployments": [
            [one.kind, one.version.version, one.is_forced, one.by.email if one.by else ""]
            for one in Deployment.objects.select_related("version", "by").order_by("id")
        ],
        "events": sorted(set(Event.objects.values_list("kind", flat=True))),
        "deployed": AccessEvent.objects.filter(action="deployed").count(),
        "chain": str(verify_chain()),
        "versions": dict(ModelVersion.objects.values_list("version", "state")),
        "trainings": [[one.name, one.state] for one in TrainingRun.objects.order_by("requested_at")],
    }
    print(json.dumps(said))  # noqa: T201


if __name__ == "__main__":
    django.setup()
    {"correct": correct, "upload": upload, "look": look, "trail": trail}[sys.argv[1]]((*sys.argv, "")[2])
