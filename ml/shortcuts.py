"""Does the classifier live on shortcuts? Two probes that part anatomy from style.

Normals and cancers of the public set come from different sources: borders, sizes and grey histograms alone tell them
apart (see the data card). A model that reads those keeps its score when the anatomy is destroyed and loses it when the
style changes; a model that reads the chest does the opposite.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.images import read_slice
from ml.metrics import confusion_matrix, per_class_rates
from ml.runtime import Model

BORDER_SHARE: Final = 0.12
TILE_SHARE: Final = 1 / 24
PROBED_PICTURES: Final = 150


def without_anatomy(pixels: NDArray[np.uint8], *, seed: int) -> NDArray[np.uint8]:
    """The same border, size and grey histogram, the inside shuffled in small tiles: no chest is left to read."""
    height, width = pixels.shape
    border = round(BORDER_SHARE * min(height, width))
    tile = max(4, round(TILE_SHARE * min(height, width)))
    rows, columns = (height - 2 * border) // tile, (width - 2 * border) // tile
    result = pixels.copy()
    inside = result[border : border + rows * tile, border : border + columns * tile]
    tiles = inside.reshape(rows, tile, columns, tile).swapaxes(1, 2).reshape(-1, tile, tile)
    shuffled = tiles[np.random.default_rng(seed).permutation(len(tiles))]
    inside[:] = shuffled.reshape(rows, columns, tile, tile).swapaxes(1, 2).reshape(inside.shape)
    return result


def with_other_style(pixels: NDArray[np.uint8], *, seed: int) -> NDArray[np.uint8]:
    """The same chest as another hospital might export it: gamma, margin, size and JPEG drawn at random."""
    generator = np.random.default_rng(seed)
    table = np.rint(255 * (np.arange(256) / 255) ** generator.uniform(0.75, 1.35)).astype(np.uint8)
    height, width = pixels.shape
    margin = [round(share * min(height, width)) for share in generator.uniform(0.0, 0.15, 4)]
    framed = np.pad(table[pixels], ((margin[0], margin[1]), (margin[2], margin[3])))
    side = generator.uniform(0.6, 1.3)
    size = (max(96, round(framed.shape[1] * side)), max(96, round(framed.shape[0] * side)))
    stream = io.BytesIO()
    Image.fromarray(framed).resize(size, Image.Resampling.BICUBIC).save(
        stream, format="JPEG", quality=int(generator.integers(60, 95))
    )
    with Image.open(stream) as image:
        return np.asarray(image.convert("L"))


def probe_shortcuts(
    *, model: Model, paths: Sequence[Path], labels: NDArray[np.int_], guesses: NDArray[np.int_], seed: int
) -> dict[str, Any]:
    """Balanced accuracy on untouched, destroyed and restyled pictures, and the share of normals called normal.

    ``guesses`` (n,) are the model's on the untouched pictures. Of many pictures an evenly spread part is probed.
    """
    classes = len(model.classes)
    normal = model.classes.index("normal")
    shown: dict[str, list[int]] = {"untouched": [], "anatomy_removed": [], "style_changed": []}
    truth = []
    count = min(len(paths), PROBED_PICTURES)
    for place in (number * len(paths) // count for number in range(count)):
        pixels = read_slice(paths[place]).pixels
        truth.append(int(labels[place]))
        shown["untouched"].append(int(guesses[place]))
        for name, change in (("anatomy_removed", without_anatomy), ("style_changed", with_other_style)):
            picture = change(pixels, seed=seed + place)
            shown[name].append(int(model.classify(picture).probabilities.argmax()))
    results: dict[str, Any] = {}
    for name, values in shown.items():
        matrix = confusion_matrix(np.array(truth, int), np.array(values, int), classes=classes)
        recall = per_class_rates(matrix)["recall"]
        results[name] = {
            "balanced_accuracy": round(float(np.nanmean(recall)), 4) if len(truth) else None,
            "normal_recall": None if np.isnan(recall[normal]) else round(float(recall[normal]), 4),
        }
    results["on"] = (
        f"{len(truth)} pictures of the official test split. anatomy_removed keeps border, size and grey histogram "
        f"and shuffles the inside: near {1 / classes:.2f} says that the model reads the chest. style_changed keeps "
        "the chest and draws gamma, margin, size and JPEG anew: near untouched says that it does not read the style."
    )
    return results
