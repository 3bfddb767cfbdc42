"""What administrators are told when something goes wrong: each kind of error in words, and mails that do not flood."""

import logging
import smtplib
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.mail import send_mail
from django.db import models
from django.template.loader import render_to_string
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.language import speaking_to
from accounts.models import Role, User
from ml import errors as ml_errors
from ml.models import EVERYWHERE, News, Problem
from studies import errors as studies_errors

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProblemKind:
    """One kind of error in words: what it is, and what an administrator does about it."""

    label: Any
    advice: Any


START_AGAIN = _("Read the sentence of the event, mend its cause and start the stage again.")
NO_HARM = _("Nothing need be done: the person who uploaded the file was told why. Look closer if it happens often.")

KINDS: dict[str, ProblemKind] = {
    "IngestError": ProblemKind(_("Data could not be ingested"), START_AGAIN),
    "ArchiveError": ProblemKind(_("An archive of data is damaged or too large"), START_AGAIN),
    "DownloadError": ProblemKind(
        _("A data set could not be fetched"),
        _("It was tried several times. Check connection and credentials, or fetch the archive by hand."),
    ),
    "BusyError": ProblemKind(_("Another ingestion was running"), _("Wait for it to end, then start again.")),
    ml_errors.TrainingDataError.__name__: ProblemKind(
        _("Training data are missing or not laid out as expected"), START_AGAIN
    ),
    ml_errors.PreparationError.__name__: ProblemKind(
        _("The weights to start a training from could not be fetched"),
        _("It was tried several times. Check the connection, or name a weights file in the parameters."),
    ),
    ml_errors.NotANumberError.__name__: ProblemKind(
        _("A training diverged: its loss is no longer a number"),
        _("Lower the learning rate and start again; the last good checkpoint is kept."),
    ),
    ml_errors.NoImprovementError.__name__: ProblemKind(
        _("A training brings no improvement"), _("Change the learning rate and start again.")
    ),
    ml_errors.MissingDependencyError.__name__: ProblemKind(
        _("A package of the training machine is missing"), _("Install the packages that train, and start again.")
    ),
    ml_errors.EvaluationError.__name__: ProblemKind(_("A model could not be measured"), START_AGAIN),
    ml_errors.OutOfBandError.__name__: ProblemKind(
        _("A figure of a model lies outside its expected band"),
        _("Do not use this model before that is explained: too low points to training, too high to leaks."),
    ),
    ml_errors.ModelFileError.__name__: ProblemKind(
        _("The model cannot be loaded"),
        _("No slice is analysed meanwhile. Check the model's folder, or roll back to the version before."),
    ),
    studies_errors.StoredPictureError.__name__: ProblemKind(
        _("The store of pictures does not answer, or a stored slice is missing"),
        _("Analyses are tried again with growing pauses. Check disk, network and keys of the store."),
    ),
    studies_errors.UnexpectedAnalysisError.__name__: ProblemKind(
        _("An analysis failed unexpectedly"),
        _("The log of the worker has the details at that time; tell whoever maintains the portal."),
    ),
    studies_errors.AbandonedAnalysisError.__name__: ProblemKind(
        _("An analysis was started as often as allowed and never finished"),
        _("The worker was killed or took too long each time. Check its memory and the time-out."),
    ),
    ml_errors.UnreadableImageError.__name__: ProblemKind(_("A slice cannot be read"), NO_HARM),
    ml_errors.UnsupportedImageError.__name__: ProblemKind(_("A file is not a slice of a kind that is read"), NO_HARM),
    ml_errors.ImageTooLargeError.__name__: ProblemKind(_("A slice is too large"), NO_HARM),
    ml_errors.ImageTooSmallError.__name__: ProblemKind(_("A slice is too small"), NO_HARM),
}
UNKNOWN = ProblemKind(
    _("An error without a name of its own"),
    _("Look for it in the event log and in the log of the process at that time."),
)


def kind_of(name: str) -> ProblemKind:
    """Return a kind of error in words, by the name of its class."""
    return KINDS.get(name, UNKNOWN)


def tell_administrators() -> int:
    """Mail what administrators do not know yet: one mail each, a line for each kind; return how many mails left.

    Of a kind that keeps happening the same people hear every ``settings.PROBLEM_MAIL_HOURS``, with the count since.
    What could not be mailed is tried again the next time. Superusers hear of everything, the administrators of a
    hospital of what happened to its studies.
    """
    if not settings.PROBLEM_MAIL_HOURS:
        return 0
    by_audience: dict[str, list[News]] = defaultdict(list)
    for news in Problem.objects.claim_news(every=timedelta(hours=settings.PROBLEM_MAIL_HOURS)):
        by_audience[news.audience].append(news)
    sent = 0
    for audience, told in by_audience.items():
        recipients = list(people_to_tell(audience).order_by("email"))
        arrived = sum(_mail(person, told) for person in recipients)
        if recipients and not arrived:
            for news in told:
                Problem.objects.take_back(news)
        sent += arrived
    return sent


def people_to_tell(audience: str) -> models.QuerySet[User]:
    """Return whom a problem concerns: superusers, or the administrators of one hospital."""
    administrators = User.objects.filter(role=Role.ADMINISTRATOR, is_active=True)
    if audience == EVERYWHERE:
        return administrators.filter(is_superuser=True)
    return administrators.filter(is_superuser=False, hospital_id=audience)


def _mail(person: User, told: list[News]) -> bool:
    with speaking_to(person):
        lines = [(kind_of(news.name), news) for news in told]
        try:
            send_mail(
                subject=gettext("The radiology portal has a problem"),
                message=render_to_string("portal/email/problems.txt", {"lines": lines, "person": person}),
                from_email=settings.DEFAULT_FROM_EMAIL,
                recipient_list=[person.email],
            )
        except (smtplib.SMTPException, OSError):
            logger.exception("Administrator %s could not be told of a problem.", person.pk)
            return False
    return True
