"""System checks: an unsafe configuration is a failing check, not a surprise in production."""

from collections.abc import Sequence

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections

from portal.storage import key_ring

SHORTEST_KEY = 50  # characters


@register(Tags.security)
def check_queue_times(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """Hold ``timeout + 3 < lease < retry``: django-q2 adds 3 s before it kills, and must not hand out a task twice."""
    queue = settings.Q_CLUSTER
    if queue["timeout"] + 3 < settings.ANALYSIS_LEASE_S < queue["retry"]:
        return []
    return [
        Error(
            "The queue's times do not fit together: timeout + 3 < lease < retry must hold.",
            hint=f"Received: timeout={queue['timeout']}, lease={settings.ANALYSIS_LEASE_S}, retry={queue['retry']}.",
            id="portal.E001",
        )
    ]


@register(Tags.security, deploy=True)
def check_no_demo_in_production(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """Refuse the demo's public log-ins on an installation that is meant for real people."""
    if not settings.IS_DEMO:
        return []
    return [
        Error(
            "These settings contain the public demo log-ins.",
            hint="Start the portal with DJANGO_SETTINGS_MODULE=portal.settings.production.",
            id="portal.E002",
        )
    ]


@register(Tags.security, deploy=True)
def check_audit_key(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """Refuse a key of the access log that can be guessed, or that changes together with the one of the sessions."""
    if len(settings.AUDIT_KEY) >= SHORTEST_KEY and settings.AUDIT_KEY != settings.SECRET_KEY:
        return []
    return [
        Error(
            "The key of the access log is too short, or the same as the secret key.",
            hint=f"Set IRA_AUDIT_KEY to at least {SHORTEST_KEY} random characters of its own.",
            id="portal.E003",
        )
    ]


@register(Tags.security)
def check_share_days(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """Hold that a patient's link can last for a day at least, so that the form has something to choose."""
    if settings.SHARE_MAX_DAYS >= 1:
        return []
    return [
        Error(
            "A link to a report must be able to last for at least a day.",
            hint=f"Correct IRA_SHARE_MAX_DAYS. Received: {settings.SHARE_MAX_DAYS}.",
            id="portal.E006",
        )
    ]


@register(Tags.security, deploy=True)
def check_policy(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """Refuse a content security policy that lets inline code or any address in."""
    loose = {"'unsafe-inline'", "'unsafe-eval'", "*", "http:", "https:"}
    found = [name for name, sources in settings.SECURE_CSP.items() if loose & set(sources)]
    if not found and "default-src" in settings.SECURE_CSP:
        return []
    return [
        Error(
            "The content security policy lets inline code or any address in.",
            hint=f"Look at SECURE_CSP. Received: {', '.join(found) or 'no default-src'}.",
            id="portal.E004",
        )
    ]


@register(Tags.security)
def check_picture_keys(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """Refuse keys that are none before the first picture is stored with them."""
    try:
        key_ring()
    except ValueError:
        return [
            Error(
                "A key in IRA_PICTURE_KEYS is no Fernet key.",
                hint="Make one with: python -c 'from cryptography.fernet import Fernet as f; print(f.generate_key())'",
                id="portal.E005",
            )
        ]
    return []


@register(Tags.database)
def check_encoding(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: object
) -> list[CheckMessage]:
    """Refuse a database that cannot hold every character before it is made use of: names are not ASCII."""
    for alias in databases or ():
        connection = connections[alias]
        if connection.vendor != "postgresql":
            continue
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_encoding")
            (encoding,) = cursor.fetchone()
        if encoding != "UTF8":
            return [
                Error(
                    f"The database's encoding is {encoding}, which cannot hold every name.",
                    hint="Make it anew with: createdb --encoding UTF8 --template template0 NAME",
                    id="portal.E007",
                )
            ]
    return []
