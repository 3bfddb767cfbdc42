"""What every test may use: a private store of its own."""

from pathlib import Path

import pytest
from pytest_django.fixtures import Settings


@pytest.fixture(autouse=True)
def _private_store(tmp_path: Path, settings: Settings) -> None:
    """Give each test a store of its own."""
    settings.MEDIA_ROOT = tmp_path / "media"
