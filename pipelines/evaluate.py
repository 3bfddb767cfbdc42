"""Stage 4: the exported model through the serving code, on every layout there is; the figures of all in one file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ml.data import find_folders
from ml.metrics import figures_of
from pipelines.manage import DATA, TRAINED, manage

OUT = Path("var/evaluation")
BANDS = Path("bands.yaml")
METRICS_NAME = "metrics.json"
# What stands in the reports, and would make a table of a hundred columns.
LEFT_OUT = frozenset({"baselines", "per_class", "dice_by_size_px", "dice_by_window"})


def write_metrics(out: Path) -> None:
    """Gather the main figures of `out/LAYOUT/report.json` in `out/metrics.json`, for `dvc metrics show` and `diff`."""
    figures = {
        path.parent.name: {
            name: value
            for name, value in figures_of(json.loads(path.read_text(encoding="utf-8"))).items()
            if not LEFT_OUT.intersection(name.split("/"))
        }
        for path in sorted(out.glob("*/report.json"))
    }
    (out / METRICS_NAME).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


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
            out = ("--out", OUT / layout, "--mlflow")
            manage("evaluate", "--layout", layout, "--data", folder, *out, "--bands", BANDS)
    write_metrics(OUT)
