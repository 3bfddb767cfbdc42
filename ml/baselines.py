"""What a model must beat on the chest-ctscan layout: one that sees no anatomy, and a classic of the literature.

Training machines only (scikit-learn). Both are fitted on the folder's own train split for the official blocks,
and in five grouped folds over its unique pictures for the leak-free one.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ml.data import ChestImage, without_conflicts
from ml.errors import ImageError
from ml.images import read_slice
from ml.metrics import classification_figures
from ml.preprocessing import classifier_slice

Features = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
FOLDS: Final = 5
HOG_SIDE_PX: Final = 128
HOG_CELL_PX: Final = 16
HOG_DIRECTIONS: Final = 9
KEPT_FIGURES: Final = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "ece")


def style_features(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey histogram (32), brightness of the four borders, size and shape: everything but the picture."""
    histogram = np.bincount(pixels.ravel() >> 3, minlength=32) / pixels.size
    height, width = pixels.shape
    rim = max(2, min(height, width) // 40)
    borders = [pixels[:rim].mean(), pixels[-rim:].mean(), pixels[:, :rim].mean(), pixels[:, -rim:].mean()]
    return np.array([*histogram, *borders, math.log(height), math.log(width), width / height], np.float32)


def hog_features(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Histogram of oriented gradients (Dalal and Triggs 2005) of the body at 128 x 128: (7 * 7 * 36,).

    Nine unsigned directions in cells of 16 pixels, normalised over blocks of 2 x 2 cells.
    """
    down, right = np.gradient(classifier_slice(pixels, side=HOG_SIDE_PX)[0].astype(np.float32))
    strength = np.hypot(down, right)
    place = np.mod(np.arctan2(down, right), np.pi) * (HOG_DIRECTIONS / np.pi) - 0.5
    lower = np.floor(place).astype(int)
    share = (place - lower).astype(np.float32)
    cells = HOG_SIDE_PX // HOG_CELL_PX
    cell_of = np.arange(HOG_SIDE_PX) // HOG_CELL_PX
    offset = (cell_of[:, None] * cells + cell_of[None, :]) * HOG_DIRECTIONS
    histogram = np.zeros(cells * cells * HOG_DIRECTIONS)
    # Each gradient is shared between the two directions next to it.
    for direction, weight in ((lower, 1 - share), (lower + 1, share)):
        bins = (offset + np.mod(direction, HOG_DIRECTIONS)).ravel()
        histogram += np.bincount(bins, weights=(strength * weight).ravel(), minlength=histogram.size)
    grid = histogram.reshape(cells, cells, HOG_DIRECTIONS)
    blocks = np.concatenate([grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]], axis=2)
    blocks /= np.linalg.norm(blocks, axis=2, keepdims=True) + 1e-3
    return blocks.astype(np.float32).ravel()


def _style_model() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=1.0))


def _hog_model() -> Any:
    return SVC(C=10.0, gamma="scale", random_state=0)


BASELINES: Final[dict[str, tuple[Features, Callable[[], Any]]]] = {
    "style_only": (style_features, _style_model),
    "hog_svm": (hog_features, _hog_model),
}


def measure_baselines(
    images: Sequence[ChestImage], *, unseen: Sequence[Path], class_names: Sequence[str], seed: int
) -> dict[str, Any]:
    """Both baselines in the four blocks. ``unseen`` names the test pictures of the block ``test_unseen``."""
    pixels: dict[Path, NDArray[np.uint8]] = {}
    for image in images:
        try:
            pixels[image.image] = read_slice(image.image).pixels
        except ImageError:
            # Named in the report's own list of unreadable files; a baseline does without them.
            continue
    readable = [image for image in images if image.image in pixels]
    chosen = set(unseen)
    train = [image for image in readable if image.split == "train"]
    blocks = {
        "official_valid": [image for image in readable if image.split == "valid"],
        "official_test": [image for image in readable if image.split == "test"],
        "test_unseen": [image for image in readable if image.image in chosen],
    }
    report: dict[str, Any] = {}
    for name, (features, make_model) in BASELINES.items():
        table = {image.image: features(pixels[image.image]) for image in readable}
        report[name] = {}
        if len({image.label for image in train}) > 1:
            model = _fitted(make_model(), train, table=table)
            for block, pictures in blocks.items():
                if pictures:
                    scores = _scores(model, pictures, table=table, classes=len(class_names))
                    report[name][block] = _figures(pictures, scores=scores, class_names=class_names, seed=seed)
        report[name]["grouped_cv"] = _cross_validated(
            make_model, readable, table=table, class_names=class_names, seed=seed
        )
    return report


def _fitted(model: Any, images: Sequence[ChestImage], *, table: dict[Path, NDArray[np.float32]]) -> Any:
    with warnings.catch_warnings():
        # A fit that has not fully converged is still the baseline; its figures say how good it is.
        warnings.simplefilter("ignore")
        return model.fit(np.stack([table[image.image] for image in images]), [image.label for image in images])


def _scores(
    model: Any, images: Sequence[ChestImage], *, table: dict[Path, NDArray[np.float32]], classes: int
) -> NDArray[np.float64]:
    """Probabilities (n, classes); a support vector machine's margins are turned into shares by a softmax."""
    inputs = np.stack([table[image.image] for image in images])
    if hasattr(model, "predict_proba"):
        raw = model.predict_proba(inputs)
    else:
        margins = model.decision_function(inputs)
        if margins.ndim == 1:
            margins = np.stack([-margins, margins], axis=1)
        shares = np.exp(margins - margins.max(axis=1, keepdims=True))
        raw = shares / shares.sum(axis=1, keepdims=True)
    result = np.zeros((len(images), classes))
    result[:, model.classes_] = raw
    return result


def _cross_validated(
    make_model: Callable[[], Any],
    images: Sequence[ChestImage],
    *,
    table: dict[Path, NDArray[np.float32]],
    class_names: Sequence[str],
    seed: int,
) -> dict[str, Any] | None:
    """Five grouped, stratified folds over unique pictures; ``None`` where the folder names no groups."""
    unique = [image for image in without_conflicts(images) if image.patient_group_id is not None]
    labels = np.array([image.label for image in unique])
    groups = [str(image.patient_group_id) for image in unique]
    if len(set(groups)) < FOLDS or np.unique(labels).size < 2:
        return None
    scores = np.zeros((len(unique), len(class_names)))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Few groups to a class make uneven folds; that is the data, not a fault.
        warnings.simplefilter("ignore")
        splits = list(folds.split(labels, labels, groups))
    for fit_places, test_places in splits:
        model = _fitted(make_model(), [unique[place] for place in fit_places], table=table)
        held_out = [unique[place] for place in test_places]
        scores[test_places] = _scores(model, held_out, table=table, classes=len(class_names))
    return _figures(unique, scores=scores, class_names=class_names, seed=seed)


def _figures(
    images: Sequence[ChestImage], *, scores: NDArray[np.float64], class_names: Sequence[str], seed: int
) -> dict[str, Any]:
    figures = classification_figures(
        labels=[image.label for image in images],
        probabilities=scores,
        groups=[image.patient_group_id or image.sha1 for image in images],
        class_names=class_names,
        seed=seed,
    )
    return {"images": len(images)} | {name: figures[name] for name in KEPT_FIGURES}
