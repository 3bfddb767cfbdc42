"""The loop survives kill -9, says when it diverges; batches repeat; heads, folds and the command do what they say."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

keras = pytest.importorskip("keras", reason="training packages (requirements/ml.txt) are not installed")
tf = pytest.importorskip("tensorflow", reason="training packages (requirements/ml.txt) are not installed")

from ml import export  # noqa: E402
from ml.data import CLASSES, fingerprint  # noqa: E402 - only where the training packages are installed
from ml.errors import NoImprovementError, NotANumberError, TrainingDataError  # noqa: E402
from ml.preprocessing import to_input  # noqa: E402
from ml.runtime import STARTER_DIRECTORY, Network, load_model  # noqa: E402
from ml.training import classifier as classifying  # noqa: E402
from ml.training import figures as measuring  # noqa: E402
from ml.training import run  # noqa: E402
from ml.training.classifier import ClassifierData, SliceBatches  # noqa: E402
from ml.training.loop import Checkpoint, Run, Schedule, fit, recalibrate_normalisation  # noqa: E402
from ml.training.outline import HARD_SHARE, outline_loss  # noqa: E402
from ml.training.parameters import DEFAULT_PATH, limited, load_parameters  # noqa: E402
from ml.training.patches import Example, PatchMaker  # noqa: E402
from tests.sets import draw_all_layouts  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
# A small training as its own process, so that it can be killed: argv is folder, steps, seconds of sleep a step.
SMALL_TRAINING = """
import sys, time
from pathlib import Path
import keras, numpy as np, tensorflow as tf
from ml.training.loop import Checkpoint, Schedule, fit
folder, steps, pause = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.BatchNormalization(),
                          keras.layers.Activation("relu"), keras.layers.Dense(1)])
optimizer = keras.optimizers.AdamW(1e-2, weight_decay=1e-3)
optimizer.build(model.trainable_variables)
def make_batch(step):
    rng = np.random.default_rng((7, step))
    inputs = rng.normal(size=(16, 4)).astype("float32")
    return {"inputs": inputs, "targets": inputs.sum(axis=1, keepdims=True)}
def train_step(batch):
    time.sleep(pause)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(batch["inputs"], training=True) - batch["targets"]) ** 2)
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    return {"loss": loss}
fit(train_step=train_step, make_batch=make_batch, schedule=Schedule(peak=1e-2, total_steps=steps, warmup_steps=3),
    steps_per_epoch=5, checkpoint=Checkpoint(path=folder / "run.npz", model=model, optimizer=optimizer),
    best_path=folder / "best.weights.h5", validate=lambda: {"score": 0.0}, score="score", patience_epochs=99,
    report=lambda line: print(line, flush=True))
