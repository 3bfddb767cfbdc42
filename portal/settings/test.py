"""Settings of the test suite: fast hashes, mail in memory, files in a temporary folder that the tests remove."""

import tempfile
from pathlib import Path

from portal.settings.base import *  # noqa: F403 - a settings layer is the base plus its own lines
from portal.settings.base import Q_CLUSTER, STORAGES, VAR_DIR, env

SECRET_KEY = "tests-only-" + "0" * 54
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
STORAGES = STORAGES | {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = True
MEDIA_ROOT = Path(env.str("IRA_TEST_MEDIA_ROOT", default="") or tempfile.mkdtemp(prefix="ira-test-media-"))
VAR_DIR.mkdir(parents=True, exist_ok=True)
Q_CLUSTER = Q_CLUSTER | {"sync": False}
