"""The stages that dvc.yaml calls: nothing is dropped in silence, nothing is half-written."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import yaml

from ml.errors import ModelFileError
from ml.runtime import STARTER_DIRECTORY, load_model, read_card
from pipelines import model_card, register

ROOT = Path(__file__).resolve().parents[2]


class TestRegister:
    def test_a_model_is_copied_whole_and_served(self, tmp_path):
        version = register.copy(STARTER_DIRECTORY, target=tmp_path / "model")
        assert load_model(tmp_path / "model").version == version
        assert not [path for path in (tmp_path / "model").iterdir() if path.name.startswith(".")]

    def test_a_damaged_model_replaces_nothing(self, tmp_path):
        good, bad = tmp_path / "good", tmp_path / "bad"
        register.copy(STARTER_DIRECTORY, target=good)
        shutil.copytree(STARTER_DIRECTORY, bad)
        (bad / "outline.tflite").write_bytes(b"broken")
        before = (good / "outline.tflite").read_bytes()
        with pytest.raises(ModelFileError):
            register.copy(bad, target=good)
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
        named = (out for stage in stages.values() for out in stage.get("outs", []))
        made = {out if isinstance(out, str) else next(iter(out)) for out in named}
        for stage in stages.values():
            module = stage["cmd"].split()[2]
            assert importlib.util.find_spec(module) is not None
            for path in stage["deps"]:
                is_made = any(path == out or path.startswith(f"{out}/") for out in made)
                assert is_made or path.startswith("${") or (ROOT / path).exists()

    def test_parameters_that_stages_depend_on_exist(self):
        parameters = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        for stage in stages.values():
            assert set(stage.get("params", [])) <= set(parameters)
