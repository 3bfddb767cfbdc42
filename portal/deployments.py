"""What follows a change of the model in use: the log of accesses, and a mail where the model is damaged."""

import logging
from smtplib import SMTPException
from typing import Final

from django.core.cache import cache
from django.core.mail import send_mail
from django.utils.translation import gettext as _

from accounts.language import speaking_to
from accounts.models import AccessEvent, User
from ml.models import Deployment, ModelVersion

logger = logging.getLogger(__name__)

# One damaged folder is found again with every analysis; people are told once in so many seconds.
TOLD_EVERY_S: Final = 24 * 60 * 60


def note_deployment(deployment: Deployment) -> None:
    """Write the access event of a change, in the transaction of the change."""
    facts = [f"{deployment.kind} {deployment.version.version}"]
    if deployment.replaced is not None:
        facts.append(f"instead of {deployment.replaced.version}")
    if deployment.challenge_share is not None:
        facts.append(f"share {deployment.challenge_share:g}")
    if deployment.is_forced:
        facts.append("forced")
    if deployment.by is None:
        facts.append(f"at the command line, account {deployment.operator}")
    if deployment.reason:
        facts.append(f"reason: {deployment.reason}")
    AccessEvent.note_of(
        action=AccessEvent.Action.DEPLOYED,
        target=deployment.version,
        actor=deployment.by,
        address=deployment.address,
        note="; ".join(facts),
    )


def tell_of_damage(version: ModelVersion, *, stand_in: str) -> None:
    """Mail all superusers, once a day, that the champion is damaged and which version answers in its place."""
    if not cache.add(f"damaged-model-{version.pk}", stand_in, TOLD_EVERY_S):
        return
    for person in User.objects.filter(is_superuser=True, is_active=True).order_by("pk"):
        with speaking_to(person):
            subject = _("The model %(version)s is damaged") % {"version": version.version}
            body = _(
                "The files of the model %(version)s are not those that were registered, so it was not used. Slices are "
                "analysed by the version %(stand_in)s until you restore the folder from a backup, roll back, or "
                "promote another version.\n\nThis mail comes once a day while it stays so."
            ) % {"version": version.version, "stand_in": stand_in}
        try:
            send_mail(subject, body, None, [person.email])
        except (OSError, SMTPException):
            logger.exception("A mail about a damaged model could not be sent to %s.", person.pk)
