"""Stage 5: put an exported model where serving finds it, after its hashes were checked.

The card is copied last: until then the old card does not fit the new files, and nothing half-copied is ever served.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ml.errors import MlError
from ml.runtime import CARD_NAME, STARTER_DIRECTORY, load_model


def register(source: Path, *, target: Path) -> str:
    """Copy a model folder to `target` file by file; return its version. Raises ModelFileError for a damaged one."""
    version = load_model(source).version
    target.mkdir(parents=True, exist_ok=True)
    paths = sorted(source.iterdir(), key=lambda path: path.name == CARD_NAME)
    for path in paths:
        partial = target / f".{path.name}.partial"
        shutil.copyfile(path, partial)
        partial.replace(target / path.name)
    return version


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("var/train/model"))
    parser.add_argument("--target", type=Path, default=STARTER_DIRECTORY)
    options = parser.parse_args(arguments)
    try:
        version = register(options.model, target=options.target)
    except MlError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"Model {version} is in {options.target}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
