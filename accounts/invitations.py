"""Mails to people whom an administrator lets in, and what a used link proves."""

from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.forms import default_token_generator
from allauth.account.models import EmailAddress
from allauth.account.utils import user_pk_to_url_str
from allauth.core.context import request_context
from django.http import HttpRequest
from django.urls import reverse

from accounts.language import speaking_to
from accounts.models import User


def has_confirmed_email(user: User) -> bool:
    """Return whether this person has proven that the address they log in with is theirs."""
    return EmailAddress.objects.filter(user=user, email__iexact=user.email, verified=True).exists()


def send_invitation(request: HttpRequest, *, user: User) -> None:
    """Mail a link with which somebody whom an administrator created chooses their first password."""
    key = f"{user_pk_to_url_str(user)}-{default_token_generator.make_token(user)}"
    with request_context(request), speaking_to(user):
        adapter = get_adapter(request)
        context = {"user": user, "url": adapter.get_reset_password_from_key_url(key)}
        adapter.send_mail("accounts/email/invitation", user.email, context)


def send_approval(request: HttpRequest, *, user: User) -> None:
    """Tell a doctor that the portal is open to them now."""
    context = {"user": user, "url": request.build_absolute_uri(reverse("account_login"))}
    with request_context(request), speaking_to(user):
        get_adapter(request).send_mail("accounts/email/approved", user.email, context)


def send_rejection(request: HttpRequest, *, user: User) -> None:
    """Tell a doctor that the request for access was turned down, and why."""
    with request_context(request), speaking_to(user):
        get_adapter(request).send_mail("accounts/email/rejected", user.email, {"user": user})


def send_second_factor_removed(request: HttpRequest, *, user: User) -> None:
    """Tell somebody that an administrator has removed their second step."""
    context = {"user": user, "url": request.build_absolute_uri(reverse("account_login"))}
    with request_context(request), speaking_to(user):
        get_adapter(request).send_mail("accounts/email/second_factor_removed", user.email, context)


def confirm_email_after_reset(sender: type[User], *, user: User, **kwargs: Any) -> None:
    """Take the used link as proof of the address it was mailed to, so that an invited person needs no second mail.

    Only where the person has a single address: then the link cannot have gone anywhere else.
    """
    addresses = list(EmailAddress.objects.filter(user=user))
    if len(addresses) == 1 and not addresses[0].verified and addresses[0].email.lower() == user.email.lower():
        addresses[0].set_verified(commit=True)
