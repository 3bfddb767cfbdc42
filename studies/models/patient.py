"""People's records at a hospital, and the guard of those who claim one as their own."""

import uuid
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Hospital, User
from studies.models.grant import PatientUserObjectPermission


class PatientQuerySet(models.QuerySet["Patient"]):
    """Patients, restricted to what somebody may see."""

    def visible_to(self, user: Any) -> "PatientQuerySet":
        """Return the records of the doctor's own hospital that the doctor holds a grant on; nothing for anyone else."""
        return self._granted(user, codename="view_patient")

    def changeable_by(self, user: Any) -> "PatientQuerySet":
        """Return the visible records that the doctor may also correct."""
        return self.visible_to(user)._granted(user, codename="change_patient")

    def _granted(self, user: Any, *, codename: str) -> "PatientQuerySet":
        if not getattr(user, "is_approved_doctor", False):
            return self.none()
        return self.filter(
            PatientUserObjectPermission.is_held_by(user, codename=codename),
            hospital_id=user.hospital_id,
        )

    def at_hospitals(self) -> "PatientQuerySet":
        """Return the records that hospitals keep, with these; a patient's own uploads lie in one that none keeps."""
        return self.filter(hospital__isnull=False).select_related("hospital")

    def matching(self, text: str) -> "PatientQuerySet":
        """Return the records in which every word of ``text`` stands in a name or in the record number."""
        found = self
        for word in text.split():
            found = found.filter(
                models.Q(given_name__icontains=word)
                | models.Q(family_name__icontains=word)
                | models.Q(record_number__icontains=word)
            )
        return found


class Teaching(models.TextChoices):
    """What a patient says about teaching the model with their slices. Their own uploads need an "allowed"."""

    AS_HOSPITAL = "", _("Not said: as the hospital decides")
    ALLOWED = "allowed", _("May be used")
    REFUSED = "refused", _("May not be used")


class Patient(models.Model):
    """A person's record at one hospital. Somebody known at two hospitals has two records and may log in once.

    A record without a hospital is somebody's own: it holds what they uploaded themselves, has no number, and no doctor
    sees it. What a doctor takes over moves to a record of the doctor's hospital (``studies.handovers``).
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    hospital = models.ForeignKey(Hospital, on_delete=models.PROTECT, null=True, blank=True, related_name="patients")
    record_number = models.CharField(_("record number"), max_length=40)
    given_name = models.CharField(_("given name"), max_length=80)
    family_name = models.CharField(_("family name"), max_length=80)
    birth_date = models.DateField(_("date of birth"))
    email = models.EmailField(_("e-mail address"), blank=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="patient_records"
    )
    teaching = models.CharField(
        _("teaching the model"), max_length=10, choices=Teaching, blank=True, default="", db_default=""
    )
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = PatientQuerySet.as_manager()

    class Meta:
        verbose_name = _("patient")
        verbose_name_plural = _("patients")
        ordering = ["family_name", "given_name", "id"]
        constraints = [
            models.UniqueConstraint(
                "hospital", Lower("record_number"), name="a_record_number_stands_once_in_a_hospital"
            ),
            models.UniqueConstraint(
                fields=["hospital", "user"],
                condition=models.Q(user__isnull=False),
                name="a_person_has_one_record_in_a_hospital",
            ),
            models.UniqueConstraint(
                fields=["user"], condition=models.Q(hospital__isnull=True), name="a_person_has_one_record_of_their_own"
            ),
            models.CheckConstraint(
                condition=models.Q(hospital__isnull=False) | models.Q(user__isnull=False, record_number=""),
                name="a_record_without_a_hospital_is_somebodys_own",
            ),
            models.CheckConstraint(
                condition=models.Q(teaching__in=Teaching.values),
                name="a_patient_allows_teaching_refuses_it_or_says_nothing",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.family_name}, {self.given_name}"

    def clean(self) -> None:
        """Raise ``ValidationError`` beside the record number if the hospital has another patient under it.

        Forms leave the hospital out, and so the database's constraint too: this puts it into words.
        """
        others = Patient.objects.filter(hospital=self.hospital_id, record_number__iexact=self.record_number)
        if others.exclude(pk=self.pk).exists():
            sentence = _("Your hospital already has a patient with this record number. Please check the number.")
            raise ValidationError({"record_number": sentence})

    @property
    def full_name(self) -> str:
        """Given and family name."""
        return f"{self.given_name} {self.family_name}"

    def can_be_changed_by(self, user: Any) -> bool:
        """Whether this person may correct the record."""
        return Patient.objects.changeable_by(user).filter(id=self.id).exists()

    def link_to(self, user: User) -> bool:
        """Tie the record to the person who reads its reports; return False if it is tied to somebody already.

        One conditional UPDATE, so that of two people who claim at once only one gets it.
        """
        is_linked = Patient.objects.filter(id=self.id, user__isnull=True).update(user=user)
        if is_linked:
            self.refresh_from_db(fields=["user"])
        return bool(is_linked)


class RecordClaimGuard(models.Model):
    """Counts a person's wrong guesses when claiming a record, and locks them out for a while after too many.

    ::

        open ──MAX_WRONG_GUESSES within WINDOW──▶ locked ──LOCKED_FOR over──▶ open
    """

    MAX_WRONG_GUESSES = 5
    WINDOW = timedelta(hours=1)
    LOCKED_FOR = timedelta(hours=1)

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    wrong_guesses = models.PositiveSmallIntegerField(default=0)
    first_wrong_at = models.DateTimeField(null=True)
    locked_until = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("record claim guard")
        verbose_name_plural = _("record claim guards")

    def __str__(self) -> str:
        return f"claim guard {self.pk}"

    @property
    def is_locked(self) -> bool:
        """Whether this person has to wait before the next try."""
        return self.locked_until is not None and self.locked_until > timezone.now()

    def count_wrong_guess(self) -> None:
        """Note one wrong guess; the one that is one too many locks. The caller holds the row's lock."""
        now = timezone.now()
        if self.first_wrong_at is None or self.first_wrong_at < now - self.WINDOW:
            self.first_wrong_at, self.wrong_guesses = now, 0
        self.wrong_guesses += 1
        if self.wrong_guesses >= self.MAX_WRONG_GUESSES:
            self.locked_until, self.first_wrong_at, self.wrong_guesses = now + self.LOCKED_FOR, None, 0
        self.save()
