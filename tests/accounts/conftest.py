"""What the tests about people share."""

from collections.abc import Iterator

import pytest
from django.core.cache import cache


@pytest.fixture(autouse=True)
def _fresh_rate_limits() -> Iterator[None]:
    """Count each test's log-ins from zero."""
    cache.clear()
    yield
    cache.clear()
