"""Stage 3: grouped cross-validation, then the slice classifier on the prepared trunk, and the export."""

from __future__ import annotations

from pipelines.manage import manage

if __name__ == "__main__":
    manage("train", "--cross-validate")
    manage("train", "--stage", "classifier", "--resume")
