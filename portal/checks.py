"""System checks: an unsafe configuration is a failing check, not a surprise in production."""

from collections.abc import Sequence

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register


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
