"""What a patient agrees to before uploading a slice of their own: every wording that was ever shown, by its version.

A wording is never changed, only followed by a new one: what somebody agreed to is told by version and hash.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from django.utils.translation import gettext, gettext_noop

CURRENT: Final = "2026-11"
WORDINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "2026-11": (
        gettext_noop("The picture is my own, and I am 18 or older."),
        gettext_noop(
            "A computer program analyses it. No doctor looks at the picture or at the answer unless I hand it over to "
            "one."
        ),
        gettext_noop(
            "The program is often wrong. Its answer is no diagnosis, and I make no decision on it without a doctor."
        ),
        gettext_noop(
            "Picture and answer are stored in this portal until I delete them. Nobody else sees them. They are not "
            "used to teach the program."
        ),
        gettext_noop(
            "When I hand the examination over and a doctor takes it, it becomes part of that hospital's records. From "
            "then on the hospital decides how long it is kept."
        ),
    ),
}


def wording(version: str) -> tuple[str, ...]:
    """Return the sentences of a version in the reader's language. Raises ``KeyError`` for one that never was."""
    return tuple(gettext(sentence) for sentence in WORDINGS[version])


def wording_sha256(version: str) -> str:
    """Return the SHA-256 of a version's English sentences, one a line. Raises ``KeyError`` for one that never was."""
    return hashlib.sha256("\n".join(WORDINGS[version]).encode()).hexdigest()
