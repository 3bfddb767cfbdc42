"""Training of the slice classifier: first the frozen recipe, then fine-tuning of the CT-pretrained trunk."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from ml.architectures import VGG16_BLOCKS, build_classifier, copy_trunk, load_imagenet_trunk, scaled
from ml.augment import Placement, cut, random_greys, random_marks
from ml.backbones import BACKBONES, build_backbone_classifier, frozen_prefixes, load_backbone
from ml.data import CLASSES, ChestImage, read_grey
from ml.export import exported_averages
from ml.preprocessing import classifier_slice, resize, to_input
from ml.training.loop import Batch, Checkpoint, Run, Schedule, fit, recalibrate_normalisation
from ml.training.parameters import ClassifierParameters, ClassifierPhase

CLASSIFIER_WEIGHTS = "classifier.weights.h5"
# Pictures are held at this side: augmentation may zoom in without blurring.
STORED_SIDE_PX = 256
FOLDS = 5
FEATURE_BATCH = 16
# Batches whose statistics the normalisations take before each validation.
SETTLING_BATCHES = 8


@dataclass(frozen=True)
class ClassifierData:
    """Pictures uint8 (n, s, s), as `classifier_slice` makes them, and labels (n,); `groups` weigh the sampling."""

    pixels: np.ndarray
    labels: np.ndarray
    groups: tuple[str, ...]


def load_classifier_data(images: Sequence[ChestImage], *, side: int = STORED_SIDE_PX) -> ClassifierData:
    """Read pictures of the chest-ctscan layout at `side` pixels.

    The default leaves augmentation room. What is not augmented is read at the side of serving: resampled twice, a
    picture has another texture, and two of 72 change their class.
    """
    stack = [classifier_slice(read_grey(one.image), side=side)[0] for one in images]
    return ClassifierData(
        pixels=np.stack(stack) if stack else np.zeros((0, side, side), dtype=np.uint8),
        labels=np.array([one.label for one in images], dtype=np.int64),
        groups=tuple(one.patient_group_id or one.sha1 for one in images),
    )


def resized(pixels: np.ndarray, *, side: int) -> np.ndarray:
    """Return uint8 (n, side, side) from stored pictures, antialiased."""
    return np.stack([resize(one, width=side, height=side) for one in pixels])


def moved(pixels: np.ndarray, *, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random version (side, side) of a stored picture with its greys as they are: place, zoom, angle, side."""
    placement = Placement(
        centre=tuple(pixels.shape[1] * (0.5 + rng.uniform(-0.07, 0.07)) for _ in range(2)),
        scale=side / pixels.shape[1] * float(np.exp(rng.uniform(-0.12, 0.22))),
        angle_degrees=float(rng.uniform(-12, 12)),
        is_mirrored=bool(rng.random() < 0.5),
        stretch=float(np.exp(rng.uniform(-0.12, 0.12))),
    )
    return cut(pixels, placement=placement, side=side, border=0)


