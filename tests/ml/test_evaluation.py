"""Evaluation on small folders whose figures can be worked out by hand, in each of the three layouts."""

import csv
import hashlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from ml.errors import TrainingDataError
from ml.evaluation import TrainingManifest, evaluate, read_manifest
from ml.management.commands import evaluate as evaluate_command
from ml.phantom import PhantomSpec, make_phantom
from ml.shortcuts import with_other_style, without_anatomy
from ml.windows import WINDOWS, simulate_window

UNSEEN = TrainingManifest(fitted=frozenset(), selected=frozenset(), is_present=True)
CLASSES = ("adenocarcinoma", "large_cell_carcinoma", "normal", "squamous_cell_carcinoma")


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def manifest_of(seen: frozenset[str]) -> TrainingManifest:
    """A manifest in which one half was fitted on and the other chose the thresholds: both are left out."""
    names = sorted(seen)
    half = (len(names) + 1) // 2
    return TrainingManifest(fitted=frozenset(names[:half]), selected=frozenset(names[half:]), is_present=True)


def picture(*squares, side=200, background=60) -> np.ndarray:
    pixels = np.zeros((side, side), np.uint8)
    pixels[10:-10, 10:-10] = background
    for x, y, size in squares:
        pixels[y : y + size, x : x + size] = 255
    return pixels


def mask(*squares, side=200) -> np.ndarray:
    pixels = np.zeros((side, side), np.uint8)
    for x, y, size in squares:
        pixels[y : y + size, x : x + size] = 255
    return pixels


# --- whole slices -----------------------------------------------------------------------------------------------------


@pytest.fixture
def whole_slices(tmp_path) -> Path:
    folder = tmp_path / "slices"
    rows = {
        "p1/perfect": ([(50, 50, 20)], [(50, 50, 20)]),
        "p2/half": ([(50, 50, 20)], [(50, 60, 20)]),
        "p3/missed": ([], [(50, 50, 20)]),
        "p4/clean": ([], []),
        "p5/invented": ([(50, 50, 20), (120, 120, 10)], []),
    }
    for name, (shown, truth) in rows.items():
        # No two pictures are alike, as no two real ones are.
        save(folder / f"{name}.png", picture(*shown, background=60 + len(name)))
        save(folder / f"{name}_mask.png", mask(*truth))
    return folder


def test_whole_slices_by_hand(whole_slices, hand_made_model):
    report = evaluate("whole-slices", data=whole_slices, model=hand_made_model, manifest=UNSEEN).report
    assert (report["slices_with_tumour"], report["slices_without_tumour"]) == (3, 2)
    assert report["dice"]["value"] == pytest.approx((1 + 0.5 + 0) / 3, abs=1e-4)
    assert report["iou"]["value"] == pytest.approx((1 + 1 / 3 + 0) / 3, abs=1e-4)
    assert report["sensitivity"]["value"] == pytest.approx(2 / 3, abs=1e-4)
    assert report["false_positives_per_negative_slice"]["value"] == 1.0
    assert report["negative_slices_with_a_finding"]["value"] == 0.5
    assert report["dice"]["low"] <= report["dice"]["value"] <= report["dice"]["high"]
    assert set(report["dice_by_window"]) == {"as_is", "lung", "soft_tissue"}
    assert report["interval_over"] == "patients (folders)"
    assert report["unreadable"] == []


def test_two_lesions_of_which_one_is_found(tmp_path, hand_made_model):
    save(tmp_path / "a.png", picture((50, 50, 20)))
    save(tmp_path / "a_mask.png", mask((50, 50, 20), (130, 130, 20)))
    report = evaluate("whole-slices", data=tmp_path, model=hand_made_model, manifest=UNSEEN).report
    assert report["sensitivity"]["value"] == 0.5
    assert report["lesions"] == 2
    assert report["interval_over"].startswith("slices")


def test_pictures_of_the_training_are_counted_and_left_out(whole_slices, hand_made_model):
    seen = frozenset([hashlib.sha256((whole_slices / "p3" / "missed.png").read_bytes()).hexdigest()])
    report = evaluate("whole-slices", data=whole_slices, model=hand_made_model, manifest=manifest_of(seen)).report
    assert report["seen_in_training"]["count"] == 1
    assert report["seen_in_training"]["of"] == 5
    assert "1 of 5" in report["seen_in_training"]["sentence"]
    assert report["images"] == 4
    assert report["dice"]["value"] == pytest.approx(0.75)


