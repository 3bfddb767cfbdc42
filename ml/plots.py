"""Figures of an evaluation as PNG files. Training machines only (Matplotlib)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Sheet
from numpy.typing import NDArray

from ml.errors import ImageError
from ml.evaluation import ClassifiedBlock, Evaluation, OutlineCase
from ml.images import read_slice
from ml.inference import analyse
from ml.metrics import Ranking, calibration_bins, confusion_matrix
from ml.runtime import Model

# Okabe and Ito's colours, told apart by colour-blind readers.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
COLUMNS: Final = 4


def draw_figures(evaluation: Evaluation, *, folder: Path, model: Model) -> tuple[str, ...]:
    """Write every figure that the evaluation has data for into ``folder``; returns the file names."""
    folder.mkdir(parents=True, exist_ok=True)
    names: list[str] = []

    def save(sheet: Sheet, name: str) -> None:
        # Without the software's name and date the same data give the same file.
        sheet.savefig(folder / name, dpi=110, bbox_inches="tight", metadata={"Software": None})
        names.append(name)

    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        for block_name, block in evaluation.blocks.items():
            save(_confusion(block, classes=model.classes, title=block_name), f"{block_name}_confusion.png")
            save(_roc(block, classes=model.classes, title=block_name), f"{block_name}_roc.png")
            save(_precision_recall(block, classes=model.classes, title=block_name), f"{block_name}_pr.png")
            save(_calibration(block, title=block_name), f"{block_name}_calibration.png")
            save(_worst_classes(block, classes=model.classes, title=block_name), f"{block_name}_worst.png")
        if evaluation.malignancy is not None:
            save(_malignancy_roc(*evaluation.malignancy), "malignancy_roc.png")
        if evaluation.outline_cases:
            save(_worst_outlines(evaluation.outline_cases, model=model), "outline_worst.png")
    return tuple(names)


def draw_history(rows: Sequence[Mapping[str, float]], *, path: Path, title: str) -> Path:
    """Draw the epochs of a training into a PNG: losses on the left, figures of validation on the right."""
    names = dict.fromkeys(name for row in rows for name in row if name not in ("step", "phase_step"))
    valid = [name for name in names if name.startswith("valid_")]
    losses = [name for name in names if name not in valid]
    sheet = _sheet(9.6, 3.8)
    sheet.suptitle(f"Training of {title}")
    for axes, shown, label in zip(sheet.subplots(1, 2), (losses, valid), ("loss", "validation"), strict=True):
        for place, name in enumerate(shown):
            points = [(row["step"], row[name]) for row in rows if name in row]
            axes.plot(*zip(*points, strict=True), color=COLOURS[place % len(COLOURS)], marker=".", label=_words(name))
        axes.set(xlabel="step", ylabel=label)
        if shown:
            axes.legend(frameon=False)
    sheet.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
    return path


def _sheet(width: float, height: float) -> Sheet:
    return Sheet(figsize=(width, height), layout="constrained")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _confusion(block: ClassifiedBlock, *, classes: Sequence[str], title: str) -> Sheet:
    matrix = confusion_matrix(block.labels, block.probabilities.argmax(axis=1), classes=len(classes))
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    sheet = _sheet(5.2, 4.4)
    axes = sheet.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), [_words(name) for name in classes], rotation=30, ha="right")
    axes.set_yticks(range(len(classes)), [_words(name) for name in classes])
    for row, column in np.ndindex(matrix.shape):
        colour = "white" if share[row, column] > 0.55 else "black"
        axes.text(column, row, f"{matrix[row, column]:.0f}", ha="center", va="center", color=colour)
    axes.set(xlabel="guess", ylabel="truth", title=f"Confusion, {_words(title)} ({len(block.labels)} pictures)")
    return sheet


def _roc(block: ClassifiedBlock, *, classes: Sequence[str], title: str) -> Sheet:
    sheet = _sheet(4.8, 4.4)
    axes = sheet.subplots()
    for index, name in enumerate(classes):
        ranking = Ranking(block.labels == index, block.probabilities[:, index])
        if np.isfinite(area := ranking.roc_auc()):
            axes.plot(*ranking.roc_points(), color=COLOURS[index], label=f"{_words(name)} {area:.3f}")
    axes.plot([0, 1], [0, 1], color="0.7", linestyle=":")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title=f"ROC, each class against the rest, {_words(title)}")
    axes.legend(loc="lower right", frameon=False)
    return sheet


def _precision_recall(block: ClassifiedBlock, *, classes: Sequence[str], title: str) -> Sheet:
    sheet = _sheet(4.8, 4.4)
    axes = sheet.subplots()
    for index, name in enumerate(classes):
        ranking = Ranking(block.labels == index, block.probabilities[:, index])
        if np.isfinite(area := ranking.average_precision()):
            axes.step(*ranking.pr_points(), where="post", color=COLOURS[index], label=f"{_words(name)} {area:.3f}")
    axes.set(xlabel="recall", ylabel="precision", ylim=(0, 1.02), title=f"Precision and recall, {_words(title)}")
    axes.legend(loc="lower left", frameon=False)
    return sheet


def _calibration(block: ClassifiedBlock, *, title: str) -> Sheet:
    once = np.ones((1, len(block.labels)))
    mass, confidence, correct = (part[0] for part in calibration_bins(block.labels, block.probabilities, weights=once))
    filled = mass > 0
    given, right = confidence[filled] / mass[filled], correct[filled] / mass[filled]
    sheet = _sheet(4.6, 4.4)
    axes = sheet.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linestyle=":")
    axes.scatter(given, right, s=12 + 220 * mass[filled] / mass.sum(), color=COLOURS[0])
    axes.plot(given, right, color=COLOURS[0])
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1.02),
        xlabel="probability given",
        ylabel="share correct",
        title=f"Calibration, {_words(title)}",
    )
    return sheet


def _malignancy_roc(is_malignant: NDArray[np.bool_], scores: NDArray[np.float64]) -> Sheet:
    ranking = Ranking(is_malignant, scores)
    sheet = _sheet(4.6, 4.4)
    axes = sheet.subplots()
    axes.plot(*ranking.roc_points(), color=COLOURS[0], label=f"AUC {ranking.roc_auc():.3f}")
    axes.plot([0, 1], [0, 1], color="0.7", linestyle=":")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title=f"Malignancy ({len(scores)} nodule slices)")
    axes.legend(loc="lower right", frameon=False)
    return sheet


def _worst_classes(block: ClassifiedBlock, *, classes: Sequence[str], title: str) -> Sheet:
    """The pictures whose true class got the least probability."""
    given = block.probabilities[np.arange(len(block.labels)), block.labels]
    order = np.argsort(given, kind="stable")[:8]
    sheet = _sheet(11, 2.9 * max(1, -(-len(order) // COLUMNS)))
    sheet.suptitle(f"Furthest from the truth, {_words(title)}")
    for axes, place in zip(_cells(sheet, len(order)), order.tolist(), strict=False):
        axes.imshow(read_slice(block.images[place].image).pixels, cmap="gray", vmin=0, vmax=255)
        guess = _words(classes[int(block.probabilities[place].argmax())])
        truth = _words(classes[int(block.labels[place])])
        axes.set_title(f"truth {truth} ({given[place]:.2f})\nguess {guess}", fontsize=7)
    return sheet


def _worst_outlines(cases: Sequence[OutlineCase], *, model: Model) -> Sheet:
    """The slices with the lowest Dice: the truth drawn in one colour, the model's outline in another."""
    sheet = _sheet(11, 2.9 * max(1, -(-len(cases) // COLUMNS)))
    sheet.suptitle("Lowest Dice: dashed is the truth, solid the model's outline")
    for axes, case in zip(_cells(sheet, len(cases)), cases, strict=False):
        try:
            pixels, outlined = read_slice(case.path).pixels, analyse(case.path, model=model).mask
        except ImageError:
            continue
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        for mask, colour, style in ((case.truth, COLOURS[5], "--"), (outlined > 0, COLOURS[4], "-")):
            if mask.any() and not mask.all():
                axes.contour(mask, levels=[0.5], colors=[colour], linestyles=[style], linewidths=1.2)
        axes.set_title(f"{case.path.parent.name}/{case.path.name}\nDice {case.dice:.2f}", fontsize=7)
    return sheet


def _cells(sheet: Sheet, count: int) -> list:
    grid = sheet.subplots(max(1, -(-count // COLUMNS)), COLUMNS, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    return list(grid.ravel())
