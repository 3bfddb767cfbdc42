"""The reference beside a model: made of pictures that training never saw, through the serving code."""

import csv
import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from ml.data import CLASSES
from ml.drift import Policy
from ml.errors import MlError, TrainingDataError
from ml.reference import REFERENCE_NAME, make_reference, read_reference, write_reference
from ml.runtime import STARTER_DIRECTORY, read_card

ENOUGH = Policy().minimum_reference


def write_data(data: Path, *, model: Path, patients: Iterable[tuple[str, str, int]]) -> None:
    """Pictures in the chest-ctscan layout and a manifest beside the model: (split, patient, number of pictures)."""
    rows = []
    model.mkdir(exist_ok=True)
    for split, patient, count in patients:
        for number in range(count):
            label = CLASSES[int(patient) % 4]
            relative = Path(split) / label / f"{patient}-{number}.png"
            path = data / "chest-ctscan-images" / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng([int(patient), number, len(split)]).integers(0, 200, (70, 80), dtype=np.uint8)
            Image.fromarray(noise).save(path)
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            rows.append(("chest-ctscan-images", relative.as_posix(), split, patient, sha256))
    rows.append(("lidc-nodules", "LIDC-IDRI-0001/nodule00_slice002.png", "test", "LIDC-IDRI-0001", "0" * 64))
    with (model / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("set", "path", "split", "group", "sha256"), *rows])


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "data", tmp_path / "model"


def test_only_patients_that_training_never_saw_are_taken_one_slice_each(folders, hand_made_model) -> None:
    data, model = folders
    unseen = [("test", str(100 + n), 3) for n in range(ENOUGH)]
    both = [(split, str(n), 2) for n in range(5) for split in ("train", "test")]
    write_data(data, model=model, patients=[*unseen, *both])
    reference = make_reference(model, data=data, model=hand_made_model)
    assert len(reference.sample.answers) == ENOUGH
    assert reference.model_version == "hand-made-1"
    assert "whom training never saw" in reference.taken_from
    # The hand-made model says adenocarcinoma to everything, and so do the labels of every fourth patient.
    assert np.mean(reference.sample.agreement) == pytest.approx(np.mean([(100 + n) % 4 == 0 for n in range(ENOUGH)]))


def test_where_few_were_held_out_their_splits_are_taken_and_then_all(folders, hand_made_model) -> None:
    data, model = folders
    both = [(split, str(n), 1) for n in range(ENOUGH) for split in ("train", "valid")]
    write_data(data, model=model, patients=both)
    assert "some of them seen in training" in make_reference(model, data=data, model=hand_made_model).taken_from
    write_data(data, model=model, patients=[("train", "1", 2), ("test", "2", 2)])
    reference = make_reference(model, data=data, model=hand_made_model)
    assert (len(reference.sample.answers), "seen in training or not" in reference.taken_from) == (2, True)


def test_a_picture_that_is_not_the_manifest_s_is_left_out(folders, hand_made_model) -> None:
    data, model = folders
    write_data(data, model=model, patients=[("test", "1", 1), ("test", "2", 1)])
    changed = next(data.rglob("1-0.png"))
    Image.fromarray(np.eye(90, dtype=np.uint8) * 255).save(changed)
    assert len(make_reference(model, data=data, model=hand_made_model).sample.answers) == 1
    for path in data.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(TrainingDataError, match="Name the folder that the model was trained from"):
        make_reference(model, data=data, model=hand_made_model)


def test_it_is_written_and_read_back(folders, hand_made_model) -> None:
    data, model = folders
    write_data(data, model=model, patients=[("test", str(n), 1) for n in range(6)])
    made = make_reference(model, data=data, model=hand_made_model)
    write_reference(made, directory=model)
    assert sorted(path.name for path in model.iterdir()) == ["manifest.csv", REFERENCE_NAME]
    back = read_reference(model)
    assert back is not None
    assert (back.model_version, back.taken_from) == (made.model_version, made.taken_from)
    assert back.sample.agreement == made.sample.agreement
    for one, other in zip(back.sample.answers, made.sample.answers, strict=True):
        assert one.statistics.to_json() == other.statistics.to_json()
        assert (one.top_class, one.confidence) == (other.top_class, pytest.approx(other.confidence))
        assert np.allclose(one.embedding, other.embedding, rtol=1e-3)


def test_no_reference_is_none_and_a_damaged_one_a_sentence(tmp_path: Path) -> None:
    assert read_reference(tmp_path) is None
    for content in (b"", b"PK\x03\x04 not really", b"\x80\x04K\x01."):
        (tmp_path / REFERENCE_NAME).write_bytes(content)
        with pytest.raises(MlError, match=r"Make it again: manage\.py make_reference"):
            read_reference(tmp_path)


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="does not exist"):
        call_command("make_reference", data=tmp_path / "nowhere")


def test_a_registered_version_is_never_changed(settings, tmp_path: Path) -> None:
    settings.MODELS_DIR = tmp_path / "models"
    with pytest.raises(CommandError, match="before registering it"):
        call_command("make_reference", data=tmp_path, model=tmp_path / "models" / "2026.1")


def test_the_starter_model_has_its_reference() -> None:
    reference = read_reference(STARTER_DIRECTORY)
    assert reference is not None, "run manage.py make_reference --data DIR after exchanging the starter model"
    assert reference.model_version == read_card(STARTER_DIRECTORY)["version"]
    assert len(reference.sample.answers) >= ENOUGH
    assert (STARTER_DIRECTORY / REFERENCE_NAME).stat().st_size <= 300 * 1024
