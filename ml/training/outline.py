"""Training of the outline and malignancy network, which also makes the CT-pretrained VGG16 trunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from ml.architectures import MALIGNANCY_STRIDE_PX, build_outline, load_imagenet_trunk
from ml.preprocessing import pad_to_stride, to_input
from ml.runtime import STARTER_DIRECTORY, pooled_logit
from ml.training.loop import Batch, Checkpoint, Run, Schedule, fit, recalibrate_normalisation
from ml.training.parameters import OutlineParameters, OutlinePhase
from ml.training.patches import Example, PatchMaker
from ml.training.warm_start import load_exported

# Batches whose statistics the normalisations take before each validation.
SETTLING_BATCHES = 8
# Steps from here on are never trained on: their batches show an exported network its normalisations anew.
UNUSED_STEPS = 10_000_000
NORMALISING_BATCHES = 16
OUTLINE_WEIGHTS = "outline.weights.h5"
# One pixel in so many of a patch counts as hard; so near to a tumour none does, for outlines are a matter of opinion.
HARD_SHARE = 64
RIM_PX = 4


@dataclass(frozen=True)
class OutlineData:
    """What the outline network trains and is validated on; nothing of a test patient is in here."""

    train_nodules: dict[str, list[Example]]
    train_slices: Sequence[Example]
    negatives: Sequence[Example]
    valid_nodules: Sequence[Example]
    valid_slices: Sequence[Example]


def outline_loss(
    outputs: Mapping[str, tf.Tensor],
    batch: Mapping[str, tf.Tensor],
    *,
    coarse_weight: float,
    malignancy_weight: float,
    hard_weight: float = 0.0,
) -> dict[str, tf.Tensor]:
    """Return `loss` and its parts: Dice where there is tumour, cross-entropy everywhere, malignancy over findings.

    `hard_weight` adds what is most tumour-like away from every tumour: false findings are few pixels, which the mean
    over a patch hardly feels.
    """
    mask = batch["mask"]
    fine = _mask_loss(outputs["outline"], mask)
    coarse = _mask_loss(outputs["coarse"], tf.nn.avg_pool2d(mask, 4, 4, "SAME"))
    share = tf.nn.avg_pool2d(mask, MALIGNANCY_STRIDE_PX, MALIGNANCY_STRIDE_PX, "SAME")
    logit = tf.reduce_sum(outputs["malignancy"] * share, axis=(1, 2, 3)) / (tf.reduce_sum(share, axis=(1, 2, 3)) + 1e-6)
    weight = batch["malignancy_weight"]
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=batch["malignancy"], logits=logit)
    malignancy = tf.reduce_sum(entropy * weight) / (tf.reduce_sum(weight) + 1e-3)
    hard = _hard_loss(outputs["outline"], mask) if hard_weight else tf.zeros(())
    return {
        "loss": fine + coarse_weight * coarse + malignancy_weight * malignancy + hard_weight * hard,
        "outline": fine,
        "malignancy": malignancy,
        "hard": hard,
    }


def _hard_loss(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Return the mean cross-entropy of each patch's hardest tumour-free pixels, the rim of a tumour left out."""
    near = tf.nn.max_pool2d(mask, 2 * RIM_PX + 1, 1, "SAME")
    entropy = tf.nn.softplus(logits) * (1.0 - near)
    flat = tf.reshape(entropy, (tf.shape(entropy)[0], -1))
    return tf.reduce_mean(tf.math.top_k(flat, k=tf.shape(flat)[1] // HARD_SHARE, sorted=False).values)


def _mask_loss(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    probability = tf.sigmoid(logits)
    both = tf.reduce_sum(probability * mask, axis=(1, 2, 3))
    either = tf.reduce_sum(probability, axis=(1, 2, 3)) + tf.reduce_sum(mask, axis=(1, 2, 3))
    has_tumour = tf.cast(tf.reduce_sum(mask, axis=(1, 2, 3)) > 0, tf.float32)
    dice = 1.0 - (2.0 * both + 1.0) / (either + 1.0)
    dice = tf.reduce_sum(dice * has_tumour) / (tf.reduce_sum(has_tumour) + 1e-3)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=mask, logits=logits)
    return dice + tf.reduce_mean(entropy)


def train_outline(
    *,
    data: OutlineData,
    parameters: OutlineParameters,
    seed: int,
    out: Path,
    report: Callable[[str], None],
    is_resumed: bool = True,
    on_epoch: Callable[[int, Mapping[str, float]], None] | None = None,
) -> tuple[keras.Model, tuple[Run, ...]]:
    """Train phase after phase; return the network with its best validated weights and the runs.

    A phase that already wrote its best weights is not run again when resumed.
    """
    keras.utils.set_random_seed(seed)
    model = build_outline(width=parameters.width)
    maker = _patch_maker(parameters.phases[0], data=data, seed=seed)
    inputs = (maker.batch_of(UNUSED_STEPS + place)["pixels"] for place in range(NORMALISING_BATCHES))
    initialise(model, weights=parameters.weights, inputs=inputs)
    if parameters.precision != "float32":
        model = with_precision(model, width=parameters.width, precision=parameters.precision)
    runs = []
    for number, phase in enumerate(parameters.phases):
        runs.append(
            _train_phase(
                model,
                phase=phase,
                data=data,
                parameters=parameters,
                seed=seed + 1000 * number,
                out=out,
                report=report,
                is_resumed=is_resumed,
                on_epoch=on_epoch,
            )
        )
        model.load_weights(out / f"{phase.name}-{OUTLINE_WEIGHTS}")
    return with_precision(model, width=parameters.width, precision="float32"), tuple(runs)


def initialise(model: keras.Model, *, weights: str, inputs: Iterable[np.ndarray]) -> None:
    """Give an untrained outline network the weights that `OutlineParameters.weights` names.

    Going on from an exported model takes `inputs`, batches of training pictures, to find its normalisations.
    """
    if weights == "imagenet":
        load_imagenet_trunk(model)
    elif weights == "starter" or Path(weights).is_dir():
        load_exported(model, folder=STARTER_DIRECTORY if weights == "starter" else Path(weights), inputs=inputs)
    elif weights != "none":
        model.load_weights(weights, skip_mismatch=True)


def with_precision(model: keras.Model, *, width: float, precision: str) -> keras.Model:
    """Return the same outline network computing in another of Keras' dtype policies; weights stay float32."""
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        other = build_outline(width=width)
    finally:
        keras.config.set_dtype_policy(former)
    other.set_weights(model.get_weights())
    return other


def _patch_maker(phase: OutlinePhase, *, data: OutlineData, seed: int) -> PatchMaker:
    return PatchMaker(
        nodules=data.train_nodules,
        slices=data.train_slices,
        negatives=data.negatives,
        shares={
            "nodules": phase.nodules,
            "slices": phase.slices,
            "negatives": phase.negatives,
            "phantoms": phase.phantoms,
        },
        side=phase.side,
        batch=phase.batch,
        seed=seed,
    )


def _train_phase(
    model: keras.Model,
    *,
    phase: OutlinePhase,
    data: OutlineData,
    parameters: OutlineParameters,
    seed: int,
    out: Path,
    report: Callable[[str], None],
    is_resumed: bool,
    on_epoch: Callable[[int, Mapping[str, float]], None] | None,
) -> Run:
    optimizer = keras.optimizers.AdamW(learning_rate=phase.learning_rate, weight_decay=1e-4, global_clipnorm=5.0)
    optimizer.build(model.trainable_variables)
    maker = _patch_maker(phase, data=data, seed=seed)

    @tf.function
    def step(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            outputs = model(batch["pixels"], training=True)
            losses = outline_loss(
                outputs,
                batch,
                coarse_weight=parameters.coarse_weight,
                malignancy_weight=parameters.malignancy_weight,
                hard_weight=phase.hard_weight,
            )
        optimizer.apply(tape.gradient(losses["loss"], model.trainable_variables), model.trainable_variables)
        return losses

    def train_step(batch: Batch) -> Mapping[str, tf.Tensor]:
        return step({key: tf.convert_to_tensor(value) for key, value in batch.items()})

    return fit(
        train_step=train_step,
        make_batch=maker.batch_of,
        schedule=Schedule(
            peak=phase.learning_rate, total_steps=phase.steps, warmup_steps=max(1, min(40, phase.steps // 10))
        ),
        steps_per_epoch=parameters.steps_per_epoch,
        checkpoint=Checkpoint(path=out / f"{phase.name}-outline.npz", model=model, optimizer=optimizer),
        best_path=out / f"{phase.name}-{OUTLINE_WEIGHTS}",
        validate=lambda: validate_outline(model, nodules=data.valid_nodules, slices=data.valid_slices),
        score="score",
        patience_epochs=parameters.patience_epochs,
        report=report,
        is_resumed=is_resumed,
        settle=lambda done: recalibrate_normalisation(
            model, batches=(maker.batch_of(done + ahead)["pixels"] for ahead in range(SETTLING_BATCHES))
        ),
        name=f"outline/{phase.name}",
        on_epoch=on_epoch,
    )


def validate_outline(
    model: keras.Model, *, nodules: Sequence[Example], slices: Sequence[Example], threshold: float = 0.5
) -> dict[str, float]:
    """Return mean `dice` over nodule crops, `slice_dice` over whole slices with tumour, `auc` of malignancy, `score`.

    `score`, by which weights are chosen, is the Dice over all pictures plus a tenth of the AUC.
    """
    forward = _forward(model)
    dices, logits, truths = [], [], []
    for example in nodules:
        outline, malignancy = forward(example.pixels)
        mask = example.mask > 0
        dices.append(dice_of(outline > threshold, mask))
        if example.malignancy not in (None, 3) and mask.any():
            logits.append(pooled_logit(malignancy, mask=mask))
            truths.append(example.malignancy > 3)
    slice_dices = [
        dice_of(forward(example.pixels)[0] > threshold, example.mask > 0) for example in slices if example.mask.any()
    ]
    auc = float(roc_auc_score(truths, logits)) if len(set(truths)) == 2 else 0.5
    figures = {
        "dice": float(np.mean(dices)) if dices else 0.0,
        "slice_dice": float(np.mean(slice_dices)) if slice_dices else 0.0,
        "auc": auc,
    }
    parts = [value for value, has in ((figures["dice"], dices), (figures["slice_dice"], slice_dices)) if has]
    return {**figures, "score": (float(np.mean(parts)) if parts else 0.0) + 0.1 * auc}


def _forward(model: keras.Model) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    call = tf.function(lambda pixels: model(pixels, training=False), reduce_retracing=True)

    def forward(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = pixels.shape
        outputs = call(tf.convert_to_tensor(to_input(pad_to_stride(pixels))[np.newaxis]))
        outline = tf.sigmoid(outputs["outline"])[0, :height, :width, 0].numpy()
        return outline, outputs["malignancy"][0, :, :, 0].numpy()

    return forward


def dice_of(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Return the Dice coefficient of two boolean masks; 1.0 where both are empty."""
    total = np.count_nonzero(predicted) + np.count_nonzero(truth)
    return 1.0 if not total else 2.0 * np.count_nonzero(predicted & truth) / total
