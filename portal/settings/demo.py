"""Settings of ``make demo``: development plus the demo hospital. Only these settings know the demo log-ins."""

from portal.settings.dev import *  # noqa: F403 - a settings layer is the one below plus its own lines
from portal.settings.dev import EVENT_LOG, LOGGING, SQLITE_OPTIONS, VAR_DIR

DEBUG = False
IS_DEMO = True
DEMO_DIR = VAR_DIR / "demo"
DEMO_DIR.mkdir(parents=True, exist_ok=True)
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(DEMO_DIR / "demo.sqlite3"),
        "OPTIONS": SQLITE_OPTIONS,
    }
}
MEDIA_ROOT = DEMO_DIR / "media"
DEMO_PASSWORD = "radiology-demo"  # noqa: S105 - public by design, refused by production
# One click logs in; the public log-ins could not share a second step anyway.
SECOND_FACTOR_ROLES = []
DEMO_LOGINS = {
    "doctor": "doctor@example.org",
    "patient": "patient@example.org",
    "administrator": "admin@example.org",
}
# One readable log: what the queue does with its messages is for developers; its warnings are for everybody.
LOGGING = LOGGING | {"loggers": LOGGING["loggers"] | {"django-q": {"level": "WARNING"}}}
if not EVENT_LOG:
    LOGGING["handlers"]["events"] = {
        "class": "logging.handlers.WatchedFileHandler",
        "filename": str(DEMO_DIR / "events.jsonl"),
        "delay": True,
        "encoding": "utf-8",
        "formatter": "bare",
    }
