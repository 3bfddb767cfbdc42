"""Hospitals, the people who log in, and the record of who looked at what."""

import uuid
from typing import Any

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.audit import AccessEvent
from accounts.scripts import RequestCount, SentRequest
from accounts.tokens import ApiToken, Scope

__all__ = [
    "AccessEvent",
    "ApiToken",
    "EmergencyAccess",
    "Hospital",
    "KnownDevice",
    "RequestCount",
    "Role",
    "Scope",
    "SentRequest",
    "User",
    "UserManager",
]


class Hospital(models.Model):
    """A hospital or practice: the wall between two groups of people who never see each other's patients."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(_("name"), max_length=120, unique=True)
    department = models.CharField(_("department"), max_length=120, blank=True)
    address = models.TextField(_("address"), blank=True)
    phone = models.CharField(_("telephone"), max_length=40, blank=True)
    reads_first = models.BooleanField(
        _("read first, then reveal the AI"),
        default=True,
        help_text=_(
            "What the software says about a study stays hidden from a doctor until they have noted a first impression "
            "of their own. Both are kept for comparison."
        ),
    )
    teaches_model = models.BooleanField(
        _("teaches the model"),
        default=False,
        db_default=False,
        help_text=_(
            "Doctors' judgements in signed reports may be used to train the model: slices without names, dates and "
            "numbers. A patient's refusal goes before this."
        ),
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("hospital")
        verbose_name_plural = _("hospitals")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    """What somebody is here for. A person has exactly one role; nobody gets one by default but "patient"."""

    DOCTOR = "doctor", _("Doctor")
    PATIENT = "patient", _("Patient")
    ADMINISTRATOR = "administrator", _("Administrator")


REJECTION_FIELDS = ("rejected_at", "rejected_by", "rejection_reason")


class UserManager(BaseUserManager["User"]):
    """Creates people who log in by e-mail."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Create and store one person; the e-mail is stored in lower case. Raises ``ValueError`` without an e-mail."""
        if not email:
            raise ValueError("An e-mail address is needed to create a user.")
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.full_clean(exclude=["password"])
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Create an administrator of the whole installation, without any clinical role."""
        fields |= {"role": Role.ADMINISTRATOR, "is_staff": True, "is_superuser": True}
        return self.create_user(email, password, **fields)

    def get_by_natural_key(self, username: str | None) -> "User":
        """Find a person by e-mail, whatever its case."""
        return self.get(email__iexact=username)


class User(AbstractBaseUser, PermissionsMixin):
    """Somebody who logs in by e-mail. People are deactivated, never deleted: foreign keys to them are PROTECT.

    A doctor sees nothing until an administrator has approved them (``approved_at``)::

        signed up as doctor ──approve()──▶ approved ──deactivate()──▶ inactive
                │                          ▲    ▲                        │
                └──reject()──▶ rejected ───┘    └──────reactivate()──────┘
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField(_("e-mail address"), unique=True)
    given_name = models.CharField(_("given name"), max_length=80)
    family_name = models.CharField(_("family name"), max_length=80)
    role = models.CharField(_("role"), max_length=20, choices=Role, default=Role.PATIENT)
    hospital = models.ForeignKey(
        Hospital, on_delete=models.PROTECT, null=True, blank=True, related_name="people", verbose_name=_("hospital")
    )
    licence_number = models.CharField(_("licence number"), max_length=40, blank=True)
    approved_at = models.DateTimeField(_("approved at"), null=True, blank=True, editable=False)
    approved_by = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, editable=False, related_name="approved_people"
    )
    rejected_at = models.DateTimeField(_("rejected at"), null=True, blank=True, editable=False)
    rejected_by = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, editable=False, related_name="rejected_people"
    )
    rejection_reason = models.TextField(_("reason of the rejection"), max_length=500, blank=True, editable=False)
    is_active = models.BooleanField(_("may log in"), default=True)
    is_staff = models.BooleanField(_("may open the administration"), default=False)
    # Empty while nobody has chosen: pages then follow the browser, mails the installation.
    language = models.CharField(_("language"), max_length=10, choices=settings.LANGUAGES, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS = ["given_name", "family_name"]

    class Meta:
        verbose_name = _("person")
        verbose_name_plural = _("people")
        ordering = ["family_name", "given_name"]
        constraints = [
            models.UniqueConstraint(Lower("email"), name="email_is_unique_whatever_its_case"),
            models.CheckConstraint(
                condition=models.Q(is_staff=False) | models.Q(role=Role.ADMINISTRATOR),
                name="only_administrators_open_the_administration",
            ),
            models.CheckConstraint(
                condition=models.Q(is_superuser=False) | models.Q(role=Role.ADMINISTRATOR),
                name="a_superuser_has_no_clinical_role",
            ),
            models.CheckConstraint(
                condition=models.Q(approved_at__isnull=True)
                | ~models.Q(role=Role.DOCTOR)
                | models.Q(hospital__isnull=False),
                name="an_approved_doctor_belongs_to_a_hospital",
            ),
            models.CheckConstraint(
                condition=models.Q(approved_at__isnull=True) | models.Q(rejected_at__isnull=True),
                name="nobody_is_approved_and_rejected",
            ),
            models.CheckConstraint(
                condition=models.Q(rejected_at__isnull=True) | ~models.Q(rejection_reason=""),
                name="a_rejection_has_a_reason",
            ),
        ]

    def __str__(self) -> str:
        return self.get_full_name() or self.email

    def get_full_name(self) -> str:
        """Return given and family name."""
        return f"{self.given_name} {self.family_name}".strip()

    def get_short_name(self) -> str:
        """Return the given name, or the e-mail where none is known."""
        return self.given_name or self.email

    @property
    def is_approved_doctor(self) -> bool:
        """Whether this person may do clinical work: an active doctor of a hospital, approved by an administrator."""
        return bool(
            self.is_active
            and self.role == Role.DOCTOR
            and self.approved_at is not None
            and self.hospital_id is not None
        )

    @property
    def is_awaiting_approval(self) -> bool:
        """Whether this is a doctor on whom no administrator has decided yet."""
        return self.role == Role.DOCTOR and self.approved_at is None and self.rejected_at is None

    @property
    def is_rejected(self) -> bool:
        """Whether an administrator has turned this doctor's request down."""
        return self.role == Role.DOCTOR and self.rejected_at is not None

    @property
    def is_patient(self) -> bool:
        """Whether this person reads reports as a patient."""
        return self.is_active and self.role == Role.PATIENT

    @property
    def is_administrator(self) -> bool:
        """Whether this person runs the portal in the administration."""
        return self.is_active and self.role == Role.ADMINISTRATOR

    def may_be_managed_by(self, administrator: "User") -> bool:
        """Whether this administrator may change this person: a superuser anybody, others the doctors of their hospital.

        Nobody manages themselves, so nobody lifts themselves.
        """
        if not administrator.is_administrator or administrator.pk == self.pk:
            return False
        if administrator.is_superuser:
            return True
        return (
            self.role == Role.DOCTOR
            and administrator.hospital_id is not None
            and administrator.hospital_id == self.hospital_id
        )

    def approve(self, *, by: "User") -> None:
        """Let this doctor work; approving twice keeps the first approval.

        Raises ``PermissionDenied`` unless ``by`` administers this doctor's hospital, ``ValidationError`` for somebody
        who is no doctor or belongs to no hospital.
        """
        if not self.may_be_managed_by(by):
            raise PermissionDenied(_("Only an administrator of the doctor's hospital can approve a doctor."))
        if self.role != Role.DOCTOR or self.hospital_id is None:
            raise ValidationError(_("Only a doctor who belongs to a hospital can be approved."))
        if self.approved_at is not None:
            return
        self.approved_at = timezone.now()
        self.approved_by = by
        self.rejected_at = self.rejected_by = None
        self.rejection_reason = ""
        self.full_clean(exclude=["password"])
        self.save(update_fields=["approved_at", "approved_by", *REJECTION_FIELDS])

    def reject(self, *, by: "User", reason: str) -> None:
        """Turn this doctor's request for access down; the reason is for the doctor. A later approval undoes it.

        Raises ``PermissionDenied`` unless ``by`` administers this doctor's hospital, ``ValidationError`` without a
        reason, for somebody who is no doctor, and for one who is approved already (deactivate them instead).
        """
        if not self.may_be_managed_by(by):
            raise PermissionDenied(_("Only an administrator of the doctor's hospital can reject a doctor."))
        if self.role != Role.DOCTOR or self.approved_at is not None:
            raise ValidationError(_("Only a doctor who waits for approval can be rejected."))
        if not reason.strip():
            raise ValidationError(_("Please say why, so that the doctor knows what to do next."))
        self.rejected_at = timezone.now()
        self.rejected_by = by
        self.rejection_reason = reason.strip()
        self.full_clean(exclude=["password"])
        self.save(update_fields=REJECTION_FIELDS)

    def deactivate(self) -> None:
        """End this person's access, running sessions included, without deleting what they did."""
        self.is_active = False
        self.save(update_fields=["is_active"])

    def reactivate(self) -> None:
        """Let this person log in again."""
        self.is_active = True
        self.save(update_fields=["is_active"])


class KnownDevice(models.Model):
    """A browser in which somebody has logged in. Only a hash of what its cookie holds is stored."""

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="known_devices")
    token_hash = models.CharField(max_length=64)
    first_seen_at = models.DateTimeField(auto_now_add=True)
    last_seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = _("known device")
        verbose_name_plural = _("known devices")
        constraints = [
            models.UniqueConstraint(fields=["user", "token_hash"], name="a_device_is_known_once_to_a_person")
        ]

    def __str__(self) -> str:
        return f"known device {self.pk}"


class EmergencyAccess(AccessEvent):
    """The events of one kind, for the administration: a doctor has opened a record without a grant, giving a reason."""

    class Meta:
        proxy = True
        verbose_name = _("emergency access")
        verbose_name_plural = _("emergency accesses")
        default_permissions = ("view",)
