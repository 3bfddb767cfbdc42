"""Settings of a real installation: secrets from the environment only; refuses to start without them."""

from portal.databases import postgres_options
from portal.settings.base import *  # noqa: F403 - a settings layer is the base plus its own lines
from portal.settings.base import SQLITE_OPTIONS, env

SECRET_KEY = env.str("DJANGO_SECRET_KEY")
# Former secret keys, newest first: what they signed or encrypted stays readable while the key is changed.
SECRET_KEY_FALLBACKS = env.list("DJANGO_SECRET_KEY_FALLBACKS", default=[])
AUDIT_KEY = env.str("IRA_AUDIT_KEY")
ALLOWED_HOSTS = env.list("DJANGO_ALLOWED_HOSTS")
CSRF_TRUSTED_ORIGINS = env.list("DJANGO_CSRF_TRUSTED_ORIGINS", default=[])
DATABASES = {"default": env.db_url("DATABASE_URL")}
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    # What stands in the address (sslmode, for one) goes before ours.
    DATABASES["default"]["OPTIONS"] = postgres_options(
        pool_size=env.int("IRA_DB_POOL_SIZE", default=8),
        pool_min=env.int("IRA_DB_POOL_MIN", default=1),
        pool_wait_s=env.int("IRA_DB_POOL_WAIT_S", default=10),
    ) | DATABASES["default"].get("OPTIONS", {})
else:
    DATABASES["default"]["OPTIONS"] = SQLITE_OPTIONS

EMAIL_CONFIG = env.email_url("EMAIL_URL")
vars().update(EMAIL_CONFIG)

SECURE_SSL_REDIRECT = env.bool("IRA_SSL_REDIRECT", default=True)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
