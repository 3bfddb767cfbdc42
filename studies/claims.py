"""A person who logs in claims the record that a hospital keeps about them, so that its reports reach them."""

import datetime
import math
from typing import Final

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import User
from studies.errors import ClaimLockedError, InvitationError
from studies.models import Patient, RecordClaimGuard, RecordInvitation

# One sentence for whatever was wrong, so that nobody learns which of the guesses was right.
NO_SUCH_RECORD: Final = gettext_lazy(
    "No record with this number and date of birth is kept under your e-mail address. Please check both; if they are "
    "right, ask the hospital whether it has your e-mail address."
)
NOT_THAT_INVITED: Final = gettext_lazy(
    "Record number or date of birth does not match. Please check both in the hospital's letter."
)


def claim_record(user: User, *, record_number: str, birth_date: datetime.date) -> Patient | None:
    """Tie the record with this number, birth date and the person's own verified e-mail address to the person.

    Returns the record, also when it is theirs already; None after a wrong guess, whatever was wrong: number, date,
    address, or that somebody else has it. Each wrong guess is counted, and the guess itself is made under the lock
    of the count, so that parallel requests gain nothing.

    Raises ``ClaimLockedError`` for as long as there were too many wrong guesses.
    """
    with transaction.atomic():
        guard = _open_guard(user)
        patient = _matching_record(user, record_number=record_number, birth_date=birth_date)
        if patient is None or not _is_linked(patient, user=user):
            guard.count_wrong_guess()
            return None
        _hand_over(patient)
        return patient


def invite_patient(patient: Patient, *, by: User) -> tuple[RecordInvitation, str]:
    """Make an invitation to claim this record, in place of an older one; return it and the token of its link.

    Raises ``InvitationError`` for a record without e-mail address, or one that its patient reads already.
    """
    if patient.user_id is not None:
        raise InvitationError(_("The patient reads this record here already; no invitation is needed."))
    if not patient.email:
        raise InvitationError(_("The record has no e-mail address. Please correct the record first, then invite."))
    with transaction.atomic():
        # Two doctors who press at once: the second waits, and its invitation replaces the first.
        Patient.objects.select_for_update().get(id=patient.id)
        return RecordInvitation.issue(patient, by=by)


def open_invitation(token: str) -> RecordInvitation | None:
    """Return the invitation of a link, or None where the link opens nothing (any more)."""
    return RecordInvitation.objects.open().with_token(token).select_related("patient__hospital").first()


def claim_with_invitation(user: User, *, token: str, record_number: str, birth_date: datetime.date) -> Patient | None:
    """Tie the record of an invitation to the person who holds its link and knows record number and birth date.

    The link was mailed to the address that the hospital keeps, so the person may log in with another one. Returns None
    after a wrong guess, whatever was wrong; it counts against the person and against the invitation, each under a lock.

    Raises ``ClaimLockedError`` for as long as this person has guessed wrong too often, ``InvitationError`` for an
    invitation that opens nothing any more.
    """
    with transaction.atomic():
        guard = _open_guard(user)
        invitation = RecordInvitation.objects.select_for_update(of=("self",)).open().with_token(token).first()
        if invitation is None:
            raise InvitationError(_("This invitation no longer works. Please ask the hospital for a new one."))
        patient = invitation.patient
        is_right = patient.record_number.casefold() == record_number.strip().casefold()
        is_right = is_right and patient.birth_date == birth_date
        if not is_right or not _is_linked(patient, user=user):
            guard.count_wrong_guess()
            invitation.count_wrong_guess()
            return None
        invitation.use(by=user)
        _hand_over(patient)
        return patient


def _open_guard(user: User) -> RecordClaimGuard:
    """Return the locked row that counts this person's guesses. Raises ``ClaimLockedError`` while they have to wait."""
    RecordClaimGuard.objects.get_or_create(user=user)
    guard = RecordClaimGuard.objects.select_for_update().get(user=user)
    if guard.is_locked:
        assert guard.locked_until is not None  # noqa: S101 - narrows the type: a lock has an end
        until = timezone.localtime(guard.locked_until)
        raise ClaimLockedError(
            _(
                "There were too many tries that did not match. For your safety please wait until %(time)s, or ask the "
                "hospital to check the record number and the e-mail address that it keeps."
            )
            % {"time": f"{until:%H:%M}"},
            wait_s=max(1, math.ceil((until - timezone.now()).total_seconds())),
        )
    return guard


def _hand_over(patient: Patient) -> None:
    """Have the rooms above this one grant what the record brings along, in this same transaction."""
    for path in settings.AFTER_RECORD_CLAIM:
        import_string(path)(patient)


def _matching_record(user: User, *, record_number: str, birth_date: datetime.date) -> Patient | None:
    addresses = EmailAddress.objects.filter(user=user, verified=True).annotate(lower=Lower("email")).values("lower")
    return (
        Patient.objects.annotate(lower_email=Lower("email"))
        .filter(models.Q(user__isnull=True) | models.Q(user=user))
        .filter(lower_email__in=addresses, record_number__iexact=record_number, birth_date=birth_date)
        .order_by(models.F("user").asc(nulls_first=True), "created_at")
        .first()
    )


def _is_linked(patient: Patient, *, user: User) -> bool:
    if patient.user_id == user.id:
        return True
    try:
        with transaction.atomic():
            return patient.link_to(user)
    except IntegrityError:
        # The person has another record at this hospital; two are for the hospital to merge.
        return False
