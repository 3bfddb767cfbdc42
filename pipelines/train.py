"""Stage 3: grouped cross-validation, then the slice classifier on the prepared trunk, and the export."""

from __future__ import annotations

from ml.history import history_name
from pipelines.manage import DATA, MANIFEST, TRAINED, manage
from pipelines.resume import resumable

if __name__ == "__main__":
    inputs = (MANIFEST, TRAINED / "outline.weights.h5")
    with resumable(
        TRAINED,
        pattern="*-classifier.npz",
        sections=("seed", "classifier"),
        inputs=inputs,
        record=history_name("classifier"),
    ):
        manage("train", "--data", DATA, "--out", TRAINED, "--cross-validate")
        manage("train", "--data", DATA, "--out", TRAINED, "--stage", "classifier", "--resume")
