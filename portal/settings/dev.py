"""Settings for development on one machine: SQLite, mail on the console, helpful error pages."""

from portal.settings.base import *  # noqa: F403 - a settings layer is the base plus its own lines
from portal.settings.base import STATIC_ROOT, STORAGES, VAR_DIR

DEBUG = True
# Good for this machine only: development and demo answer on the loopback address.
SECRET_KEY = "development-only-" + "0" * 48
AUDIT_KEY = "development-only"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
WHITENOISE_USE_FINDERS = True
STORAGES = STORAGES | {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
VAR_DIR.mkdir(parents=True, exist_ok=True)
STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # whitenoise looks here first and warns where nothing is
