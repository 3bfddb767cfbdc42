"""Some addresses let in whoever knows them; no log may tell them."""

import logging
import re
from typing import Final

# Addresses whose last part lets somebody in: a new password, a confirmed address, a shared report, a record.
SECRET: Final = re.compile(r"(/(?:key|confirm-email|shared|claim)/)[^ ?]+")


def without_secrets(text: str) -> str:
    """Return the text with the secret part of such addresses left out."""
    return SECRET.sub(r"\1…", text)


class NoSecrets(logging.Filter):
    """Takes the secrets out of what Django logs about a refused request, which names its address."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the line; never drop it."""
        if isinstance(record.args, tuple):
            record.args = tuple(without_secrets(arg) if isinstance(arg, str) else arg for arg in record.args)
        return True
