"""Folders of models that differ in version, figures and content, and answer like the starter model."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from django.conf import settings

from ml.gate import REQUIRED
from ml.model_store import fingerprint
from ml.models import Deployment, ModelVersion
from ml.runtime import STARTER_DIRECTORY

GOOD = {
    "test_unseen_accuracy": 0.85,
    "test_unseen_macro_f1": 0.78,
    "malignancy_auc": 0.88,
    "lidc_dice_ge30px": 0.64,
    "slice_dice": 0.69,
    "false_positives_per_normal_slice": 0.6,
}
assert set(GOOD) == set(REQUIRED)


def figures(**changes: float | None) -> dict[str, Any]:
    """Return the figures of a card, good ones but for the changes; None leaves a figure out."""
    values = GOOD | changes
    return {name: {"value": value, "on": "made up"} for name, value in values.items() if value is not None}


def model_folder(folder: Path, *, version: str, has_networks: bool = True, **changes: float | None) -> Path:
    """Make a model folder of this version; its networks are the starter's, or a few bytes that answer nothing."""
    folder.mkdir(parents=True)
    card = json.loads((STARTER_DIRECTORY / "model.json").read_text())
    card |= {"version": version, "figures": figures(**changes)}
    for name, entry in card["files"].items():
        if has_networks:
            shutil.copyfile(STARTER_DIRECTORY / entry["path"], folder / entry["path"])
        else:
            content = f"{version} {name}".encode()
            (folder / entry["path"]).write_bytes(content)
            entry["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "model.json").write_text(json.dumps(card))
    return folder


def registered(version: str, *, has_networks: bool = False, **changes: float | None) -> ModelVersion:
    """Put a version into the registry as ``register`` does, without the time that copying and trying out take."""
    folder = model_folder(Path(settings.MODELS_DIR) / version, version=version, has_networks=has_networks, **changes)
    found = fingerprint(folder)
    return ModelVersion.objects.create(
        version=version, figures=figures(**changes), sha256=found.folder, card_sha256=found.card
    )


def first_champion(version: str = "first", **values: Any) -> ModelVersion:
    """Put a version into the registry that answers, as ``ensure_champion`` does."""
    row = registered(version, **values)
    ModelVersion.objects.filter(pk=row.pk).update(state=ModelVersion.State.CHAMPION)
    Deployment.objects.create(kind=Deployment.Kind.FIRST, version=row, operator="tests")
    row.refresh_from_db()
    return row
