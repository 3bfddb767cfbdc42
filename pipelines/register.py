"""Stage 5: hand the exported model to the registry of the portal, where an administrator may try and promote it.

The portal is the one whose database DATABASE_URL names. Without one nothing is registered, and the stage says so. With
`--target` the model is copied into a folder instead, such as `ml/starter`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ml.errors import MlError
from ml.runtime import CARD_NAME, load_model
from pipelines.manage import TRAINED, manage, set_up

RECORD = Path("var/registered.json")


def copy(source: Path, *, target: Path) -> str:
    """Copy a model folder to `target` file by file; return its version. Raises ModelFileError for a damaged one.

    The card is copied last: until then the old card does not fit the new files, and nothing half-copied is served.
    """
    version = load_model(source).version
    target.mkdir(parents=True, exist_ok=True)
    paths = sorted(source.iterdir(), key=lambda path: path.name == CARD_NAME)
    for path in paths:
        partial = target / f".{path.name}.partial"
        shutil.copyfile(path, partial)
        partial.replace(target / path.name)
    return version


def register(source: Path) -> bool:
    """Register a model folder; return whether there was a database to register it in. Raises MlError."""
    load_model(source)
    if not os.environ.get("DATABASE_URL"):
        return False
    set_up(settings="portal.settings.dev")
    manage("register", source, "--note", "dvc repro")
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=TRAINED / "model")
    parser.add_argument("--target", type=Path, help="copy into this folder instead of registering")
    options = parser.parse_args(arguments)
    try:
        if options.target is not None:
            version = copy(options.model, target=options.target)
            sys.stdout.write(f"Model {version} is in {options.target}.\n")
            return 0
        is_registered = register(options.model)
        version = load_model(options.model).version
    except MlError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if is_registered:
        sys.stdout.write(f"Model {version} is registered; manage.py models lists it.\n")
    else:
        sys.stdout.write(
            f"Model {version} is sound and not registered, because DATABASE_URL names no portal's database. Serve it "
            f"with IRA_MODEL_DIR={options.model}, or set DATABASE_URL and run the stage again.\n"
        )
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps({"version": version, "is_registered": is_registered}) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
