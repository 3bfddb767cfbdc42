"""Settings of ``.ci/lint-migrations``: those of the suite, and the linter as an app."""

from portal.settings.test import *  # noqa: F403 - a settings layer is the one below plus its own lines
from portal.settings.test import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "django_migration_linter"]
