"""Stage 2: the CT-pretrained VGG16 trunk, by training outline and malignancy on it."""

from __future__ import annotations

from pipelines.manage import manage

if __name__ == "__main__":
    manage("train", "--stage", "outline", "--resume")
