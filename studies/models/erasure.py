"""A patient asks a hospital to erase a record; an administrator decides under the retention rule and says why."""

import uuid
from typing import Any

from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import Hospital, User
from studies.errors import ErasureError
from studies.models.patient import Patient


class ErasureRequestQuerySet(models.QuerySet["ErasureRequest"]):
    """Requests, restricted to what somebody may see."""

    def made_by(self, user: Any) -> "ErasureRequestQuerySet":
        """Return a patient's own requests, the newest first."""
        return self.filter(requested_by=user) if getattr(user, "is_patient", False) else self.none()

    def decidable_by(self, user: Any) -> "ErasureRequestQuerySet":
        """Return what an administrator may decide or has decided: of the own hospital; a superuser's are all."""
        if not getattr(user, "is_administrator", False):
            return self.none()
        if user.is_superuser:
            return self.all()
        return self.filter(hospital_id=user.hospital_id) if user.hospital_id else self.none()


class ErasureRequest(models.Model):
    """One request about one record at one hospital. It outlives the record: the outcome is told after the erasure.

    ::

        REQUESTED ──grant()─────▶ GRANTED    erased, but for what the retention rule keeps
            ├───────refuse()────▶ REFUSED
            └───────withdraw()──▶ WITHDRAWN  by the patient

    Each step is one conditional UPDATE on REQUESTED. ``studies_erased`` went as a whole; of ``studies_kept`` the signed
    reports stay, until ``kept_until`` (None: without an end) at the latest.
    """

    class State(models.TextChoices):
        """Where the request stands."""

        REQUESTED = "requested", gettext_lazy("waiting")
        GRANTED = "granted", gettext_lazy("erased")
        REFUSED = "refused", gettext_lazy("refused")
        WITHDRAWN = "withdrawn", gettext_lazy("withdrawn")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    patient = models.ForeignKey(Patient, on_delete=models.SET_NULL, null=True, related_name="erasure_requests")
    hospital = models.ForeignKey(Hospital, on_delete=models.PROTECT, related_name="+")
    state = models.CharField(max_length=10, choices=State, default=State.REQUESTED, editable=False)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    requested_at = models.DateTimeField(default=timezone.now, editable=False)
    message = models.TextField(gettext_lazy("message"), max_length=1000, blank=True, editable=False)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    decided_at = models.DateTimeField(null=True, editable=False)
    reason = models.TextField(gettext_lazy("reason"), max_length=1000, blank=True, editable=False)
    studies_erased = models.PositiveIntegerField(default=0, editable=False)
    studies_kept = models.PositiveIntegerField(default=0, editable=False)
    kept_until = models.DateField(null=True, editable=False)

    objects = ErasureRequestQuerySet.as_manager()

    class Meta:
        verbose_name = gettext_lazy("erasure request")
        verbose_name_plural = gettext_lazy("erasure requests")
        ordering = ["-requested_at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["patient"],
                condition=models.Q(state="requested"),
                name="one_erasure_of_a_record_is_asked_for_at_a_time",
            ),
            models.CheckConstraint(
                condition=models.Q(state="requested", decided_at__isnull=True, decided_by__isnull=True)
                | (~models.Q(state="requested") & models.Q(decided_at__isnull=False, decided_by__isnull=False)),
                name="an_erasure_request_waits_or_says_who_ended_it",
            ),
            models.CheckConstraint(
                condition=~models.Q(state__in=["granted", "refused"]) | ~models.Q(reason=""),
                name="a_decision_on_erasure_has_a_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"erasure request {self.pk}"

    @property
    def is_waiting(self) -> bool:
        """Whether nobody has decided yet."""
        return self.state == self.State.REQUESTED

    @property
    def badge(self) -> str:
        """Which of the design system's badges shows the state."""
        return {"requested": "queued", "granted": "succeeded"}.get(self.state, "cancelled")

    @classmethod
    def ask(cls, patient: Patient, *, by: User, message: str = "") -> "ErasureRequest":
        """Ask the hospital of a record to erase it. Raises ``ErasureError`` for a record that is not ``by``'s."""
        hospital = patient.hospital
        if hospital is None or patient.user_id != by.pk or not by.is_patient:
            raise ErasureError(_("Only your own record at a hospital can be erased on request."))
        try:
            with transaction.atomic():
                return cls.objects.create(
                    patient=patient, hospital=hospital, requested_by=by, message=message.strip()[:1000]
                )
        except IntegrityError as error:
            raise ErasureError(_("You have asked this hospital already; it has not decided yet.")) from error

    def withdraw(self, *, by: User) -> None:
        """Take the request back. Raises ``ErasureError`` once it is decided."""
        self._decide(self.State.WITHDRAWN, by=by)

    def refuse(self, *, by: User, reason: str) -> None:
        """Keep everything. Raises ``ErasureError`` without a reason, or once it is decided."""
        self._decide(self.State.REFUSED, by=by, reason=reason)

    def grant(self, *, by: User, reason: str, **outcome: Any) -> None:
        """Note that it is done, and what stays (``studies_erased``, ``studies_kept``, ``kept_until``).

        The caller holds the transaction that erases. Raises ``ErasureError`` as ``refuse`` does.
        """
        self._decide(self.State.GRANTED, by=by, reason=reason, **outcome)

    def _decide(self, state: str, *, by: User, reason: str = "", **outcome: Any) -> None:
        if state != self.State.WITHDRAWN and not reason.strip():
            raise ErasureError(_("Please say why; the patient reads the reason."))
        waiting = ErasureRequest.objects.filter(pk=self.pk, state=self.State.REQUESTED)
        is_ours = waiting.update(
            state=state, decided_by=by, decided_at=timezone.now(), reason=reason.strip()[:1000], **outcome
        )
        self.refresh_from_db()
        if not is_ours:
            raise ErasureError(_("This request was decided or withdrawn already, so nothing was done."))
