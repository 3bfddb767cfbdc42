"""System checks of log-in: what protects real people must not be switched off where they are."""

from collections.abc import Sequence

from allauth.mfa import app_settings as mfa_settings
from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register

from accounts.models import Role

GUARDED_ROLES = (Role.DOCTOR, Role.ADMINISTRATOR)


@register(Tags.security, deploy=True)
def check_second_factor(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """Fail unless doctors and administrators need a second step and passkeys are bound to this site."""
    errors: list[CheckMessage] = []
    if missing := [role.value for role in GUARDED_ROLES if role not in settings.SECOND_FACTOR_ROLES]:
        errors.append(
            Error(
                "Doctors and administrators must log in with a second step.",
                hint=f"Put these roles into SECOND_FACTOR_ROLES: {', '.join(missing)}.",
                id="accounts.E002",
            )
        )
    if mfa_settings.WEBAUTHN_ALLOW_INSECURE_ORIGIN:
        errors.append(
            Error(
                "Passkeys are accepted from any address.",
                hint="Remove MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN from the settings.",
                id="accounts.E003",
            )
        )
    return errors


@register(Tags.security)
def check_session_times(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """Hold that every role has an idle time of at least a minute and within the absolute one."""
    longest = settings.SESSION_ABSOLUTE_HOURS * 60
    wrong = [role for role in Role.values if not 1 <= settings.SESSION_IDLE_MINUTES.get(role, 0) <= longest]
    if not wrong:
        return []
    return [
        Error(
            "Sessions must end after an idle time of at least a minute that is no longer than their absolute time.",
            hint=f"Correct IRA_SESSION_IDLE_MINUTES_… or IRA_SESSION_ABSOLUTE_HOURS. Wrong: {', '.join(wrong)}.",
            id="accounts.E005",
        )
    ]


@register(Tags.security, deploy=True)
def check_shared_counters(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    """Fail where each process counts failed log-ins for itself, so that guessing is as cheap as there are processes."""
    backend = str(settings.CACHES["default"]["BACKEND"])
    if not backend.endswith(("locmem.LocMemCache", "dummy.DummyCache")):
        return []
    return [
        Error(
            "Failed log-ins are counted in each process alone.",
            hint=f"Use a cache that all processes share, such as the database cache. Received: {backend}.",
            id="accounts.E004",
        )
    ]
