"""Settings of the test suite: fast hashes, mail in memory, a private store for each test."""

from portal.settings.base import *  # noqa: F403 - a settings layer is the base plus its own lines
from portal.settings.base import CACHES, Q_CLUSTER, STORAGES, VAR_DIR

SECRET_KEY = "tests-only-" + "0" * 54
AUDIT_KEY = "tests-only"
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
STORAGES = STORAGES | {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = True
# Each test gets a folder of its own (tests/conftest.py); this one is never made.
MEDIA_ROOT = VAR_DIR / "test-media"
VAR_DIR.mkdir(parents=True, exist_ok=True)
Q_CLUSTER = Q_CLUSTER | {"sync": False}
# Counters of a test are its own; tests/accounts/test_limits.py counts in the database as an installation does.
CACHES = {name: {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"} for name in CACHES}
# The tests of the second step switch it on; all others are about something else.
SECOND_FACTOR_ROLES = []