def test_everything_seen_is_said_and_not_divided_by(whole_slices, hand_made_model):
    seen = frozenset(hashlib.sha256(path.read_bytes()).hexdigest() for path in whole_slices.rglob("*.png"))
    report = evaluate("whole-slices", data=whole_slices, model=hand_made_model, manifest=manifest_of(seen)).report
    assert report["images"] == 0
    assert report["seen_in_training"]["count"] == 5


def test_broken_and_unequal_files_are_listed_with_the_reason(whole_slices, hand_made_model):
    (whole_slices / "p1" / "perfect.png").write_bytes(b"broken")
    save(whole_slices / "p2" / "half_mask.png", mask((10, 10, 5), side=100))
    (whole_slices / "p3" / "missed_mask.png").write_bytes(b"broken")
    report = evaluate("whole-slices", data=whole_slices, model=hand_made_model, manifest=UNSEEN).report
    assert [entry["file"] for entry in report["unreadable"]] == [
        "p1/perfect.png",
        "p2/half_mask.png",
        "p3/missed_mask.png",
    ]
    assert all(entry["error"].endswith(".") for entry in report["unreadable"])
    assert report["images"] == 2
    assert report["dice"]["value"] is None


# --- nodules ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def nodules(tmp_path) -> Path:
    folder = tmp_path / "nodules"
    rows = []
    for number, (patient, shown, truth, rating) in enumerate(
        [
            ("A", [(50, 50, 20)], [(50, 50, 20)], "5"),
            ("A", [(50, 50, 20)], [(50, 60, 20)], "4"),
            ("B", [(50, 50, 4)], [(50, 50, 4)], "1"),
            ("C", [], [(50, 50, 20)], "3"),
            ("D", [], [(50, 50, 10)], ""),
        ]
    ):
        image = save(folder / patient / f"n{number}.png", picture(*shown, side=128))
        save(folder / patient / f"n{number}_mask.png", mask(*truth, side=128))
        name = image.relative_to(folder).as_posix()
        area = sum(size * size for _, _, size in truth)
        rows.append([name, name.replace(".png", "_mask.png"), patient, str(number), "4", str(area), rating])
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "mask", "patient", "nodule", "readers", "area_px", "malignancy"])
        writer.writerows(rows)
    return folder


def test_nodules_by_hand(nodules, hand_made_model, monkeypatch):
    monkeypatch.setattr(hand_made_model, "malignancy", lambda pixels, *, mask: min(1.0, mask.sum() / 400))
    evaluation = evaluate("lidc-nodules", data=nodules, model=hand_made_model, manifest=UNSEEN)
    report = evaluation.report
    assert report["dice"]["value"] == pytest.approx((1 + 0.5 + 1 + 0 + 0) / 5)
    assert report["dice_ge30px"]["value"] == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert report["iou"]["value"] == pytest.approx((1 + 1 / 3 + 1) / 5, abs=1e-4)
    assert report["rated_images"] == 3
    assert report["malignancy_auc"]["value"] == 1.0
    assert report["malignancy_auc_by_nodule"]["value"] == 1.0
    assert report["dice_by_size_px"]["0-29"]["images"] == 1
    assert report["dice_by_size_px"]["300 and more"]["images"] == 3
    assert report["patients"] == 4
    assert [case.dice for case in evaluation.outline_cases] == sorted(case.dice for case in evaluation.outline_cases)


def test_a_folder_without_index_is_a_sentence(tmp_path, hand_made_model):
    with pytest.raises(TrainingDataError):
        evaluate("whole-slices", data=tmp_path, model=hand_made_model, manifest=UNSEEN)
    with pytest.raises(TrainingDataError, match="does not exist"):
        evaluate("lidc-nodules", data=tmp_path / "absent", model=hand_made_model, manifest=UNSEEN)


# --- classes ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def chest_ctscan(tmp_path) -> Path:
    """Four classes, three splits; the grey of the background says the class, so that a fake can read it."""
    folder = tmp_path / "chest" / "Data"
    generator = np.random.default_rng(0)
    names = ["adenocarcinoma_T2", "large.cell.carcinoma_T2", "normal", "squamous.cell.carcinoma_T1"]
    for split, count in (("train", 6), ("valid", 3), ("test", 4)):
        for label, name in enumerate(names):
            for number in range(count):
                pixels = picture(background=40 * (label + 1))
                pixels[80:120, 80:120] += generator.integers(0, 9, (40, 40), np.uint8)
                save(folder / split / (name.split("_T")[0] if split == "test" else name) / f"{number}.png", pixels)
    copy = folder / "train" / "normal" / "0.png"
    (folder / "test" / "normal" / "0.png").write_bytes(copy.read_bytes())
    return folder.parent


