"""The stages that dvc.yaml calls: nothing is dropped in silence, nothing is half-written."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ml.errors import ModelFileError, TrainingDataError
from ml.runtime import STARTER_DIRECTORY, load_model, read_card
from pipelines import ingest as ingesting
from pipelines import model_card, register

ROOT = Path(__file__).resolve().parents[2]


def save(path: Path, *, seed: int, mode: str = "RGBA") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 70)).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def class_set(tmp_path) -> Path:
    data = tmp_path / "chest-ctscan-images" / "Data"
    save(data / "train/normal/a.png", seed=1)
    save(data / "train/large.cell.carcinoma_left.hilum_T2/l4.png", seed=2)
    save(data / "train/squamous.cell.carcinoma_left.hilum_T1/sq2.png", seed=2)
    save(data / "valid/adenocarcinoma_left/b.png", seed=3, mode="L")
    save(data / "test/normal/copy.png", seed=1)
    save(data / "test/adenocarcinoma/really.png", seed=4, mode="RGB")
    (data / "test/adenocarcinoma/really.png").rename(data / "test/adenocarcinoma/c.png")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(data / "test/adenocarcinoma/jpeg.png", format="JPEG")
    return tmp_path


@pytest.fixture
def ingested(class_set):
    return ingesting.ingest(class_set / "chest-ctscan-images")


class TestIngest:
    def test_every_picture_is_described(self, ingested):
        by_name = {picture.path: picture for picture in ingested.pictures}
        assert len(by_name) == 7
        picture = by_name["valid/adenocarcinoma_left/b.png"]
        assert (picture.class_name, picture.mode, picture.width, picture.height) == ("adenocarcinoma", "L", 70, 64)
        assert by_name["test/adenocarcinoma/jpeg.png"].format == "JPEG"

    def test_copies_and_conflicts_are_found(self, ingested):
        by_name = {Path(picture.path).name: picture for picture in ingested.pictures}
        assert by_name["copy.png"].duplicate_of == "" or by_name["a.png"].duplicate_of == ""
        assert {by_name["copy.png"].duplicate_of, by_name["a.png"].duplicate_of} - {""}
        assert by_name["l4.png"].conflict_with.endswith("sq2.png")
        assert by_name["sq2.png"].conflict_with.endswith("l4.png")
        assert by_name["c.png"].conflict_with == ""

    def test_the_report_counts_leaks(self, ingested):
        report = ingesting.report_of(ingested)
        assert report["pictures"] == 7
        assert report["unique"] == 5
        assert report["test_pictures_in_train_by_class"] == {"normal": 1}
        assert len(report["conflicts"]) == 2

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("test/normal/cut.png", b"\x89PNG\r\n\x1a\n"),
            ("test/normal/empty.png", b""),
            ("test/normal/notes.txt", b"a note"),
            ("test/normal/bitmap.png", b"BM" + b"\0" * 60),
            ("test/stray.png", b"\x89PNG\r\n\x1a\n"),
            ("test/benign/x.png", b"\x89PNG\r\n\x1a\n"),
            ("test/normal/deep/x.png", b"\x89PNG\r\n\x1a\n"),
        ],
    )
    def test_what_cannot_be_used_is_set_aside_with_the_reason(self, class_set, name, content):
        path = class_set / "chest-ctscan-images/Data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        ingested = ingesting.ingest(class_set / "chest-ctscan-images")
        (aside,) = ingested.set_aside
        assert aside.path == name
        assert len(aside.reason) > 10
        assert len(ingested.pictures) == 7

    def test_groups_carry_conflicts_across_recropped_slices(self, class_set):
        root = class_set / "chest-ctscan-images"
        (root / "groups.csv").write_text(
            "path,same_slice_id,patient_group_id\ntest/adenocarcinoma/c.png,9,1\ntrain/normal/a.png,9,1\n"
        )
        by_name = {Path(picture.path).name: picture for picture in ingesting.ingest(root).pictures}
        assert by_name["c.png"].conflict_with == "train/normal/a.png"
        assert by_name["c.png"].patient_group_id == "1"

    def test_manifest_and_report_are_written_whole(self, class_set, tmp_path):
        assert ingesting.main(["--data", str(class_set), "--out", str(tmp_path / "out")]) == 0
        with (tmp_path / "out/manifest.csv").open(newline="", encoding="utf-8") as file:
            assert len(list(csv.DictReader(file))) == 7
        assert json.loads((tmp_path / "out/data_report.json").read_text(encoding="utf-8"))["pictures"] == 7
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["data_report.json", "manifest.csv"]

    def test_a_folder_without_the_set_is_a_sentence_and_an_exit_code(self, tmp_path, capsys):
        assert ingesting.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
        assert "--data" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_a_set_without_splits_is_refused(self, tmp_path):
        with pytest.raises(TrainingDataError, match="no train, valid or test"):
            ingesting.ingest(tmp_path)


class TestRegister:
    def test_a_model_is_copied_whole_and_served(self, tmp_path):
        version = register.register(STARTER_DIRECTORY, target=tmp_path / "model")
        assert load_model(tmp_path / "model").version == version
        assert not [path for path in (tmp_path / "model").iterdir() if path.name.startswith(".")]

    def test_a_damaged_model_replaces_nothing(self, tmp_path):
        good, bad = tmp_path / "good", tmp_path / "bad"
        register.register(STARTER_DIRECTORY, target=good)
        shutil.copytree(STARTER_DIRECTORY, bad)
        (bad / "outline.tflite").write_bytes(b"broken")
        before = (good / "outline.tflite").read_bytes()
        with pytest.raises(ModelFileError):
            register.register(bad, target=good)
        assert (good / "outline.tflite").read_bytes() == before
        assert register.main(["--model", str(bad), "--target", str(good)]) == 1


class TestModelCard:
    def test_its_figures_are_those_of_the_shipped_model(self):
        text = model_card.CARD.read_text(encoding="utf-8")
        assert model_card.with_figures(text, card=read_card(STARTER_DIRECTORY)) == text

    def test_a_changed_figure_shows(self):
        card = read_card(STARTER_DIRECTORY)
        name = next(iter(card["figures"]))
        card["figures"][name]["value"] = 0.123
        text = model_card.CARD.read_text(encoding="utf-8")
        assert f"| `{name}` | 0.123 |" in model_card.with_figures(text, card=card)


class TestStages:
    def test_every_stage_calls_a_module_that_exists_and_names_files_that_exist(self):
        stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        made = {out for stage in stages.values() for out in stage.get("outs", [])}
        for stage in stages.values():
            module = stage["cmd"].split()[2]
            assert (ROOT / (module.replace(".", "/") + ".py")).is_file()
            for path in stage["deps"]:
                assert path in made or (ROOT / path).exists()

    def test_parameters_that_stages_depend_on_exist(self):
        parameters = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        for stage in stages.values():
            assert set(stage.get("params", [])) <= set(parameters)