def augmented(pixels: np.ndarray, *, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random version (side, side) of a stored picture: place, zoom, angle, side, greys, marks."""
    changed = random_greys(moved(pixels, side=side, rng=rng), rng=rng)
    return random_marks(changed, rng=rng) if rng.random() < 0.3 else changed


class SliceBatches:
    """Makes the batch of a step: classes equally often, slices of large groups less often each."""

    def __init__(self, data: ClassifierData, *, side: int, batch: int, seed: int) -> None:
        self.data, self.side, self.batch, self.seed = data, side, batch, seed
        sizes = Counter(zip(data.groups, data.labels.tolist(), strict=True))
        weights = np.array(
            [sizes[key] ** -0.5 for key in zip(data.groups, data.labels.tolist(), strict=True)], dtype=np.float64
        )
        for label in set(data.labels.tolist()):
            weights[data.labels == label] /= weights[data.labels == label].sum()
        self.weights = weights / weights.sum()

    def batch_of(self, step: int) -> dict[str, np.ndarray]:
        """Return `pixels` float32 (n, s, s, 3) and `labels` (n,)."""
        rng = np.random.default_rng((self.seed, step))
        places = rng.choice(len(self.weights), size=self.batch, p=self.weights)
        pictures = [to_input(augmented(self.data.pixels[place], side=self.side, rng=rng)) for place in places]
        return {"pixels": np.stack(pictures), "labels": self.data.labels[places]}


def initial_classifier(parameters: ClassifierParameters, *, trunk: keras.Model | None, seed: int) -> keras.Model:
    """Return an untrained classifier on `trunk`, on ImageNet's, on that of a weights file, or on a random one."""
    keras.utils.set_random_seed(seed)
    if parameters.backbone in BACKBONES:
        model = build_backbone_classifier(
            parameters.backbone, class_count=len(CLASSES), dropout=parameters.dropout, width=parameters.width
        )
        load_backbone(model, weights="none" if parameters.trunk == "outline" else parameters.trunk)
        return model
    model = build_classifier(class_count=len(CLASSES), dropout=parameters.dropout, **shape_of(parameters))
    if trunk is not None:
        copy_trunk(source=trunk, target=model)
    elif parameters.trunk == "imagenet":
        load_imagenet_trunk(model)
    elif parameters.trunk not in ("none", "outline"):
        model.load_weights(parameters.trunk, skip_mismatch=True)
    return model


def train_classifier(
    *,
    model: keras.Model,
    train: ClassifierData,
    valid: ClassifierData,
    parameters: ClassifierParameters,
    seed: int,
    out: Path,
    report: Callable[[str], None],
    is_resumed: bool = True,
    on_epoch: Callable[[int, Mapping[str, float]], None] | None = None,
) -> tuple[keras.Model, tuple[Run, ...]]:
    """Fine-tune `model` phase after phase; return it with its best validated weights, and the runs."""
    runs = []
    for number, phase in enumerate(parameters.phases):
        runs.append(
            _train_phase(
                model,
                phase=phase,
                train=train,
                valid=valid,
                parameters=parameters,
                seed=seed + 1000 * number,
                out=out,
                report=report,
                is_resumed=is_resumed,
                on_epoch=on_epoch,
            )
        )
        model.load_weights(out / f"{phase.name}-{CLASSIFIER_WEIGHTS}")
    return model, tuple(runs)


def _train_phase(
    model: keras.Model,
    *,
    phase: ClassifierPhase,
    train: ClassifierData,
    valid: ClassifierData,
    parameters: ClassifierParameters,
    seed: int,
    out: Path,
    report: Callable[[str], None],
    is_resumed: bool,
    on_epoch: Callable[[int, Mapping[str, float]], None] | None,
) -> Run:
    freeze_blocks(model, count=phase.frozen_blocks)
    optimizer = keras.optimizers.AdamW(learning_rate=phase.learning_rate, weight_decay=1e-3, global_clipnorm=5.0)
    optimizer.build(model.trainable_variables)
    batches = SliceBatches(train, side=phase.side, batch=phase.batch, seed=seed)
    loss_of = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=parameters.label_smoothing)

    @tf.function
    def step(pixels: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            logits = model(pixels, training=True)["logits"]
            loss = loss_of(tf.one_hot(labels, len(CLASSES)), logits)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return {"loss": loss, "accuracy": tf.reduce_mean(tf.cast(tf.argmax(logits, axis=-1) == labels, tf.float32))}

    def train_step(batch: Batch) -> Mapping[str, tf.Tensor]:
        return step(tf.convert_to_tensor(batch["pixels"]), tf.convert_to_tensor(batch["labels"]))

    return fit(
        train_step=train_step,
        make_batch=batches.batch_of,
        schedule=Schedule(
            peak=phase.learning_rate, total_steps=phase.steps, warmup_steps=max(1, min(20, phase.steps // 10))
        ),
        steps_per_epoch=parameters.steps_per_epoch,
        checkpoint=Checkpoint(path=out / f"{phase.name}-classifier.npz", model=model, optimizer=optimizer),
        best_path=out / f"{phase.name}-{CLASSIFIER_WEIGHTS}",
        validate=lambda: validate_classifier(model, data=valid, side=phase.side),
        score="score",
        patience_epochs=parameters.patience_epochs,
        report=report,
        is_resumed=is_resumed,
        settle=lambda done: recalibrate_normalisation(
            model, batches=(batches.batch_of(done + ahead)["pixels"] for ahead in range(SETTLING_BATCHES))
        ),
        name=f"classifier/{phase.name}",
        on_epoch=on_epoch,
    )


def freeze_blocks(model: keras.Model, *, count: int) -> None:
    """Hold the first `count` blocks of the trunk as they are, normalisation included, and free all others."""
    for layer in model.layers:
        if layer.weights:
            is_frozen = layer.name.startswith(frozen_prefixes(model, count=count))
            layer.trainable = not is_frozen


def logits_of(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Return float32 logits (n, classes) of uint8 pictures (n, s, s)."""
    return _in_batches(model, pixels, output=lambda outputs: outputs["logits"])


def averages_of(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Return float32 (n, channels) or, for a classifier with a grid, (n, g * g * channels): what its head sees."""
    averages = _in_batches(model, pixels, output=lambda outputs: outputs["averages"])
    return averages.reshape(len(pixels), -1)


def _in_batches(model: keras.Model, pixels: np.ndarray, *, output: Callable) -> np.ndarray:
    call = tf.function(lambda batch: output(model(batch, training=False)), reduce_retracing=True)
    parts = [
        call(tf.convert_to_tensor(np.stack([to_input(one) for one in pixels[start : start + FEATURE_BATCH]]))).numpy()
        for start in range(0, len(pixels), FEATURE_BATCH)
    ]
    return np.concatenate(parts)


def validate_classifier(model: keras.Model, *, data: ClassifierData, side: int) -> dict[str, float]:
    """Return `accuracy`, `nll` and `score` (accuracy, ties broken by likelihood), by which weights are chosen."""
    logits = logits_of(model, resized(data.pixels, side=side))
    accuracy = float((logits.argmax(axis=1) == data.labels).mean())
    nll = negative_log_likelihood(logits, labels=data.labels)
    return {"accuracy": accuracy, "nll": nll, "score": accuracy - 0.05 * nll}


def negative_log_likelihood(logits: np.ndarray, *, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Return the mean negative log-likelihood of `labels` under softmax(logits / temperature)."""
    cooled = logits.astype(np.float64) / temperature
    cooled -= cooled.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(cooled).sum(axis=1))
    return float((log_sum - cooled[np.arange(len(labels)), labels]).mean())


def fit_temperature(logits: np.ndarray, *, labels: np.ndarray) -> float:
    """Return the temperature in [0.25, 8] that makes the labels likeliest (Guo 2017); from validation data only."""
    found = minimize_scalar(
        lambda value: negative_log_likelihood(logits, labels=labels, temperature=float(np.exp(value))),
        bounds=(np.log(0.25), np.log(8.0)),
        method="bounded",
    )
    return float(np.exp(found.x))


@dataclass(frozen=True)
class FrozenHead:
    """The dense head of the frozen recipe as plain weights: logits = embedding @ kernel + bias."""

    kernel: np.ndarray
    bias: np.ndarray
    valid_accuracy: float
    valid_nll: float
    strength: float


def frozen_features(
    model: keras.Model,
    *,
    data: ClassifierData,
    side: int,
    versions: int,
    seed: int,
    cache: Path,
    parameters: ClassifierParameters,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the averages ((1 + versions) * n, channels) of the pictures and of moved versions, and their labels.

    VGG16's come from the exported trunk, as serving computes them: the head is then fitted on what it will read, int8
    rounding included. Computed once: `cache` keeps them under a key of weights, pictures and numbers, so a later run
    takes seconds.
    """
    digest = hashlib.sha256(data.pixels.tobytes())
    for value in model.get_weights():
        digest.update(value.tobytes())
    path = (
        cache
        / f"features-{digest.hexdigest()[:16]}-{model.get_layer('logits').kernel.shape[0]}-{side}-{versions}-{seed}.npy"
    )
    if path.is_file():
        features = np.load(path)
    else:
        rng = np.random.default_rng(seed)
        stacks = [resized(data.pixels, side=side)]
        stacks += [np.stack([moved(one, side=side, rng=rng) for one in data.pixels]) for _ in range(versions)]
        if parameters.backbone in BACKBONES:
            features = np.concatenate([averages_of(model, stack) for stack in stacks])
        else:
            trunk = exported_averages(model, **shape_of(parameters))
            rows = [trunk(to_input(one)[np.newaxis])["averages"].ravel() for stack in stacks for one in stack]
            features = np.stack(rows)
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"partial-{path.name}")
        np.save(partial, features)
        partial.replace(path)
    return features, np.tile(data.labels, 1 + versions)


def shape_of(parameters: ClassifierParameters) -> dict[str, Any]:
    """Return the arguments that give `build_classifier` the shape of a VGG16 classifier."""
    return {
        "width": parameters.width,
        "grid": parameters.grid,
        "cell_px": parameters.cell_px,
        "levels": parameters.levels,
    }


def level_balance(parameters: ClassifierParameters) -> np.ndarray:
    """Return a factor for each feature of a picture, so that every level weighs the same however many filters it has.

    float32 (grid * grid * channels,) with a mean square of 1; (1,) for a backbone of one level.
    """
    if parameters.backbone in BACKBONES:
        return np.ones(1, dtype=np.float32)
    filters = [scaled(VGG16_BLOCKS[level - 1][-1], width=parameters.width) for level in parameters.levels]
    shares = [sum(filters) / (len(filters) * count) for count in filters]
    of_cell = np.repeat(np.sqrt(shares), filters)
    return np.tile(of_cell, parameters.grid**2).astype(np.float32)


def fit_frozen_head(
    *,
    features: np.ndarray,
    labels: np.ndarray,
    valid_features: np.ndarray,
    valid_labels: np.ndarray,
    seed: int,
    balance: np.ndarray | float = 1.0,
    strengths: Sequence[float] = (30.0, 100.0, 300.0, 1000.0, 3000.0),
) -> FrozenHead:
    """Fit the dense head on frozen features; its regularisation is chosen by validation accuracy.

    Of equally good strengths the one that is likeliest on the validation pictures is taken. `balance` weighs the
    standardised features against one another.
    """
    centre, spread = features.mean(axis=0), features.std(axis=0)
    # A feature that is almost always 0 would get a huge weight, beside which int8 rounds all others of its class to 0.
    spread = np.maximum(spread, max(float(np.median(spread)), 1e-6)) / balance
    # Rows of length 1 or so: the strengths then mean the same for any number of features.
    spread = spread * np.sqrt(features.shape[1])
    standardised = (features - centre) / spread
    basis = row_space(standardised)
    reduced = standardised @ basis
    heads = []
    for strength in strengths:
        regression = LogisticRegression(C=strength, max_iter=1000, class_weight="balanced", random_state=seed)
        regression.fit(reduced, labels)
        weights = (basis @ regression.coef_.T) / spread[:, np.newaxis]
        # A class that was not among the labels is never named.
        kernel, bias = np.zeros((features.shape[1], len(CLASSES))), np.full(len(CLASSES), -20.0)
        kernel[:, regression.classes_], bias[regression.classes_] = weights, regression.intercept_ - centre @ weights
        logits = valid_features @ kernel + bias
        heads.append(
            FrozenHead(
                kernel=kernel.astype(np.float32),
                bias=bias.astype(np.float32),
                valid_accuracy=float((logits.argmax(axis=1) == valid_labels).mean()),
                valid_nll=negative_log_likelihood(
                    logits, labels=valid_labels, temperature=fit_temperature(logits, labels=valid_labels)
                ),
                strength=strength,
            )
        )
    return max(heads, key=lambda head: (head.valid_accuracy, -head.valid_nll))


def row_space(rows: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis (features, at most rows) of the space that the rows span.

    A ridge-penalised linear model has its weights in that space, so fitting in it changes nothing but the time.
    """
    if rows.shape[0] >= rows.shape[1]:
        return np.eye(rows.shape[1], dtype=rows.dtype)
    return np.linalg.qr(rows.T)[0]


def fit_grouped_head(
    *, features: np.ndarray, labels: np.ndarray, groups: Sequence[str], seed: int, balance: np.ndarray | float = 1.0
) -> tuple[FrozenHead, float]:
    """Fit the dense head on `features` (versions, n, channels); a fifth of the groups chooses its regularisation.

    Returns the head and the temperature that this fifth asks for. Only what is handed in is looked at: for
    cross-validation, whose held-out fold must not choose anything.
    """
    if np.bincount(labels).max() < FOLDS:
        # Too few pictures to set a fifth aside: a quick look, whose figures say nothing anyway.
        fit_places = choose_places = np.arange(len(labels))
    else:
        fit_places, choose_places = grouped_folds(labels=labels, groups=groups, seed=seed)[0]
    versions = len(features)
    chosen = fit_frozen_head(
        features=features[:, fit_places].reshape(-1, features.shape[-1]),
        labels=np.tile(labels[fit_places], versions),
        valid_features=features[0, choose_places],
        valid_labels=labels[choose_places],
        seed=seed,
        balance=balance,
    )
    temperature = fit_temperature(
        features[0, choose_places] @ chosen.kernel + chosen.bias, labels=labels[choose_places]
    )
    head = fit_frozen_head(
        features=features.reshape(-1, features.shape[-1]),
        labels=np.tile(labels, versions),
        valid_features=features[0],
        valid_labels=labels,
        seed=seed,
        balance=balance,
        strengths=(chosen.strength,),
    )
    return head, temperature


def shares_of(logits: np.ndarray, *, temperature: float) -> np.ndarray:
    """Return probabilities float64 (n, classes), softmax(logits / temperature)."""
    cooled = logits.astype(np.float64) / temperature
    shares = np.exp(cooled - cooled.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def set_head(model: keras.Model, head: FrozenHead) -> None:
    """Put a frozen-recipe head into a classifier."""
    layer = model.get_layer("logits")
    layer.set_weights([head.kernel.reshape(layer.kernel.shape), head.bias])


def grouped_folds(*, labels: np.ndarray, groups: Sequence[str], seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (train, held-out) places of a 5-fold split in which no group is on both sides."""
    splitter = StratifiedGroupKFold(n_splits=FOLDS, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(labels)), labels, np.asarray(groups)))
