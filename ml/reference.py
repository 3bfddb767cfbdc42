"""What the model was taught on, as a sample of answers beside it: ``reference.npz`` in the model's folder.

It holds one slice a patient, taken through the serving code, of patients whom training never saw: on pictures that it
was fitted to a model is surer than it will ever be again. Where too few patients were held out, those of the splits
"valid" and "test" are taken, and then all. Crops around nodules are left out, because what is served are slices. No
picture can be made from it, and no patient is named in it.
"""

import csv
import hashlib
import io
import json
import os
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ml.data import CLASSES, class_of_folder, find_folders
from ml.drift import Answer, Policy, Sample
from ml.errors import MlError, TrainingDataError
from ml.evaluation import MANIFEST_NAME
from ml.inference import AnalysisResult, analyse
from ml.input_statistics import InputStatistics
from ml.runtime import Model

REFERENCE_NAME: Final = "reference.npz"
FORMAT: Final = 1
# So the file of a model with the largest embedding stays below 300 KB.
LARGEST_REFERENCE: Final = 200
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A model's training reference. ``taken_from`` says in a sentence which pictures it is made of."""

    model_version: str
    sample: Sample
    taken_from: str


@dataclass(frozen=True, kw_only=True)
class _Picture:
    path: Path
    patient: str
    split: str
    sha256: str
    label: str | None


def answer_of(result: AnalysisResult) -> Answer:
    """Return what the tests need of an answer of the serving code."""
    return Answer(
        statistics=result.input_statistics,
        top_class=result.top_class,
        confidence=result.confidence,
        malignant_probability=result.malignant_probability,
        embedding=result.embedding,
    )


def make_reference(
    directory: Path, *, data: Path, model: Model, progress: Progress = lambda done, total: None
) -> Reference:
    """Take the pictures that the model's manifest names through the serving code. Raises an ``MlError``.

    ``directory`` is the model's folder, ``data`` the folder above the data sets. Pictures that are not there, or are
    not those of the manifest, are left out.
    """
    pictures, kind = _without_training(_pictures(directory, data=data))
    by_patient: defaultdict[str, list[_Picture]] = defaultdict(list)
    for picture in pictures:
        by_patient[picture.patient].append(picture)
    answers, agreement = [], []
    patients = _drawn(by_patient)[:LARGEST_REFERENCE]
    for done, patient in enumerate(patients, start=1):
        usable = [picture for picture in _shuffled(by_patient[patient]) if _is_as_listed(picture)]
        if usable:
            result = analyse(usable[0].path, model=model)
            answers.append(answer_of(result))
            if usable[0].label is not None:
                agreement.append(float(result.top_class == usable[0].label))
        progress(done, len(patients))
    if not answers:
        raise TrainingDataError(
            f"None of the pictures that the manifest in {directory} names lies below {data} unchanged. Name the folder "
            "that the model was trained from."
        )
    return Reference(
        model_version=model.version,
        sample=Sample(answers=tuple(answers), agreement=tuple(agreement)),
        taken_from=f"one slice each of {len(answers)} patients, {kind}",
    )


def write_reference(reference: Reference, *, directory: Path) -> Path:
    """Write the file beside the model, under a temporary name first; return its path."""
    answers = reference.sample.answers
    head = {
        "format": FORMAT,
        "model_version": reference.model_version,
        "taken_from": reference.taken_from,
        "statistics": [answer.statistics.to_json() for answer in answers],
        "top_class": [answer.top_class for answer in answers],
        "agreement": list(reference.sample.agreement),
    }
    path = directory / REFERENCE_NAME
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        np.savez_compressed(
            file,
            head=np.frombuffer(json.dumps(head).encode(), np.uint8),
            confidence=np.array([answer.confidence for answer in answers], np.float32),
            malignant_probability=np.array([answer.malignant_probability for answer in answers], np.float32),
            embedding=np.array([answer.embedding for answer in answers], np.float16),
        )
    temporary.replace(path)
    return path


def read_reference(directory: Path) -> Reference | None:
    """Return the reference in a model's folder, or None where there is none. Raises ``MlError`` for a damaged one."""
    path = directory / REFERENCE_NAME
    if not path.is_file():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            head = json.loads(stored["head"].tobytes())
            if head["format"] != FORMAT:
                raise ValueError(f"format {head['format']}")
            columns = zip(
                head["statistics"],
                head["top_class"],
                stored["confidence"].tolist(),
                stored["malignant_probability"].tolist(),
                stored["embedding"].astype(np.float32),
                strict=True,
            )
            answers = tuple(
                Answer(
                    statistics=InputStatistics.from_json(statistics),
                    top_class=top_class,
                    confidence=confidence,
                    malignant_probability=malignant,
                    embedding=embedding,
                )
                for statistics, top_class, confidence, malignant, embedding in columns
            )
            sample = Sample(answers=answers, agreement=tuple(head["agreement"]))
            return Reference(model_version=head["model_version"], sample=sample, taken_from=head["taken_from"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise MlError(
            f"The reference {path} is damaged or of another format. Make it again: manage.py make_reference."
        ) from error


def _pictures(directory: Path, *, data: Path) -> list[_Picture]:
    manifest = directory / MANIFEST_NAME
    if not manifest.is_file():
        raise TrainingDataError(
            f"The model folder {directory} holds no {MANIFEST_NAME}, so it is unknown what it was trained on. Export "
            "the model again."
        )
    folders = find_folders(data)
    roots: dict[str, Path] = {}
    if folders.chest_ctscan is not None:
        chest = folders.chest_ctscan
        roots["chest-ctscan-images"] = chest / "Data" if (chest / "Data").is_dir() else chest
    if folders.whole_slices is not None:
        roots["whole-slices"] = folders.whole_slices
    with manifest.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] in roots]
    return [
        _Picture(
            path=roots[row["set"]] / row["path"],
            patient=f"{row['set']}/{row['group']}",
            split=row["split"],
            sha256=row["sha256"],
            label=_label(row),
        )
        for row in rows
    ]


def _label(row: dict[str, Any]) -> str | None:
    if row["set"] != "chest-ctscan-images":
        return None
    return CLASSES[class_of_folder(Path(row["path"]).parts[-2])]


def _without_training(pictures: list[_Picture]) -> tuple[list[_Picture], str]:
    """Return the pictures of the first of three choices that has patients enough, and what it is called."""
    trained = {picture.patient for picture in pictures if picture.split == "train"}
    choices = (
        ("whom training never saw", [one for one in pictures if one.patient not in trained]),
        ("of the splits valid and test, some of them seen in training", [p for p in pictures if p.split != "train"]),
    )
    for kind, chosen in choices:
        if len({picture.patient for picture in chosen}) >= Policy().minimum_reference:
            return chosen, kind
    return pictures, "seen in training or not"


def _drawn(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())


def _shuffled(pictures: list[_Picture]) -> list[_Picture]:
    return sorted(pictures, key=lambda picture: picture.sha256)


def _is_as_listed(picture: _Picture) -> bool:
    try:
        return hashlib.sha256(picture.path.read_bytes()).hexdigest() == picture.sha256
    except OSError:
        return False
