"""The training loop that all networks share: batches by step number, checkpoints, early stopping, divergence, ETA."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ml.errors import NoImprovementError, NotANumberError

Batch = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Schedule:
    """Learning rate over a run: linear warm-up, then a cosine down to `floor_share` of the peak."""

    peak: float
    total_steps: int
    warmup_steps: int
    floor_share: float = 0.02

    def at(self, step: int) -> float:
        """Return the learning rate of step `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        done = min(1.0, (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps))
        return self.peak * (self.floor_share + (1 - self.floor_share) * 0.5 * (1 + math.cos(math.pi * done)))


@dataclass
class Run:
    """How far a run has come; written into every checkpoint."""

    step: int = 0
    best_score: float = -math.inf
    epochs_without_gain: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


class Checkpoint:
    """The newest state of a run on disk: weights, optimiser and progress in one file, replaced in one rename.

    A process killed at any moment leaves either the former or the new state, never half of one.
    """

    def __init__(self, *, path: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        self.path, self.model, self.optimizer = path, model, optimizer

    def save(self, run: Run) -> None:
        arrays = {f"model_{index}": np.asarray(value) for index, value in enumerate(self.model.variables)}
        arrays |= {f"optimizer_{index}": np.asarray(value) for index, value in enumerate(self.optimizer.variables)}
        state = {"step": run.step, "best_score": run.best_score, "epochs_without_gain": run.epochs_without_gain}
        arrays["run"] = np.frombuffer(json.dumps({**state, "history": run.history}).encode(), dtype=np.uint8)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix stays .npz: NumPy adds one to any other name.
        partial = self.path.with_name(f"{self.path.stem}.partial-{os.getpid()}.npz")
        np.savez(partial, allow_pickle=False, **arrays)
        partial.replace(self.path)

    def restore(self) -> Run | None:
        """Load the newest state into model and optimiser; None where the run has none yet."""
        if not self.path.is_file():
            return None
        self.optimizer.build(self.model.trainable_variables)
        with np.load(self.path) as arrays:
            for index, variable in enumerate(self.model.variables):
                variable.assign(arrays[f"model_{index}"])
            for index, variable in enumerate(self.optimizer.variables):
                variable.assign(arrays[f"optimizer_{index}"])
            return Run(**json.loads(arrays["run"].tobytes()))


def fit(
    *,
    train_step: Callable[[Batch], Mapping[str, Any]],
    make_batch: Callable[[int], Batch],
    schedule: Schedule,
    steps_per_epoch: int,
    checkpoint: Checkpoint,
    best_path: Path,
    validate: Callable[[], Mapping[str, float]],
    score: str,
    patience_epochs: int,
    report: Callable[[str], None],
    is_resumed: bool = True,
    settle: Callable[[int], None] | None = None,
    name: str = "training",
    on_epoch: Callable[[int, Mapping[str, float]], None] | None = None,
) -> Run:
    """Train until the schedule ends or `patience_epochs` bring no better `score`; the best weights go to `best_path`.

    `settle(step)` runs before each validation. `make_batch(step)` must depend on the step alone, so that a resumed run
    sees what an unbroken one would. Raises NotANumberError when the loss is no number, NoImprovementError when the
    first `patience_epochs` epochs never lower it; both are DivergedErrors.
    """
    run = (checkpoint.restore() if is_resumed else None) or Run()
    if run.step:
        report(f"{name}: resumed after step {run.step} of {schedule.total_steps}")
    started_at, first_step = time.monotonic(), run.step
    batches = prefetched(make_batch, first=run.step, last=schedule.total_steps)
    sums: dict[str, float] = {}
    for batch in batches:
        checkpoint.optimizer.learning_rate.assign(schedule.at(run.step))
        values = {key: float(value) for key, value in train_step(batch).items()}
        if not all(math.isfinite(value) for value in values.values()):
            raise NotANumberError(
                f"Training of {name} stopped at step {run.step}: the loss is no longer a number. Lower the learning "
                "rate in params.yaml and start again; the last good checkpoint is kept."
            )
        for key, value in values.items():
            sums[key] = sums.get(key, 0.0) + value
        run.step += 1
        if run.step % 10 == 0 or run.step == schedule.total_steps:
            report(_progress(name, run.step, schedule.total_steps, values, started_at, first_step))
        if run.step % steps_per_epoch and run.step != schedule.total_steps:
            continue
        count = (run.step - 1) % steps_per_epoch + 1
        means = {key: value / count for key, value in sums.items()}
        sums = {}
        if settle is not None:
            settle(run.step)
        figures = {**means, **{f"valid_{key}": float(value) for key, value in validate().items()}}
        run.history.append({"step": float(run.step), **figures})
        if figures[f"valid_{score}"] > run.best_score:
            run.best_score, run.epochs_without_gain = figures[f"valid_{score}"], 0
            save_weights(checkpoint.model, best_path)
        else:
            run.epochs_without_gain += 1
        checkpoint.save(run)
        report(f"{name}: step {run.step}: " + ", ".join(f"{key} {value:.4f}" for key, value in figures.items()))
        if on_epoch is not None:
            on_epoch(run.step, figures)
        losses = [entry["loss"] for entry in run.history]
        if len(losses) > patience_epochs and min(losses[1:]) >= losses[0]:
            raise NoImprovementError(
                f"Training of {name} stopped at step {run.step}: the loss did not fall below its first epoch's "
                f"{losses[0]:.4f} in {patience_epochs} epochs. Change the learning rate in params.yaml and start again."
            )
        if run.epochs_without_gain >= patience_epochs:
            report(f"{name}: stopped early, {patience_epochs} epochs without a better {score}")
            break
    return run


def prefetched(make_batch: Callable[[int], Batch], *, first: int, last: int) -> Iterator[Batch]:
    """Yield the batches of steps `first` … `last` - 1 in order, each made while the one before is trained on."""
    if first >= last:
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:
        upcoming = pool.submit(make_batch, first)
        for step in range(first, last):
            current = upcoming
            if step + 1 < last:
                upcoming = pool.submit(make_batch, step + 1)
            yield current.result()


def recalibrate_normalisation(model: keras.Model, *, batches: Iterable[np.ndarray]) -> None:
    """Replace the moving averages of all free normalisations by plain averages over `batches` of inputs.

    The moving averages trail weights that still change fast, and small batches make them noisy: validation figures of a
    short run would jump about.
    """
    normalisations = [
        layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    momenta = [layer.momentum for layer in normalisations]
    for number, batch in enumerate(batches):
        for layer in normalisations:
            layer.momentum = number / (number + 1)
        model(batch, training=True)
    for layer, momentum in zip(normalisations, momenta, strict=True):
        layer.momentum = momentum


def save_weights(model: keras.Model, path: Path) -> None:
    """Write the weights under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"partial-{os.getpid()}-{path.name}")
    model.save_weights(partial)
    partial.replace(path)


def _progress(name: str, step: int, total: int, values: Mapping[str, float], started_at: float, first_step: int) -> str:
    seconds = time.monotonic() - started_at
    remaining = seconds / max(1, step - first_step) * (total - step)
    filled = round(20 * step / total)
    bar = "█" * filled + "░" * (20 - filled)
    return f"{name} {bar} {step}/{total} loss {values['loss']:.4f} ETA {int(remaining // 60)}:{int(remaining % 60):02d}"