class ReadsBackground:
    """Names the class from the grey of the background; wrong on purpose for squamous in one half of the pictures."""

    def __call__(self, pixels):
        from types import SimpleNamespace

        label = int(np.clip(round(float(pixels[15, 15]) / 40) - 1, 0, 3))
        if label == 3 and pixels[80:120, 80:120].mean() > 163.95:
            label = 0
        shares = np.full(4, 0.05)
        shares[label] = 0.85
        return SimpleNamespace(probabilities=shares.astype(np.float32))


@pytest.fixture
def reading_model(hand_made_model, monkeypatch):
    # As on a machine without scikit-learn: the baselines take longer than all else together and have their own test.
    monkeypatch.setitem(sys.modules, "ml.baselines", None)
    monkeypatch.setattr(hand_made_model, "classify", ReadsBackground())
    monkeypatch.setattr(hand_made_model, "card", {"training": {}})
    return hand_made_model


def test_the_four_blocks(chest_ctscan, reading_model):
    report = evaluate("chest-ctscan", data=chest_ctscan, model=reading_model, manifest=UNSEEN).report
    assert report["images"] == {"test": 16, "train": 24, "valid": 12}
    assert report["official_valid"]["images"] == 12
    assert report["official_test"]["images"] == 16
    assert report["test_unseen"]["images"] == 15
    assert report["seen_in_training"] | {"sentence": ""} == {"count": 1, "of": 16, "sentence": ""}
    for block in ("official_valid", "official_test", "test_unseen"):
        for key in (
            "accuracy",
            "balanced_accuracy",
            "macro_f1",
            "macro_auc",
            "ece",
            "macro_pr_auc",
            "macro_specificity",
        ):
            assert set(report[block][key]) == {"value", "low", "high"}
        assert np.array(report[block]["confusion_matrix"]["rows_are_truth"]).sum() == report[block]["images"]
    assert report["official_test"]["per_class"]["normal"]["recall"]["value"] == 1.0
    assert "train --cross-validate" in report["grouped_cv"]["on"]
    json.dumps(report, allow_nan=False)


def test_manifest_removes_what_the_folder_alone_does_not_know(chest_ctscan, reading_model, tmp_path):
    path = chest_ctscan / "Data" / "test" / "adenocarcinoma" / "1.png"
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["set", "path", "split", "group", "sha256"])
        writer.writerow(["chest-ctscan", "x", "train", "g", hashlib.sha256(path.read_bytes()).hexdigest()])
        writer.writerow(["lidc-nodules", "y", "test", "g", "0" * 64])
    manifest = read_manifest(tmp_path)
    assert len(manifest.fitted) == 1
    assert not manifest.selected
    report = evaluate("chest-ctscan", data=chest_ctscan, model=reading_model, manifest=manifest).report
    assert report["test_unseen"]["images"] == 14
    assert report["official_test"]["images"] == 16


def test_absent_manifest_is_said(chest_ctscan, reading_model, tmp_path):
    manifest = read_manifest(tmp_path)
    assert not manifest.is_present
    report = evaluate("chest-ctscan", data=chest_ctscan, model=reading_model, manifest=manifest).report
    assert "without a training manifest" in report["seen_in_training"]["sentence"]


def test_recorded_cross_validation_is_printed_with_its_fingerprint(chest_ctscan, reading_model):
    figure = {"value": 0.7, "low": 0.6, "high": 0.8, "on": "835 unique pictures in 5 grouped folds"}
    reading_model.card |= {
        "training": {"fingerprint": "abc"},
        "figures": {"grouped_cv_macro_f1": figure, "other": figure},
    }
    block = evaluate("chest-ctscan", data=chest_ctscan, model=reading_model, manifest=UNSEEN).report["grouped_cv"]
    assert block["macro_f1"] == {"value": 0.7, "low": 0.6, "high": 0.8}
    assert block["accuracy"]["value"] is None
    assert block["data_fingerprint"] == "abc"
    assert block["on"] == figure["on"]
    assert "other" not in block


def test_without_the_training_packages_the_report_says_so(chest_ctscan, reading_model):
    baselines = evaluate("chest-ctscan", data=chest_ctscan, model=reading_model, manifest=UNSEEN).report["baselines"]
    assert "requirements/ml.txt" in baselines["on"]


def test_baselines_are_measured_in_the_same_blocks(chest_ctscan, reading_model, monkeypatch):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed on this machine")
    monkeypatch.delitem(sys.modules, "ml.baselines")
    baselines = evaluate("chest-ctscan", data=chest_ctscan, model=reading_model, manifest=UNSEEN).report["baselines"]
    assert set(baselines) == {"style_only", "hog_svm"}
    # The background grey is a perfect shortcut here, and the style-only baseline takes it.
    assert baselines["style_only"]["official_test"]["accuracy"]["value"] == 1.0
    assert baselines["style_only"]["grouped_cv"] is None


