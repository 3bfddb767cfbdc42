"""Settings that every installation shares. Each one read from the environment has a line in docs/configuration.md."""

from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()

BASE_DIR = Path(__file__).resolve().parent.parent.parent
VAR_DIR = Path(env.str("IRA_VAR_DIR", default=str(BASE_DIR / "var")))

DEBUG = False
ALLOWED_HOSTS: list[str] = []

# allauth before ours: accounts/admin.py takes out of the administration what allauth puts in.
INSTALLED_APPS = [
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "portal.apps.PortalConfig",
    "accounts.apps.AccountsConfig",
    "studies.apps.StudiesConfig",
    "reports.apps.ReportsConfig",
    "ml.apps.MlConfig",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "guardian",
    "django_htmx",
    "django_q",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]

MIDDLEWARE = [
    "portal.logs.RequestIdMiddleware",
    "portal.headers.SecurityHeadersMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "portal.probes.ProbesMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "accounts.language.UserLanguageMiddleware",
    "accounts.sessions.SessionLifetimeMiddleware",
    "accounts.sessions.LoginRequiredMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.second_factor.SecondFactorMiddleware",
]

ROOT_URLCONF = "portal.urls"
WSGI_APPLICATION = "portal.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "portal.context.portal",
            ],
        },
    },
]

DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'portal.sqlite3'}")}
# Web and worker write at the same time: WAL lets readers go on, IMMEDIATE takes the write lock up front instead of
# failing half-way through a transaction, and the time-out makes a second writer wait instead of erring.
SQLITE_OPTIONS = {
    "timeout": 20,
    "transaction_mode": "IMMEDIATE",
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = SQLITE_OPTIONS
# What ``migrate`` waits for at most on PostgreSQL: a table that somebody else holds, and one statement (0: for ever).
MIGRATE_LOCK_TIMEOUT_S = env.int("IRA_MIGRATE_LOCK_TIMEOUT_S", default=5)
MIGRATE_STATEMENT_TIMEOUT_S = env.int("IRA_MIGRATE_STATEMENT_TIMEOUT_S", default=900)
# Counters of failed tries and used codes: all processes of all machines must see the same. ``migrate`` makes the table.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "portal_cache",
        "OPTIONS": {"MAX_ENTRIES": 200_000},
    },
    # Each cluster of workers notes twice a second how it is, and each note counts all entries: so in a small table.
    "queue": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "portal_queue_cache",
        "OPTIONS": {"MAX_ENTRIES": 10_000},
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "accounts.backends.EmailBackend",
    "guardian.backends.ObjectPermissionBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
    {"NAME": "accounts.passwords.GuessablePasswordValidator"},
    {"NAME": "accounts.demo.NoDemoPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "account_login"

ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_FORMS = {
    "login": "accounts.forms.LoginForm",
    "signup": "accounts.forms.SignupForm",
    "add_email": "accounts.forms.AddEmailForm",
    "change_password": "accounts.forms.ChangePasswordForm",
    "set_password": "accounts.forms.SetPasswordForm",
    "reset_password": "accounts.forms.ResetPasswordForm",
    "reset_password_from_key": "accounts.forms.ResetPasswordKeyForm",
    "reauthenticate": "accounts.forms.ReauthenticateForm",
}
# A person has one address; a new one replaces it once it is confirmed. Changes to the account are mailed to the owner.
ACCOUNT_CHANGE_EMAIL = True
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_CONFIRM_EMAIL_ON_GET = False
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = False
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_SESSION_REMEMBER = False
ACCOUNT_UNIQUE_EMAIL = True

# How often something may be tried: number / time / of whom (address, account, or what was typed). Failed log-ins count
# for an account whether it exists or not, so that nothing is told by the answer.
ACCOUNT_RATE_LIMITS = {
    "login_failed": "10/m/ip,200/h/ip,5/5m/key,20/h/key",
    "signup": "20/h/ip",
    "reset_password": "20/h/ip,5/h/key",
    "reset_password_from_key": "20/m/ip",
    # Links that patients make (each is a mail to an address of their choice), the codes that open them, wrong ones.
    "share_link": "10/h/user",
    "share_code_mail": "20/h/ip,5/h/key",
    "share_code": "30/h/ip,15/h/key",
    # Records that a doctor asks for in an emergency, found or not.
    "emergency": "10/h/user",
}

# The second step of a log-in. These roles do nothing without one; everybody else may set one up.
SECOND_FACTOR_ROLES: list[str] = ["doctor", "administrator"]
MFA_ADAPTER = "accounts.second_factor.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_FORMS = {
    "authenticate": "accounts.forms.SecondStepForm",
    "reauthenticate": "accounts.forms.SecondStepAgainForm",
    "activate_totp": "accounts.forms.ActivateAppForm",
    "authenticate_webauthn": "accounts.forms.PasskeyForm",
    "reauthenticate_webauthn": "accounts.forms.PasskeyAgainForm",
    "login_webauthn": "accounts.forms.PasskeyLoginForm",
    "add_webauthn": "accounts.forms.AddPasskeyForm",
    "edit_webauthn": "accounts.forms.RenamePasskeyForm",
}