np.savez(folder / "final.npz", *[np.asarray(value) for value in model.variables])
"""


def start(folder: Path, *, steps: int, pause: float) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    return subprocess.Popen(
        [sys.executable, "-c", SMALL_TRAINING, str(folder), str(steps), str(pause)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


class TestResume:
    @pytest.mark.slow
    def test_a_killed_run_ends_where_an_unbroken_one_does(self, tmp_path):
        unbroken = start(tmp_path / "unbroken", steps=30, pause=0.0)
        killed = start(tmp_path / "killed", steps=30, pause=0.2)
        deadline = time.monotonic() + 120
        while not (tmp_path / "killed" / "run.npz").is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)  # into the next epoch: steps that the checkpoint does not have
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        assert not (tmp_path / "killed" / "final.npz").exists()
        resumed = start(tmp_path / "killed", steps=30, pause=0.0)
        output, _ = resumed.communicate(timeout=200)
        unbroken.communicate(timeout=200)
        assert resumed.returncode == unbroken.returncode == 0
        assert "resumed after step" in output
        with np.load(tmp_path / "unbroken/final.npz") as one, np.load(tmp_path / "killed/final.npz") as other:
            assert one.files == other.files
            for name in one.files:
                np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-5)

    def test_a_half_written_checkpoint_is_never_read(self, tmp_path):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)
        checkpoint = Checkpoint(path=tmp_path / "run.npz", model=model, optimizer=optimizer)
        assert checkpoint.restore() is None
        checkpoint.save(Run(step=5, history=[{"loss": 1.0}]))
        (tmp_path / "run.partial-1.npz").write_bytes(b"PK half of a file")
        restored = checkpoint.restore()
        assert restored is not None
        assert (restored.step, restored.history) == (5, [{"loss": 1.0}])


def run_fit(tmp_path: Path, *, losses, scores=None, steps: int = 40, patience: int = 3) -> tuple[Run, list[str]]:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
    losses, scores, lines = iter(losses), iter(scores or [0.0] * 1000), []
    run = fit(
        train_step=lambda batch: {"loss": next(losses)},
        make_batch=lambda step: {"step": np.array(step)},
        schedule=Schedule(peak=0.1, total_steps=steps, warmup_steps=2),
        steps_per_epoch=5,
        checkpoint=Checkpoint(path=tmp_path / "run.npz", model=model, optimizer=optimizer),
        best_path=tmp_path / "best.weights.h5",
        validate=lambda: {"score": next(scores)},
        score="score",
        patience_epochs=patience,
        report=lines.append,
    )
    return run, lines


class TestLoop:
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_a_loss_that_is_no_number_is_reported(self, tmp_path, bad):
        with pytest.raises(NotANumberError, match=r"step 12: the loss is no longer a number\. Lower"):
            run_fit(tmp_path, losses=[1.0] * 12 + [bad] * 99)

    def test_a_loss_that_never_falls_is_reported(self, tmp_path):
        with pytest.raises(NoImprovementError, match="did not fall below"):
            run_fit(tmp_path, losses=[1.0] * 99)

    def test_early_stopping_keeps_the_best(self, tmp_path):
        losses = [1.0 - 0.01 * step for step in range(99)]
        run, lines = run_fit(tmp_path, losses=losses, scores=[0.1, 0.9, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
        assert run.step == 25
        assert run.best_score == 0.9
        assert any("stopped early" in line for line in lines)
        assert (tmp_path / "best.weights.h5").is_file()

    def test_progress_has_loss_and_time_left(self, tmp_path):
        _, lines = run_fit(tmp_path, losses=[1.0 - 0.01 * step for step in range(99)], scores=list(range(99)))
        assert any("20/40" in line and "loss 0.8" in line and "ETA" in line for line in lines)

    def test_the_rate_warms_up_and_falls(self):
        schedule = Schedule(peak=1.0, total_steps=100, warmup_steps=10)
        rates = [schedule.at(step) for step in range(120)]
        assert rates[0] == pytest.approx(0.1)
        assert max(rates) == pytest.approx(1.0, abs=0.02)
        assert rates[99] < 0.03
        assert all(rate > 0 for rate in rates)

    def test_recalibration_gives_the_averages_of_the_batches(self):
        model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(momentum=0.9)])
        rng = np.random.default_rng(0)
        batches = [rng.normal(5, 2, (50, 3)).astype(np.float32) for _ in range(4)]
        recalibrate_normalisation(model, batches=batches)
        mean = np.asarray(model.layers[0].moving_mean)
        np.testing.assert_allclose(mean, np.concatenate(batches).mean(axis=0), rtol=1e-4)
        assert model.layers[0].momentum == 0.9


def example(seed: int, *, has_tumour: bool = True) -> Example:
    rng = np.random.default_rng(seed)
    mask = np.zeros((128, 128), np.uint8)
    if has_tumour:
        mask[60:70, 58:72] = 255
    return Example(pixels=rng.integers(0, 256, (128, 128)).astype(np.uint8), mask=mask, malignancy=5)


def maker(*, seed: int = 0, side: int = 32, **shares: float) -> PatchMaker:
    return PatchMaker(
        nodules={"a/0": [example(1)], "b/0": [example(2), example(3)]},
        slices=[example(4)],
        negatives=[example(5, has_tumour=False)],
        shares=shares or {"nodules": 0.5, "slices": 0.3, "negatives": 0.2},
        side=side,
        batch=12,
        seed=seed,
    )


class TestPatches:
    def test_a_step_can_be_made_again(self):
        one, other = maker().batch_of(7), maker().batch_of(7)
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
        assert (maker().batch_of(8)["pixels"] != one["pixels"]).any()
        assert (maker(seed=1).batch_of(7)["pixels"] != one["pixels"]).any()

    def test_batches_have_the_agreed_shapes(self):
        batch = maker(side=48).batch_of(0)
        assert batch["pixels"].shape == (12, 48, 48, 3)
        assert batch["mask"].shape == (12, 48, 48, 1)
        assert set(np.unique(batch["mask"])) <= {0.0, 1.0}
        assert batch["malignancy"].shape == batch["malignancy_weight"].shape == (12,)

    def test_negatives_have_no_mask_and_no_malignancy(self):
        batch = maker(negatives=1.0).batch_of(0)
        assert not batch["mask"].any()
        assert not batch["malignancy_weight"].any()

    def test_nodules_are_mostly_in_the_patch_but_seldom_in_its_middle(self):
        batches = [maker(nodules=1.0, side=64).batch_of(step) for step in range(6)]
        masks = np.concatenate([batch["mask"][..., 0] for batch in batches])
        share = (masks.sum(axis=(1, 2)) > 0).mean()
        assert share > 0.9
        assert masks[:, 32, 32].mean() < 0.6

    def test_a_missing_source_leaves_its_share_to_the_others(self):
        alone = PatchMaker(
            nodules={},
            slices=[],
            negatives=[example(5, has_tumour=False)],
            shares={"nodules": 0.9, "slices": 0.05, "negatives": 0.05},
            side=32,
            batch=3,
            seed=0,
        )
        assert alone.batch_of(0)["pixels"].shape == (3, 32, 32, 3)

    def test_phantoms_are_a_source(self):
        assert maker(phantoms=1.0).batch_of(0)["pixels"].shape == (12, 32, 32, 3)


class TestOutlineLoss:
    def losses(self, outline: np.ndarray, mask: np.ndarray, *, malignancy: float = 0.0, target: float = 1.0):
        outputs = {
            "outline": tf.constant(outline, tf.float32),
            "coarse": tf.nn.avg_pool2d(tf.constant(outline, tf.float32), 4, 4, "SAME"),
            "malignancy": tf.fill((len(mask), 4, 4, 1), malignancy),
        }
        batch = {
            "mask": tf.constant(mask, tf.float32),
            "malignancy": tf.fill((len(mask),), target),
            "malignancy_weight": tf.ones((len(mask),)),
        }
        return outline_loss(outputs, batch, coarse_weight=0.3, malignancy_weight=0.3)

    def test_the_right_answer_costs_least(self):
        mask = np.zeros((2, 32, 32, 1))
        mask[:, 8:16, 8:16] = 1
        right = float(self.losses(20 * mask - 10, mask)["outline"])
        for wrong in (np.zeros_like(mask), -10 + 0 * mask, 10 + 0 * mask, 10 - 20 * mask):
            assert float(self.losses(wrong, mask)["outline"]) > right + 0.3

    def test_few_hard_pixels_far_from_tumours_count_when_asked_for(self):
        side = 32
        mask = np.zeros((1, side, side, 1))
        mask[:, 8:16, 8:16] = 1
        quiet, at_rim, far = (20 * mask - 10 for _ in range(3))
        at_rim[:, 17:19, 8:16] = 5.0
        far[:, 25:27, 8:16] = 5.0
        hard = [self.hard_loss(outline, mask) for outline in (quiet, at_rim, far)]
        assert hard[0] < 0.01
        assert hard[1] < 0.01
        assert hard[2] == pytest.approx(5.0, abs=0.1)
        assert 16 == side * side // HARD_SHARE

    def hard_loss(self, outline: np.ndarray, mask: np.ndarray) -> float:
        outputs = {
            "outline": tf.constant(outline, tf.float32),
            "coarse": tf.nn.avg_pool2d(tf.constant(outline, tf.float32), 4, 4, "SAME"),
            "malignancy": tf.zeros((1, 4, 4, 1)),
        }
        batch = {
            "mask": tf.constant(mask, tf.float32),
            "malignancy": tf.zeros((1,)),
            "malignancy_weight": tf.zeros((1,)),
        }
        with_hard = outline_loss(outputs, batch, coarse_weight=0.3, malignancy_weight=0.3, hard_weight=1.0)
        without = outline_loss(outputs, batch, coarse_weight=0.3, malignancy_weight=0.3)
        assert float(without["hard"]) == 0.0
        assert float(with_hard["loss"] - without["loss"]) == pytest.approx(float(with_hard["hard"]), abs=1e-4)
        return float(with_hard["hard"])

    def test_malignancy_is_judged_over_the_finding(self):
        mask = np.zeros((1, 32, 32, 1))
        mask[:, 8:16, 8:16] = 1
        agree = float(self.losses(mask, mask, malignancy=4.0, target=1.0)["malignancy"])
        contradict = float(self.losses(mask, mask, malignancy=-4.0, target=1.0)["malignancy"])
        assert agree < 0.1 < 3 < contradict

    def test_a_patch_without_tumour_is_finite(self):
        losses = self.losses(np.zeros((1, 32, 32, 1)), np.zeros((1, 32, 32, 1)))
        assert all(math.isfinite(float(value)) for value in losses.values())


def class_data(*, count: int = 8) -> ClassifierData:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 4
    pixels = rng.integers(0, 256, (count, 256, 256)).astype(np.uint8)
    return ClassifierData(pixels=pixels, labels=labels, groups=tuple(str(place // 4) for place in range(count)))


class TestClassifier:
    def test_batches_repeat_and_classes_are_even(self):
        labels = np.array([0] * 40 + [1] * 4 + [2] * 4 + [3] * 4)
        rng = np.random.default_rng(0)
        data = ClassifierData(
            pixels=rng.integers(0, 256, (52, 256, 256)).astype(np.uint8),
            labels=labels,
            groups=tuple(str(place % 10) for place in range(52)),
        )
        batches = SliceBatches(data, side=32, batch=40, seed=3)
        one, other = batches.batch_of(5), batches.batch_of(5)
        np.testing.assert_array_equal(one["pixels"], other["pixels"])
        drawn = np.concatenate([batches.batch_of(step)["labels"] for step in range(10)])
        assert np.bincount(drawn, minlength=4).min() > 0.15 * len(drawn)

    def test_frozen_blocks_stay_as_they_are(self):
        model = classifying.build_classifier(class_count=4, width=0.05)
        classifying.freeze_blocks(model, count=2)
        assert not model.get_layer("block2_conv2_bn").trainable
        assert model.get_layer("block3_conv1").trainable
        classifying.freeze_blocks(model, count=0)
        assert model.get_layer("block1_conv1").trainable

    def test_the_dense_head_is_the_fitted_regression(self):
        rng = np.random.default_rng(1)
        centres = rng.normal(0, 3, (4, 12))
        labels = np.arange(200) % 4
        features = centres[labels] + rng.normal(0, 0.5, (200, 12))
        head = classifying.fit_frozen_head(
            features=features, labels=labels, valid_features=features, valid_labels=labels, seed=0
        )
        assert ((features @ head.kernel + head.bias).argmax(axis=1) == labels).mean() == head.valid_accuracy
        assert head.valid_accuracy > 0.95

    def test_a_feature_that_is_almost_always_nothing_gets_no_huge_weight(self):
        rng = np.random.default_rng(4)
        labels = np.arange(120) % 4
        features = rng.normal(size=(120, 20)) + np.eye(4)[labels] @ rng.normal(size=(4, 20))
        features[:, 7] = 0.0
        features[3, 7] = 1e-5
        head = classifying.fit_frozen_head(
            features=features, labels=labels, valid_features=features, valid_labels=labels, seed=0
        )
        assert np.abs(head.kernel[7]).max() <= np.abs(head.kernel).max() < 100

    def test_a_head_with_more_features_than_pictures_is_the_same_fit(self):
        rng = np.random.default_rng(5)
        rows = rng.normal(size=(12, 30))
        basis = classifying.row_space(rows)
        assert basis.shape == (30, 12)
        np.testing.assert_allclose(rows @ basis @ basis.T, rows, atol=1e-9)
        assert classifying.row_space(rows.T).shape == (12, 12)

    def test_a_head_that_has_seen_three_classes_never_names_the_fourth(self):
        rng = np.random.default_rng(2)
        labels = np.arange(90) % 3
        features = rng.normal(size=(90, 6)) + labels[:, np.newaxis]
        head = classifying.fit_frozen_head(
            features=features, labels=labels, valid_features=features, valid_labels=labels, seed=0
        )
        assert 3 not in (features @ head.kernel + head.bias).argmax(axis=1)

    @pytest.mark.parametrize(
        ("grid", "side", "cell_px", "levels"),
        [(1, 48, 32, (5,)), (2, 64, 32, (5,)), (2, 128, 64, (3, 4, 5)), (1, 64, 32, (3, 5))],
    )
    def test_the_network_with_a_fitted_head_says_what_the_regression_says(self, grid, side, cell_px, levels):
        model = classifying.build_classifier(class_count=4, width=0.05, grid=grid, cell_px=cell_px, levels=levels)
        pixels = classifying.resized(class_data().pixels, side=side)
        features = classifying.averages_of(model, pixels)
        rng = np.random.default_rng(0)
        kernel = rng.normal(size=(features.shape[1], 4)).astype(np.float32)
        head = classifying.FrozenHead(
            kernel=kernel, bias=np.arange(4.0), valid_accuracy=1.0, valid_nll=0.0, strength=1.0
        )
        classifying.set_head(model, head)
        expected = features @ head.kernel + head.bias
        np.testing.assert_allclose(classifying.logits_of(model, pixels), expected, rtol=1e-3, atol=1e-3)

    def test_every_level_weighs_the_same_whatever_its_filters(self):
        parameters = replace(load_parameters().classifier, width=1.0, grid=2, levels=(3, 4, 5))
        balance = classifying.level_balance(parameters)
        assert balance.shape == (4 * (256 + 512 + 512),)
        cell = balance[: 256 + 512 + 512]
        np.testing.assert_array_equal(balance, np.tile(cell, 4))
        weights = [float((part**2).sum()) for part in np.split(cell, [256, 768])]
        np.testing.assert_allclose(weights, weights[0], rtol=1e-5)
        assert float((balance**2).mean()) == pytest.approx(1.0)
        np.testing.assert_allclose(classifying.level_balance(replace(parameters, levels=(5,))), 1.0)

    def test_a_held_out_picture_chooses_nothing_of_its_fold(self):
        rng = np.random.default_rng(0)
        labels = np.arange(120) % 4
        groups = [str(number // 4) for number in range(120)]
        features = (rng.normal(size=(1, 120, 8)) + labels[:, np.newaxis]).astype(np.float32)
        head, temperature = classifying.fit_grouped_head(features=features, labels=labels, groups=groups, seed=0)
        logits = features[0] @ head.kernel + head.bias
        assert (logits.argmax(axis=1) == labels).mean() > 0.5
        assert 0.25 <= temperature <= 8
        shares = classifying.shares_of(logits, temperature=temperature)
        np.testing.assert_allclose(shares.sum(axis=1), 1.0)
        np.testing.assert_array_equal(shares.argmax(axis=1), logits.argmax(axis=1))

    NARROW = {"width": 0.05, "grid": 1, "levels": (5,)}

    def test_features_are_computed_once(self, tmp_path, monkeypatch):
        parameters = replace(load_parameters().classifier, **self.NARROW)
        model = classifying.build_classifier(class_count=4, **self.NARROW)
        options = {
            "data": class_data(),
            "side": 32,
            "versions": 1,
            "seed": 0,
            "cache": tmp_path,
            "parameters": parameters,
        }
        features, labels = classifying.frozen_features(model, **options)
        assert features.shape == (16, model.get_layer("logits").kernel.shape[0])
        np.testing.assert_array_equal(labels, np.tile(class_data().labels, 2))
        monkeypatch.setattr(classifying, "exported_averages", lambda *a, **k: pytest.fail("computed again"))
        np.testing.assert_array_equal(classifying.frozen_features(model, **options)[0], features)

    def test_other_weights_are_other_features(self, tmp_path):
        one, other = (classifying.build_classifier(class_count=4, **self.NARROW) for _ in range(2))
        parameters = replace(load_parameters().classifier, **self.NARROW)
        options = {
            "data": class_data(),
            "side": 32,
            "versions": 0,
            "seed": 0,
            "cache": tmp_path,
            "parameters": parameters,
        }
        assert (
            classifying.frozen_features(one, **options)[0] != classifying.frozen_features(other, **options)[0]
        ).any()

    def test_a_head_on_the_exported_trunks_features_loses_nothing_at_export(self, tmp_path):
        """Fitted on what serving's head reads: the exported file's logits are those of head and features."""
        shape = {"width": 0.05, "grid": 2, "cell_px": 32, "levels": (3, 4)}
        parameters = replace(load_parameters().classifier, **shape)
        keras.utils.set_random_seed(1)
        model = classifying.build_classifier(class_count=4, **shape)
        data = class_data()
        features, labels = classifying.frozen_features(
            model, data=data, side=64, versions=0, seed=0, cache=tmp_path, parameters=parameters
        )
        head = classifying.fit_frozen_head(
            features=features, labels=labels, valid_features=features, valid_labels=labels, seed=0, strengths=(100.0,)
        )
        classifying.set_head(model, head)
        network = Network(export.to_litert(export.deployable_classifier(model, **shape)), threads=1)
        expected = features @ head.kernel + head.bias
        for one, logits in zip(classifying.resized(data.pixels, side=64), expected, strict=True):
            found = network(to_input(one)[np.newaxis])["logits"][0]
            np.testing.assert_allclose(found, logits, atol=1e-3 * np.abs(expected).max())

    def test_no_group_is_on_both_sides_of_a_fold(self):
        rng = np.random.default_rng(0)
        groups = [str(number) for number in rng.integers(0, 40, 200)]
        labels = rng.integers(0, 4, 200)
        folds = classifying.grouped_folds(labels=labels, groups=groups, seed=0)
        assert len(folds) == 5
        assert sorted(np.concatenate([held_out for _, held_out in folds]).tolist()) == list(range(200))
        for train, held_out in folds:
            assert not {groups[place] for place in train} & {groups[place] for place in held_out}

    def test_temperature_softens_the_overconfident_and_keeps_the_winner(self):
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 4, 400)
        logits = rng.normal(size=(400, 4)) * 2
        logits[np.arange(400), labels] += 2.0
        overconfident = logits * 6
        temperature = classifying.fit_temperature(overconfident, labels=labels)
        assert temperature > 2
        assert classifying.negative_log_likelihood(
            overconfident, labels=labels, temperature=temperature
        ) < classifying.negative_log_likelihood(overconfident, labels=labels)


class TestFigures:
    def test_intervals_resample_groups_not_pictures(self):
        values = [0.0] * 50 + [1.0] * 50
        by_group = measuring.figure_over_groups(
            values, groups=[value for value in values], statistic=measuring.mean, on="x", seed=0
        )
        by_picture = measuring.figure_over_groups(
            values, groups=list(range(100)), statistic=measuring.mean, on="x", seed=0
        )
        assert by_group.value == by_picture.value == 0.5
        assert by_group.high - by_group.low > 2 * (by_picture.high - by_picture.low)

    def test_one_group_has_no_interval(self):
        figure = measuring.figure_over_groups([1.0, 0.0], groups=["a", "a"], statistic=measuring.mean, on="x", seed=0)
        assert (figure.value, figure.low, figure.high) == (0.5, None, None)

    def test_small_and_faint_findings_are_dropped_at_the_scale_of_the_picture(self):
        probability = np.zeros((100, 100), np.float32)
        probability[10:14, 10:14] = 0.9
        probability[50:60, 50:60] = 0.9
        probability[80:90, 80:90] = 0.7
        cut = measuring.Cut(outline=0.5, peak=0.8, minimum_area_px=20)
        mask = np.zeros((100, 100), bool)
        kept, count = measuring.predicted_mask(measuring.Scored(probability, mask, "a"), cut=cut)
        assert (int(kept.sum()), count) == (100, 1)
        large = measuring.Scored(probability, mask, "a", body_side_px=1024)
        assert measuring.predicted_mask(large, cut=cut)[1] == 0

    def test_thresholds_part_sure_tumours_from_likely_nothing(self):
        def scored(*, peak, is_tumour):
            probability = np.zeros((64, 64), np.float32)
            probability[20:32, 20:32], probability[24, 24] = 0.6, peak
            mask = (probability > 0) if is_tumour else np.zeros((64, 64), bool)
            return measuring.Scored(probability, mask, "a", body_side_px=256)

        chosen = measuring.choose_thresholds(
            nodules=[scored(peak=0.7, is_tumour=True)],
            slices=[scored(peak=0.992, is_tumour=True)],
            normals=[scored(peak=0.96, is_tumour=False)] * 3,
            malignant=0.4,
        )
        assert chosen.outline <= 0.6 < 0.96 < chosen.peak <= 0.992
        assert chosen.crop_outline <= 0.6
        assert chosen.crop_peak <= 0.7
        assert chosen.malignant == 0.4

    def test_thresholds_without_pictures_are_the_usual_ones(self):
        chosen = measuring.choose_thresholds(nodules=[], slices=[], normals=[], malignant=0.5)
        assert 0 < chosen.outline <= chosen.peak < 1

    @pytest.mark.parametrize("negatives", [0.0, 0.1])
    def test_normals_that_the_outline_was_taught_on_choose_no_thresholds(self, data_folder, negatives):
        parameters = load_parameters()
        phases = tuple(replace(phase, negatives=negatives) for phase in parameters.outline.phases)
        parameters = replace(parameters, outline=replace(parameters.outline, phases=phases))
        sets = run.read_sets(data_folder, parameters=parameters)
        found = run.normals_for_thresholds(sets, parameters=parameters, valid=())
        taught, kept = run.split_normals(run.without_conflicts(sets.chest_split("train")))
        assert {one.sha1 for one in found} == {one.sha1 for one in (kept if negatives else [*taught, *kept])}
        assert all((one.split, one.label) == ("train", run.NORMAL) for one in found)

    def test_a_patient_group_of_normals_teaches_or_chooses_thresholds_but_not_both(self, data_folder):
        sets = run.read_sets(data_folder, parameters=load_parameters())
        normals = [one for one in run.without_conflicts(sets.chest_split("train")) if one.label == run.NORMAL]
        pictures = [
            replace(
                normals[place % len(normals)], sha1=f"{place}", same_slice_id=None, patient_group_id=f"g{place % 7}"
            )
            for place in range(21)
        ]
        taught, kept = run.split_normals(pictures)
        assert len(taught) + len(kept) == 21
        assert {one.patient_group_id for one in kept} == {"g2", "g5"}
        assert not {one.patient_group_id for one in taught} & {one.patient_group_id for one in kept}

    def test_malignancy_of_one_kind_only_is_left_uncalibrated(self):
        rated = [measuring.Rated(logit=1.0, log_area=2.0, is_malignant=True, patient="a")]
        calibration, threshold = measuring.calibrate_malignancy(rated)
        assert (calibration.logit, threshold) == (1.0, 0.5)

    def test_malignancy_calibration_follows_the_evidence(self):
        rng = np.random.default_rng(0)
        rated = [
            measuring.Rated(
                logit=float(truth + rng.normal(0, 0.5)), log_area=3.0, is_malignant=bool(truth), patient="p"
            )
            for truth in rng.integers(0, 2, 200)
        ]
        calibration, threshold = measuring.calibrate_malignancy(rated)
        assert calibration.logit > 0.5
        assert 0.05 <= threshold <= 0.95


@pytest.fixture
def data_folder(tmp_path) -> Path:
    """The three layouts, generated."""
    root = tmp_path / "data"
    draw_all_layouts(root)
    return root


@pytest.fixture
def narrow_parameters(tmp_path) -> Path:
    text = DEFAULT_PATH.read_text(encoding="utf-8").replace("  weights: none", "  width: 0.05\n  weights: none")
    text = text.replace("  trunk: outline", "  width: 0.05\n  trunk: outline")
    path = tmp_path / "narrow.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def train(*arguments: object) -> str:
    output = StringIO()
    call_command("train", "--no-mlflow", *[str(argument) for argument in arguments], stdout=output)
    return output.getvalue()


class TestCommand:
    @pytest.mark.slow
    @pytest.mark.timeout(900)
    def test_a_quick_look_trains_exports_and_cross_validates(self, data_folder, narrow_parameters, tmp_path):
        options = ("--data", data_folder, "--out", tmp_path / "out", "--params", narrow_parameters)
        output = train(*options, "--limit", 24, "--stage", "outline")
        assert "24/24 loss" in output
        assert "step 24:" in output
        output = train(*options, "--cross-validate")
        assert "fold 5 of 5" in output
        output = train(*options, "--limit", 2, "--resume")
        assert "official_test_accuracy" in output
        model = load_model(tmp_path / "out/model")
        assert model.classes == CLASSES
        figures = model.card["figures"]
        assert {"official_valid_accuracy", "official_test_accuracy", "test_unseen_accuracy"} <= set(figures)
        assert (tmp_path / "out/model/manifest.csv").is_file()
        record = json.loads((tmp_path / "out/cross_validation.json").read_text(encoding="utf-8"))
        headline = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "ece")
        assert {f"grouped_cv_{name}" for name in headline} <= set(record["figures"])

        former = load_model(tmp_path / "out/model").card
        train(*options, "--limit", 2, "--resume", "--stage", "outline", "--keep-classifier", tmp_path / "out/model")
        renewed = load_model(tmp_path / "out/model").card
        assert renewed["files"]["classifier"]["sha256"] == former["files"]["classifier"]["sha256"]
        assert renewed["temperature"] == former["temperature"]
        assert renewed["figures"]["official_test_accuracy"] == former["figures"]["official_test_accuracy"]
        assert set(renewed["figures"]) == set(former["figures"])

    def test_a_class_network_taught_on_other_data_is_not_kept(self, data_folder, tmp_path):
        options = ("--data", data_folder, "--out", tmp_path / "out", "--stage", "outline")
        with pytest.raises(CommandError, match="other data"):
            train(*options, "--keep-classifier", STARTER_DIRECTORY)
        assert not (tmp_path / "out").exists()

    def test_keeping_the_class_network_goes_with_a_new_outline_only(self, tmp_path):
        with pytest.raises(CommandError, match="--stage outline"):
            train("--data", tmp_path, "--keep-classifier", tmp_path)

    def test_measuring_anew_keeps_the_networks_and_renews_what_serving_decides(
        self, data_folder, narrow_parameters, tmp_path
    ):
        former = Path(shutil.copytree(STARTER_DIRECTORY, tmp_path / "former"))
        card = json.loads((former / "model.json").read_text(encoding="utf-8"))
        sets = run.read_sets(data_folder, parameters=load_parameters(narrow_parameters), limit=2)
        card["training"]["fingerprint"] = fingerprint(run.manifest_of(sets))
        # As if serving had looked at pictures in another way when it was exported.
        card["figures"]["slice_dice"]["value"] = card["export"]["figures"]["slice_dice"]["exported"] = 0.123
        card["thresholds"]["outline"] = 0.111
        (former / "model.json").write_text(json.dumps(card), encoding="utf-8")
        options = ("--data", data_folder, "--out", tmp_path / "anew", "--params", narrow_parameters, "--limit", 2)
        train(*options, "--measure-anew", former)
        measured = load_model(tmp_path / "anew/model").card
        assert [one["sha256"] for one in measured["files"].values()] == [
            one["sha256"] for one in card["files"].values()
        ]
        assert measured["training"]["measured_anew_from"] == card["version"]
        assert measured["thresholds"]["outline"] != 0.111
        assert measured["figures"]["slice_dice"]["value"] != 0.123
        for name in ("official_test_accuracy", "grouped_cv_macro_f1"):
            assert measured["figures"][name] == card["figures"][name]
        # What the float network would score as serving is now, nobody has measured.
        assert "slice_dice" not in measured["export"]["figures"]
        name = "official_test_accuracy"
        assert measured["export"]["figures"][name] == card["export"]["figures"][name]

    def test_measuring_anew_trains_nothing(self, tmp_path):
        with pytest.raises(CommandError, match="trains nothing"):
            train("--data", tmp_path, "--measure-anew", tmp_path, "--cross-validate")

    def test_without_data_it_says_what_to_name(self, monkeypatch):
        monkeypatch.delenv("IRA_DATA_DIR", raising=False)
        with pytest.raises(CommandError, match="--data"):
            train()

    def test_an_empty_folder_is_refused_in_a_sentence(self, tmp_path):
        with pytest.raises(CommandError, match="holds none of"):
            train("--data", tmp_path)

    def test_the_classifier_needs_a_trunk_first(self, data_folder, narrow_parameters, tmp_path):
        with pytest.raises(CommandError, match="Run --stage outline first"):
            train(
                "--data", data_folder, "--out", tmp_path / "o", "--stage", "classifier", "--params", narrow_parameters
            )

    @pytest.mark.parametrize("limit", [0, -1])
    def test_a_limit_below_one_is_refused(self, tmp_path, limit):
        with pytest.raises(CommandError, match="at least 1"):
            train("--data", tmp_path, "--limit", limit)


class TestParameters:
    def test_the_shipped_file_is_read(self):
        parameters = load_parameters()
        assert parameters.outline.phases
        assert parameters.classifier.phases

    @pytest.mark.parametrize("text", ["", "seed: 0", "[]", "seed: {", "seed: 0\nsplits: {unknown: 1}"])
    def test_a_bad_file_is_named(self, tmp_path, text):
        (tmp_path / "p.yaml").write_text(text)
        with pytest.raises(TrainingDataError, match=r"p\.yaml cannot be used"):
            load_parameters(tmp_path / "p.yaml")

    def test_a_quick_look_is_quick(self):
        parameters = limited(load_parameters(), limit=3)
        assert max(phase.steps for phase in (*parameters.outline.phases, *parameters.classifier.phases)) == 3
        assert parameters.seed == replace(parameters).seed
