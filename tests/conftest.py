"""What every test may use: a private store of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection
from django.test import TransactionTestCase
from django.utils import translation
from pytest_django.fixtures import Settings

from accounts import audit_triggers


@pytest.fixture(autouse=True)
def _private_store(tmp_path: Path, settings: Settings) -> None:
    """Give each test a store of its own."""
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.MODELS_DIR = tmp_path / "models"


@pytest.fixture(autouse=True)
def _own_language() -> Iterator[None]:
    """Forget the language of the last page, so that a German test does not make the next one read German."""
    yield
    translation.deactivate()


@pytest.fixture(autouse=True, scope="session")
def _emptied_between_tests() -> Iterator[None]:
    """Let the test runner empty all tables after a test that commits: the log of accesses refuses even that."""
    empty = TransactionTestCase._fixture_teardown

    def teardown(case: TransactionTestCase) -> None:
        audit_triggers.remove(connection)
        empty(case)
        audit_triggers.install(connection)

    TransactionTestCase._fixture_teardown = teardown  # type: ignore[method-assign]
    yield
    TransactionTestCase._fixture_teardown = empty  # type: ignore[method-assign]
