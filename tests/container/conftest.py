"""One store of images and containers for all tests that build and run them."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.container.engine import TOOLS, Engine
from tests.tools import skip_or_fail


@pytest.fixture(scope="session")
def store() -> Iterator[Engine]:
    for tool in TOOLS:
        if shutil.which(tool) is None:
            skip_or_fail(f"{tool} is not installed (apt-get install {' '.join(TOOLS)})")
    # Whoever works on the image keeps its layers from one run to the next.
    kept = os.environ.get("IRA_TEST_CONTAINER_FOLDER")
    made = Engine(folder=Path(kept or tempfile.mkdtemp(prefix="ira-container-")))
    yield made
    if not kept:
        made.remove()


@pytest.fixture(scope="module")
def engine(store: Engine) -> Iterator[Engine]:
    """Have the containers of a module end with it."""
    yield store
    store.remove_containers()


@pytest.fixture(autouse=True)
def _told_on_failure(request: pytest.FixtureRequest) -> Iterator[None]:
    """Print what containers said last, which goes with them; pytest shows it where the test fails."""
    yield
    if "engine" in request.fixturenames:
        engine: Engine = request.getfixturevalue("engine")
        for name in engine.containers:
            sys.stdout.write(f"── {name}\n{engine.logs(name)[-6000:]}\n")