def test_shortcut_probe_unmasks_a_model_that_reads_the_background(chest_ctscan, reading_model):
    probe = evaluate("chest-ctscan", data=chest_ctscan, model=reading_model, manifest=UNSEEN).report["shortcuts"]
    untouched = probe["untouched"]["balanced_accuracy"]
    assert probe["anatomy_removed"]["balanced_accuracy"] >= untouched - 0.05
    assert probe["style_changed"]["balanced_accuracy"] < untouched


def test_probes_change_what_they_say_and_keep_the_rest():
    pixels = make_phantom(5, spec=PhantomSpec(size=256)).pixels
    shuffled = without_anatomy(pixels, seed=1)
    assert np.array_equal(np.bincount(shuffled.ravel(), minlength=256), np.bincount(pixels.ravel(), minlength=256))
    assert np.array_equal(shuffled[:20], pixels[:20])
    assert (shuffled != pixels).mean() > 0.3
    restyled = with_other_style(pixels, seed=1)
    assert restyled.shape != pixels.shape
    assert np.array_equal(restyled, with_other_style(pixels, seed=1))


# --- windows ----------------------------------------------------------------------------------------------------------


def test_simulated_window_comes_close_to_the_real_one():
    for seed in (1, 2, 3):
        spec = {"size": 256, "level": 0.5, "nodules": (), "has_distractors": False, "has_contrast_medium": False}
        wide = make_phantom(seed, spec=PhantomSpec(window="wide", **spec)).pixels
        for name in ("lung", "soft_tissue"):
            real = make_phantom(seed, spec=PhantomSpec(window=name, **spec)).pixels
            simulated = simulate_window(wide, window=WINDOWS[name])
            assert np.abs(simulated.astype(int) - real).mean() < 0.5 * np.abs(wide.astype(int) - real).mean()


# --- command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def patched(monkeypatch, hand_made_model):
    monkeypatch.setattr(evaluate_command, "load_model", lambda: hand_made_model)


def run(*arguments) -> str:
    out = io.StringIO()
    call_command("evaluate", *map(str, arguments), stdout=out, stderr=io.StringIO())
    return out.getvalue()


@pytest.mark.usefixtures("patched")
def test_command_prints_json_and_a_table(whole_slices):
    report = json.loads(run("--layout", "whole-slices", "--data", whole_slices, "--json"))
    assert report["layout"] == "whole-slices"
    assert report["model_version"] == "hand-made-1"
    table = run("--layout", "whole-slices", "--data", whole_slices)
    assert "dice" in table
    assert "0.500" in table


@pytest.mark.usefixtures("patched")
def test_command_writes_report_and_figures(whole_slices, nodules, tmp_path):
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed on this machine")
    run("--layout", "whole-slices", "--data", whole_slices, "--out", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.json", "outline_worst.png"}
    run("--layout", "lidc-nodules", "--data", nodules, "--out", tmp_path / "nodule-figures")
    assert (tmp_path / "nodule-figures" / "malignancy_roc.png").stat().st_size > 5000


def test_command_draws_every_figure_of_the_classes(chest_ctscan, reading_model, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed on this machine")
    monkeypatch.setattr(evaluate_command, "load_model", lambda: reading_model)
    run("--layout", "chest-ctscan", "--data", chest_ctscan, "--out", tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    for kind in ("confusion", "roc", "pr", "calibration", "worst"):
        assert f"official_test_{kind}.png" in names
    tables = {f"{block}_guesses.csv" for block in ("official_valid", "official_test", "test_unseen")}
    assert {name for name in names if not name.endswith(".png")} == {"report.json"} | tables
    for name in names - {"report.json"} - tables:
        with Image.open(tmp_path / "out" / name) as image:
            assert min(image.size) > 300


@pytest.mark.usefixtures("patched")
def test_command_says_what_is_wrong_with_the_folder(tmp_path):
    with pytest.raises(CommandError, match="does not exist"):
        run("--layout", "whole-slices", "--data", tmp_path / "absent")
    for layout in ("chest-ctscan", "lidc-nodules", "whole-slices"):
        with pytest.raises(CommandError):
            run("--layout", layout, "--data", tmp_path)


@pytest.mark.usefixtures("patched")
def test_command_knows_three_layouts_only(tmp_path):
    with pytest.raises(CommandError, match="invalid choice"):
        run("--layout", "holiday-pictures", "--data", tmp_path)
