"""Stage 2: the CT-pretrained VGG16 trunk, by training outline and malignancy on it."""

from __future__ import annotations

from ml.history import history_name
from pipelines.manage import DATA, MANIFEST, TRAINED, manage
from pipelines.resume import resumable

if __name__ == "__main__":
    with resumable(
        TRAINED,
        pattern="*-outline.npz",
        sections=("seed", "splits", "outline"),
        inputs=(MANIFEST,),
        record=history_name("outline"),
    ):
        manage("train", "--data", DATA, "--out", TRAINED, "--stage", "outline", "--resume")
