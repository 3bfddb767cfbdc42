"""Stage 4: the exported model through the serving code, on every layout there is."""

from __future__ import annotations

import os
from pathlib import Path

from ml.data import find_folders
from pipelines.manage import DATA, TRAINED, manage

OUT = Path("var/evaluation")
BANDS = Path("bands.yaml")

if __name__ == "__main__":
    os.environ["IRA_MODEL_DIR"] = str(TRAINED / "model")
    folders = find_folders(DATA)
    layouts = {
        "chest-ctscan": folders.chest_ctscan,
        "lidc-nodules": folders.lidc_nodules,
        "whole-slices": folders.whole_slices,
    }
    for layout, folder in layouts.items():
        if folder is not None:
            manage("evaluate", "--layout", layout, "--data", folder, "--out", OUT / layout, "--bands", BANDS)
