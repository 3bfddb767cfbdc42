"""Passwords that attackers try first are refused, with a sentence that says what makes a better one."""

from typing import Any, Final

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from zxcvbn import zxcvbn

MINIMUM_SCORE: Final = 3  # of 4: more than 10^8 guesses; offline, against a slow hash, that is years
LOOKED_AT: Final = 72  # characters; the estimate gets slow beyond, and what is longer is strong enough or a repeat
OWN_WORDS: Final = ("radiology", "radiologist", "assistant", "portal", "hospital", "patient", "doctor", "admin")


class GuessablePasswordValidator:
    """Refuses what is easy to guess: leaked and common passwords, names, dates, keyboard rows, and changes of them.

    zxcvbn brings its lists along (30,000 leaked passwords, names, words), so nothing is asked of the network.
    """

    def validate(self, password: str, user: Any = None) -> None:
        """Raise ``ValidationError`` for a password that falls within about 10^8 guesses."""
        found = zxcvbn(password[:LOOKED_AT], user_inputs=[*_words_about(user), *OWN_WORDS])
        if found["score"] >= MINIMUM_SCORE:
            return
        parts = found["sequence"]
        weakest = max(parts, key=lambda part: len(part["token"])) if parts else {}
        raise ValidationError(_reason(weakest), code="password_guessable")

    def get_help_text(self) -> str:
        """Say what is asked."""
        return _("The password must not be easy to guess. Four or more words that do not belong together are fine.")


def _words_about(user: Any) -> list[str]:
    values = [str(getattr(user, name, "") or "") for name in ("email", "given_name", "family_name", "licence_number")]
    hospital = getattr(user, "hospital", None)
    words = [*values, str(hospital or "")]
    return [word for value in words for word in (value, *value.replace("@", " ").replace(".", " ").split()) if word]


def _reason(part: dict[str, Any]) -> str:
    advice = _("Four or more words that do not belong together make a good password.")
    pattern = part.get("pattern")
    if pattern == "dictionary" and part.get("dictionary_name") == "user_inputs":
        cause = _("This password is easy to guess, because it uses your name, your address or a word of this portal.")
    elif pattern == "dictionary" and part.get("dictionary_name") == "passwords":
        cause = _("This password is easy to guess: it, or one very like it, stands in lists of leaked passwords.")
    elif pattern in ("sequence", "spatial"):
        cause = _("This password is easy to guess, because its characters follow each other or lie side by side.")
    elif pattern == "repeat":
        cause = _("This password is easy to guess, because it repeats itself.")
    elif pattern in ("date", "regex"):
        cause = _("This password is easy to guess, because it is mostly a date or a year.")
    else:
        cause = _("This password is easy to guess.")
    return f"{cause} {advice}"
