"""Each answer leaves one record of figures, in the same transaction, and the record goes where the answer goes."""

import datetime
import json
from typing import Any

import numpy as np
import pytest
from django.utils import timezone

from portal.retention import apply_retention
from studies import tasks
from studies.errors import InvalidTransitionError
from studies.models import Analysis, InferenceRecord
from tests.factories import AnalysisFactory, ImageFactory, PatientFactory, StudyFactory, answer, finish

pytestmark = pytest.mark.django_db


def test_an_answer_leaves_a_record_of_its_figures() -> None:
    asked_at = timezone.now() - datetime.timedelta(seconds=40)
    analysis = AnalysisFactory.create(image=ImageFactory(source_format="DICOM"), queued_at=asked_at, is_done=True)
    record = InferenceRecord.objects.get(analysis=analysis)
    said = answer()
    assert (record.model_version, record.top_class) == ("test-1", "adenocarcinoma")
    assert record.confidence == pytest.approx(0.71)
    assert record.malignant_probability == pytest.approx(said.malignant_probability)
    assert np.array_equal(record.embedding_vector, said.embedding)
    assert (record.step_ms, record.duration_ms) == (said.step_ms, said.duration_ms)
    assert record.created_at == analysis.finished_at
    assert analysis.started_at is not None
    assert record.queue_wait_ms == round((analysis.started_at - asked_at).total_seconds() * 1000) >= 40_000
    assert record.input_stats == said.input_statistics.to_json() | {"source_kind": "dicom"}
    assert record.input_statistics.width == 96


def test_the_worker_measures_the_picture_it_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    analysis = AnalysisFactory.create(image=ImageFactory(seed=4))
    tasks.analyse_image(str(analysis.id))
    record = InferenceRecord.objects.get(analysis=analysis)
    assert len(record.embedding_vector) == 512
    assert np.isfinite(record.embedding_vector).all()
    assert record.embedding_vector.std() > 0
    assert record.input_statistics.mean_grey == pytest.approx(127.5, abs=3)
    assert sum(record.input_statistics.histogram) == pytest.approx(1, abs=1e-3)
    assert "measure" in record.step_ms


def test_no_answer_no_record() -> None:
    AnalysisFactory.create(has_failed=True)
    late = AnalysisFactory.create(is_running=True)
    Analysis.objects.filter(id=late.id).update(attempt=2)
    with pytest.raises(InvalidTransitionError):
        finish(late, result=answer())
    assert not InferenceRecord.objects.exists()


def test_an_answer_whose_record_cannot_be_written_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the disk is full")

    analysis = AnalysisFactory.create(is_running=True)
    monkeypatch.setattr(InferenceRecord, "save", refuse)
    with pytest.raises(RuntimeError, match="disk"):
        finish(analysis, result=answer())
    analysis.refresh_from_db()
    assert analysis.state == Analysis.State.RUNNING
    assert not analysis.findings.exists()


def test_a_record_names_nobody() -> None:
    patient = PatientFactory(given_name="Wilhelmine", family_name="Zwetschgenbaum", record_number="SECRET-9")
    study = StudyFactory(patient=patient, created_by=patient.created_by, accession_number="ACC-77")
    image = ImageFactory(study=study, original_name="wilhelmine.png")
    AnalysisFactory.create(image=image, is_done=True)
    (row,) = InferenceRecord.objects.values()
    row["embedding"] = bytes(row["embedding"]).hex()
    told = json.dumps(row, default=str).lower()
    for word in ("wilhelmine", "zwetschgenbaum", "secret-9", "acc-77", str(patient.id), str(study.id), str(image.id)):
        assert word not in told


@pytest.mark.django_db(transaction=True)
def test_a_record_goes_with_its_answer(settings: Any) -> None:
    settings.RETENTION_YEARS, settings.RETENTION_MINIMUM_AGE_YEARS = 1, 18
    AnalysisFactory.create(is_done=True)
    later = timezone.now() + datetime.timedelta(days=800)
    assert apply_retention(now=later, is_dry_run=False).studies == 1
    assert not InferenceRecord.objects.exists()