# No anonymous guardian user: nobody is anybody's default (guardian would otherwise create one at migration).
ANONYMOUS_USER_NAME = None
GUARDIAN_RAISE_403 = False

LANGUAGE_CODE = "en-gb"
# The languages that pages are written in, each by its own name. With Django's long default list, a page for a French
# browser would call its English text French and mix in Django's own French sentences.
LANGUAGES = [("en-gb", "English"), ("de", "Deutsch")]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = env.str("IRA_TIME_ZONE", default="UTC")
USE_I18N = True
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = Path(env.str("IRA_STATIC_ROOT", default=str(VAR_DIR / "static")))
# Pictures, masks and PDFs: in a bucket of an S3-compatible store where one is named, so that any number of machines see
# the same; else in a folder.
S3_BUCKET = env.str("IRA_S3_BUCKET", default="")
S3_STORE = {
    "BACKEND": "portal.bucket.PrivateBucket",
    "OPTIONS": {
        "bucket_name": S3_BUCKET,
        "endpoint_url": env.str("IRA_S3_ENDPOINT", default="") or None,
        "region_name": env.str("IRA_S3_REGION", default="") or None,
        "location": env.str("IRA_S3_PREFIX", default=""),
    },
}
STORAGES = {
    "default": S3_STORE if S3_BUCKET else {"BACKEND": "portal.storage.PrivateStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
# That folder: outside any web-served one, without a base URL. Files leave only through views that check.
MEDIA_ROOT = VAR_DIR / "media"
MEDIA_URL = ""
# Keys that encrypt them at rest, the newest first; without any they are plain files.
PICTURE_KEYS = env.list("IRA_PICTURE_KEYS", default=[])
# Encrypts what ``backup`` writes; without it a backup is readable for whoever has it.
BACKUP_PASSPHRASE = env.str("IRA_BACKUP_PASSPHRASE", default="")
FILE_UPLOAD_PERMISSIONS = 0o600
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o700

# Uploads: the request as a whole is limited before Django reads it into memory or onto disk.
UPLOAD_MAX_BYTES = env.int("IRA_UPLOAD_MAX_BYTES", default=20 * 1024 * 1024)
UPLOAD_MAX_PIXELS = env.int("IRA_UPLOAD_MAX_PIXELS", default=40_000_000)
# Bulk imports: the same limit for one request of them, for the files of one import, and for all of an archive unpacked.
IMPORT_MAX_BYTES = env.int("IRA_IMPORT_MAX_BYTES", default=1024 * 1024 * 1024)
IMPORT_MAX_FILES = env.int("IRA_IMPORT_MAX_FILES", default=2000)
IMPORT_MAX_UNPACKED_BYTES = env.int("IRA_IMPORT_MAX_UNPACKED_BYTES", default=4 * 1024 * 1024 * 1024)
# Slices that a patient may upload alone within 30 days; 0: none.
OWN_UPLOADS_PER_MONTH = env.int("IRA_OWN_UPLOADS_PER_MONTH", default=5)
DATA_UPLOAD_MAX_NUMBER_FILES = IMPORT_MAX_FILES
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 500
FILE_UPLOAD_HANDLERS = [
    "studies.uploads.LimitedUploadHandler",
    "studies.uploads.SpoolingUploadHandler",
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "django.core.files.uploadhandler.TemporaryFileUploadHandler",
]

# Called with a patient's record, in the same transaction, when a person has claimed it as their own.
AFTER_RECORD_CLAIM = ["reports.permissions.grant_released_reports"]

# The versions of the model (ml/registry.py): where their folders lie, by how much a new champion may be worse than the
# old one (shares such as accuracy and AUC; regions outlined by mistake on a slice), what is called with each change in
# its transaction, and what is called when the champion's folder is damaged.
MODELS_DIR = Path(env.str("IRA_MODELS_DIR", default=str(VAR_DIR / "models")))
PROMOTION_MARGIN = env.float("IRA_PROMOTION_MARGIN", default=0.02)
PROMOTION_MARGIN_FALSE_POSITIVES = env.float("IRA_PROMOTION_MARGIN_FALSE_POSITIVES", default=0.1)
AFTER_DEPLOYMENT = ["portal.deployments.note_deployment"]
ON_DAMAGED_MODEL = ["portal.deployments.tell_of_damage"]

# For how many days at most a patient's link shows a report to somebody else.
SHARE_MAX_DAYS = env.int("IRA_SHARE_MAX_DAYS", default=30)

# Called with a patient's log-in when something of theirs was erased: copies elsewhere go as well.
AFTER_ERASURE = ["reports.my_data.remove_archives_of"]
# Called with a patient's log-in; what they return stands in the archive of the person's own data.
ACCESSES_OF_A_PATIENT = ["portal.access_history.accesses_of"]
# For so long a doctor who has given a reason sees a record of the own hospital without a grant.
EMERGENCY_ACCESS_MINUTES = env.int("IRA_EMERGENCY_ACCESS_MINUTES", default=60)

# How long studies are kept (0: for ever), and until which age those of children are.
RETENTION_YEARS = env.int("IRA_RETENTION_YEARS", default=0)
RETENTION_MINIMUM_AGE_YEARS = env.int("IRA_RETENTION_MINIMUM_AGE_YEARS", default=28)

# The record of who looked at what: whose records it is about, and where the ends of its chain are noted.
AUDITED_RECORD = "studies.Patient"
AUDIT_CHECKPOINTS = Path(env.str("IRA_AUDIT_CHECKPOINTS", default=str(VAR_DIR / "audit-checkpoints.jsonl")))
# Proxies in front of the portal: the address that the outermost of them saw is the one that counts.
ALLAUTH_TRUSTED_PROXY_COUNT = env.int("IRA_TRUSTED_PROXIES", default=0)

# The analysis queue. The model owns retries; the broker owns none (see docs/architecture.md).
ANALYSIS_TIMEOUT_S = env.int("IRA_ANALYSIS_TIMEOUT_S", default=60)
ANALYSIS_LEASE_S = ANALYSIS_TIMEOUT_S + 15
ANALYSIS_MAX_ATTEMPTS = env.int("IRA_ANALYSIS_MAX_ATTEMPTS", default=3)
ANALYSIS_REQUEUE_AFTER_S = ANALYSIS_LEASE_S
# What recovers from crashes, every minute: the task's dotted name and what the schedule is called.
# A training with what doctors judged is asked for every so many days; 0: only when somebody asks.
RETRAIN_EVERY_DAYS = env.int("IRA_RETRAIN_EVERY_DAYS", default=0)
SWEEPERS = {
    "studies.tasks.sweep": "sweep analyses",
    "reports.tasks.sweep": "sweep bulk jobs",
    "portal.tasks.sweep": "tell of problems, shorten the event log",
    "portal.tasks.sweep_trainings": "notice lost trainers, ask for trainings",
    "studies.monitoring.sweep": "watch the model, once a day",
}
Q_CLUSTER = {
    "name": "analysis",
    "orm": "default",
    "broker_class": "studies.broker.FairBroker",
    "workers": env.int("IRA_WORKERS", default=1),
    "timeout": ANALYSIS_TIMEOUT_S,
    "retry": ANALYSIS_LEASE_S + 15,
    "ack_failures": True,
    "max_attempts": 1,
    "queue_limit": 1,
    "recycle": 50,
    "bulk": 1,
    "catch_up": False,
    # Only failures are kept: to keep the last hundred successes, every worker of every machine locks the same rows.
    "save_limit": -1,
    "cache": "queue",
    "poll": 0.3,
    "label": "Task queue",
    # Each cluster puts what is due onto the queue; a row lock lets one of them send each task.
    "scheduler": env.bool("IRA_WORKER_SCHEDULE", default=True),
}
# How long a worker that is told to stop may finish what it has in hand, before it hands it back.
STOP_GRACE_S = env.int("IRA_STOP_GRACE_S", default=20)
# A file whose time shows that the worker, or the scheduler, is alive: for the health check of a container.
HEARTBEAT_FILE = env.str("IRA_HEARTBEAT_FILE", default="")
# /readyz: whoever sends this learns what is wrong, others only that something is; from when on something is.
READY_TOKEN = env.str("IRA_READY_TOKEN", default="")
READY_QUEUE_AGE_S = env.int("IRA_READY_QUEUE_AGE_S", default=600)
READY_FREE_MB = env.int("IRA_READY_FREE_MB", default=1000)

EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
DEFAULT_FROM_EMAIL = env.str("IRA_FROM_EMAIL", default="Radiology portal <no-reply@localhost>")

# A log-in ends after so long without a click, because the next person at the same screen is somebody else, and after a
# working day in any case. What pages ask for by themselves is no click.
SESSION_IDLE_MINUTES = {
    "doctor": env.int("IRA_SESSION_IDLE_MINUTES_DOCTOR", default=30),
    "administrator": env.int("IRA_SESSION_IDLE_MINUTES_ADMINISTRATOR", default=15),
    "patient": env.int("IRA_SESSION_IDLE_MINUTES_PATIENT", default=20),
}
SESSION_ABSOLUTE_HOURS = env.int("IRA_SESSION_ABSOLUTE_HOURS", default=12)
SESSION_PASSIVE_VIEWS = [
    "training_progress",
    "studies:study_status",
    "studies:study_read_panel",
    "studies:study_rows",
    "studies:own_study_status",
    "reports:bulk_job",
    "reports:my_data",
    "studies:import_status",
]
SESSION_COOKIE_AGE = SESSION_ABSOLUTE_HOURS * 60 * 60
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# Load balancers ask without TLS (portal/probes.py).
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz(/web)?$"]
# Everything comes from here, as a file of its own: no inline script, no inline style, no foreign address. What one page
# needs beyond that stands at its view (portal.headers.also_allow).
SECURE_CSP = {
    "default-src": ["'none'"],
    "script-src": ["'self'"],
    "style-src": ["'self'"],
    "img-src": ["'self'", "data:", "blob:"],
    "font-src": ["'self'"],
    "connect-src": ["'self'"],
    "worker-src": ["'self'"],
    "manifest-src": ["'self'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
    "base-uri": ["'none'"],
    "object-src": ["'none'"],
}

# The API (portal/api). How often may be asked in a minute (0: no limit), and how long a token may last.
API_TOKEN_MAX_DAYS = env.int("IRA_API_TOKEN_MAX_DAYS", default=365)
API_TOKEN_REQUESTS_PER_MINUTE = env.int("IRA_API_TOKEN_REQUESTS_PER_MINUTE", default=300)
API_USER_REQUESTS_PER_MINUTE = env.int("IRA_API_USER_REQUESTS_PER_MINUTE", default=600)
API_ANONYMOUS_REQUESTS_PER_MINUTE = env.int("IRA_API_ANONYMOUS_REQUESTS_PER_MINUTE", default=60)
# Slices that one web process classifies at the same time while somebody waits, and how long anybody waits.
API_CLASSIFY_AT_ONCE = env.int("IRA_API_CLASSIFY_AT_ONCE", default=1)
API_CLASSIFY_TIMEOUT_S = env.int("IRA_API_CLASSIFY_TIMEOUT_S", default=20)
REST_FRAMEWORK = {
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "portal.api.authentication.TokenAuthentication",
        "portal.api.authentication.PortalSessionAuthentication",
    ],
    "DEFAULT_THROTTLE_CLASSES": [
        "portal.api.throttles.TokenThrottle",
        "portal.api.throttles.PersonThrottle",
        "portal.api.throttles.AnonymousThrottle",
    ],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "portal.api.negotiation.OneRenderer",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "portal.api.problems.handle",
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "Intelligent Radiologist Assistant",
    "VERSION": "1.0.0",
    "DESCRIPTION": (
        "Everything that doctors and patients do in the pages of the portal, for programs. What somebody may not see "
        "does not exist (404); refusals are problem details (RFC 9457) with a sentence for people. Decision support, "
        "not a diagnosis; not a medical device."
    ),
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PUBLIC": True,
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "POSTPROCESSING_HOOKS": [
        "portal.api.schema.describe_refusals",
        "portal.api.schema.close_bodies",
    ],
}

# The model is watched (docs/monitoring.md): answers of so many days are compared with the reference.
MONITORING_WINDOW_DAYS = env.int("IRA_MONITORING_WINDOW_DAYS", default=7)

IS_DEMO = False
DEMO_PASSWORD = ""
DEMO_LOGINS: dict[str, str] = {}

# The event log of the model's life (ml.events): rows of a table, kept for so many days (0: for ever), and JSON lines,
# which go to a file where one is named, and between the other log lines where none is.
EVENT_DAYS = env.int("IRA_EVENT_DAYS", default=365)
EVENT_LOG = env.str("IRA_EVENT_LOG", default="")
# Whoever sends this as a bearer token may read /metrics; without one the address does not exist.
METRICS_TOKEN = env.str("IRA_METRICS_TOKEN", default="")
# Of a kind of problem that goes on administrators are mailed again after so many hours (0: no mails about problems).
PROBLEM_MAIL_HOURS = env.int("IRA_PROBLEM_MAIL_HOURS", default=6)

# "line" for people, "json" for programs that collect logs (portal/logs.py).
LOG_FORMAT = env.str("IRA_LOG_FORMAT", default="line")
if LOG_FORMAT not in ("line", "json"):
    raise ImproperlyConfigured(f"IRA_LOG_FORMAT is line or json. Please correct it. Received: {LOG_FORMAT!r}.")
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "{asctime} {levelname:<7} {name}: {message}", "style": "{", "datefmt": "%H:%M:%S"},
        "json": {"()": "portal.logs.JsonFormatter"},
        "bare": {"format": "{message}", "style": "{"},
    },
    "filters": {"no_secrets": {"()": "portal.secrets_in_addresses.NoSecrets"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT},
        "events": {"formatter": "bare"}
        | (
            {"class": "logging.handlers.WatchedFileHandler", "filename": EVENT_LOG, "delay": True, "encoding": "utf-8"}
            if EVENT_LOG
            else {"class": "logging.StreamHandler"}
        ),
    },
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "django-q": {"handlers": ["console"], "level": "INFO", "propagate": False},
        "ira.events": {"handlers": ["events"], "level": "INFO", "propagate": False},
        # These name the address of a refused request: cleaned at the logger, so that no handler gets a secret.
        "django.request": {"level": "WARNING", "filters": ["no_secrets"]},
        "django.security.csrf": {"level": "WARNING", "filters": ["no_secrets"]},
    },
}
