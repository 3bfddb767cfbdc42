"""Settings of the browser tests of log-in: the demo's, with the second step that a real installation demands."""

from portal.settings.demo import *  # noqa: F403 - a settings layer is the one below plus its own lines

SECOND_FACTOR_ROLES = ["doctor", "administrator"]
