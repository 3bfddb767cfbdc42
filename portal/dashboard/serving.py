"""The model that answers now, as far as its card tells."""

import logging
from collections.abc import Mapping
from typing import Any

from ml import registry
from ml.errors import ModelFileError
from ml.runtime import read_card

logger = logging.getLogger(__name__)


def serving_card() -> Mapping[str, Any]:
    """Return the card of the model that answers now; empty where it cannot be read, which the log tells."""
    try:
        return read_card(registry.serving_directory())
    except ModelFileError:
        logger.exception("The card of the model in use cannot be read.")
        return {}
