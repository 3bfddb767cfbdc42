"""Stage 4: the exported model through the serving code, on every layout there is."""

from __future__ import annotations

import os
from pathlib import Path

from ml.data import find_folders
from pipelines.manage import manage

MODEL = Path("var/train/model")
OUT = Path("var/evaluation")

if __name__ == "__main__":
    os.environ["IRA_MODEL_DIR"] = str(MODEL)
    folders = find_folders(Path(os.environ.get("IRA_DATA_DIR", "data")))
    layouts = {
        "chest-ctscan": folders.chest_ctscan,
        "lidc-nodules": folders.lidc_nodules,
        "whole-slices": folders.whole_slices,
    }
    for layout, folder in layouts.items():
        if folder is not None:
            manage("evaluate", "--layout", layout, "--data", folder, "--out", OUT / layout)
