"""Settings of ``make demo``: development plus the demo hospital. Only these settings know the demo log-ins."""

from portal.settings.dev import *  # noqa: F403 - a settings layer is the one below plus its own lines
from portal.settings.dev import BASE_DIR

DEBUG = False
IS_DEMO = True
DEMO_DIR = BASE_DIR / "var" / "demo"
DEMO_DIR.mkdir(parents=True, exist_ok=True)
DATABASES["default"]["NAME"] = str(DEMO_DIR / "demo.sqlite3")  # noqa: F405 - taken from the layer below
MEDIA_ROOT = DEMO_DIR / "media"
DEMO_PASSWORD = "radiology-demo"  # noqa: S105 - public by design, refused by production
DEMO_LOGINS = {
    "doctor": "doctor@example.org",
    "patient": "patient@example.org",
    "administrator": "admin@example.org",
}
