"""A person who logs in claims the record that a hospital keeps about them, so that its reports reach them."""

import datetime

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.module_loading import import_string

from accounts.models import User
from studies.errors import ClaimLockedError
from studies.models import Patient, RecordClaimGuard


def claim_record(user: User, *, record_number: str, birth_date: datetime.date) -> Patient | None:
    """Tie the record with this number, birth date and the person's own verified e-mail address to the person.

    Returns the record, also when it is theirs already; None after a wrong guess, whatever was wrong: number, date,
    address, or that somebody else has it. Each wrong guess is counted, and the guess itself is made under the lock
    of the count, so that parallel requests gain nothing.

    Raises ``ClaimLockedError`` for as long as there were too many wrong guesses.
    """
    with transaction.atomic():
        RecordClaimGuard.objects.get_or_create(user=user)
        guard = RecordClaimGuard.objects.select_for_update().get(user=user)
        if guard.is_locked:
            assert guard.locked_until is not None  # noqa: S101 - narrows the type: a lock has an end
            until = timezone.localtime(guard.locked_until)
            raise ClaimLockedError(
                f"There were too many tries that did not match. For your safety please wait until {until:%H:%M}, or "
                "ask the hospital to check the record number and the e-mail address that it keeps."
            )
        patient = _matching_record(user, record_number=record_number, birth_date=birth_date)
        if patient is None or not _is_linked(patient, user=user):
            guard.count_wrong_guess()
            return None
        # The rooms above this one grant what the record brings along, in this same transaction.
        for path in settings.AFTER_RECORD_CLAIM:
            import_string(path)(patient)
        return patient


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
