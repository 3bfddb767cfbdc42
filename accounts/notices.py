"""E-mails that tell somebody that there is news, and nothing about what: no names of findings, no medical content."""

import logging
from smtplib import SMTPException
from typing import Any

from allauth.account.adapter import get_adapter
from allauth.core.context import request_context
from django.http import HttpRequest

from accounts.language import speaking_to
from accounts.models import User

logger = logging.getLogger(__name__)


def send_notice(request: HttpRequest, *, template: str, to: User, **context: Any) -> bool:
    """Mail a notice (``<template>_subject.txt`` and ``_message.txt``); return whether it left.

    What the notice is about has happened whether or not the post works.
    """
    try:
        with request_context(request), speaking_to(to):
            get_adapter(request).send_mail(template, to.email, context | {"user": to})
    except (OSError, SMTPException):
        logger.exception("A notice to %s could not be mailed.", to.pk)
        return False
    return True
