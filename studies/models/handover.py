"""A patient hands an upload of their own over to a hospital, where one of the doctors takes it over."""

import uuid
from typing import Any

from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import Hospital, Role, User
from studies.errors import HandoverError
from studies.models.study import Study


def hospitals_with_doctors() -> models.QuerySet[Hospital]:
    """Return the hospitals in which a doctor could take something over, by name."""
    doctors = User.objects.filter(
        hospital=models.OuterRef("pk"), role=Role.DOCTOR, is_active=True, approved_at__isnull=False
    )
    return Hospital.objects.filter(models.Exists(doctors))


class HandoverQuerySet(models.QuerySet["Handover"]):
    """Requests, restricted to what somebody may see."""

    def waiting_for(self, user: Any) -> "HandoverQuerySet":
        """Return what waits for the doctors of this doctor's hospital, the oldest first; nothing for anyone else."""
        if not getattr(user, "is_approved_doctor", False):
            return self.none()
        return self.filter(hospital_id=user.hospital_id, state=Handover.State.REQUESTED).order_by("requested_at", "id")

    def seen_by(self, user: Any) -> "HandoverQuerySet":
        """Return what was handed to this doctor's hospital, whatever has become of it but a withdrawal."""
        if not getattr(user, "is_approved_doctor", False):
            return self.none()
        return self.filter(hospital_id=user.hospital_id).exclude(state=Handover.State.WITHDRAWN)

    def newest_of(self, study: Study) -> "Handover | None":
        """Return the newest request about a study, or None."""
        return self.filter(study=study).select_related("hospital", "decided_by").order_by("-requested_at").first()


class Handover(models.Model):
    """One request to one hospital.

    ::

        REQUESTED ──take()──────▶ TAKEN       the study belongs to the hospital from then on
            ├───────decline()───▶ DECLINED    with a reason; the patient may ask elsewhere
            └───────withdraw()──▶ WITHDRAWN   by the patient, as long as nobody has taken it

    Each step is one conditional UPDATE on REQUESTED: of two people who act at once, the second is told.
    """

    class State(models.TextChoices):
        """Where the request stands."""

        REQUESTED = "requested", gettext_lazy("waiting for a doctor")
        TAKEN = "taken", gettext_lazy("taken over")
        DECLINED = "declined", gettext_lazy("declined")
        WITHDRAWN = "withdrawn", gettext_lazy("withdrawn")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="handovers")
    hospital = models.ForeignKey(Hospital, on_delete=models.PROTECT, related_name="+")
    state = models.CharField(max_length=10, choices=State, default=State.REQUESTED, editable=False)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    requested_at = models.DateTimeField(default=timezone.now, editable=False)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    decided_at = models.DateTimeField(null=True, editable=False)
    reason = models.TextField(gettext_lazy("reason"), max_length=500, blank=True, editable=False)

    objects = HandoverQuerySet.as_manager()

    class Meta:
        verbose_name = gettext_lazy("hand-over")
        verbose_name_plural = gettext_lazy("hand-overs")
        ordering = ["-requested_at", "id"]
        indexes = [models.Index(fields=["hospital", "state", "requested_at"], name="handover_by_hospital_and_state")]
        constraints = [
            models.UniqueConstraint(
                fields=["study"],
                condition=models.Q(state__in=["requested", "taken"]),
                name="a_study_is_handed_to_one_hospital_at_a_time",
            ),
            models.CheckConstraint(
                condition=models.Q(state="requested", decided_at__isnull=True, decided_by__isnull=True)
                | (~models.Q(state="requested") & models.Q(decided_at__isnull=False, decided_by__isnull=False)),
                name="a_handover_waits_or_says_who_ended_it",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="declined") | ~models.Q(reason=""), name="a_declined_handover_says_why"
            ),
        ]

    def __str__(self) -> str:
        return f"hand-over {self.pk}"

    @property
    def is_waiting(self) -> bool:
        """Whether nobody has decided yet."""
        return self.state == self.State.REQUESTED

    @property
    def is_taken(self) -> bool:
        """Whether a doctor has taken the study over."""
        return self.state == self.State.TAKEN

    @property
    def badge(self) -> str:
        """Which of the design system's badges shows the state."""
        return {"requested": "queued", "taken": "succeeded"}.get(self.state, "cancelled")

    @classmethod
    def request(cls, study: Study, *, hospital: Hospital, by: User) -> "Handover":
        """Ask a hospital's doctors to take the study over.

        Raises ``HandoverError`` for a study that is no own upload of ``by``, is handed over already, or for a hospital
        without doctors.
        """
        if not study.is_own or study.created_by_id != by.pk:
            raise HandoverError(_("Only what you uploaded yourself and no hospital has yet can be handed over."))
        if not hospitals_with_doctors().filter(pk=hospital.pk).exists():
            raise HandoverError(_("No doctor of this hospital works with this portal. Please choose another one."))
        try:
            with transaction.atomic():
                return cls.objects.create(study=study, hospital=hospital, requested_by=by)
        except IntegrityError as error:
            raise HandoverError(
                _("This is handed over already. Withdraw that request first, then choose another hospital.")
            ) from error

    def take(self, *, by: User) -> None:
        """Note that this doctor takes it. The caller holds the transaction that moves the study."""
        self._decide(self.State.TAKEN, by=by)

    def decline(self, *, by: User, reason: str) -> None:
        """Turn the request down; the reason is for the patient. Raises ``HandoverError`` without one, or too late."""
        if not reason.strip():
            raise HandoverError(_("Please say why, so that the patient knows what to do next."))
        self._decide(self.State.DECLINED, by=by, reason=reason.strip()[:500])

    def withdraw(self, *, by: User) -> None:
        """Take the request back. Raises ``HandoverError`` once somebody has decided."""
        self._decide(self.State.WITHDRAWN, by=by)

    def _decide(self, state: str, *, by: User, reason: str = "") -> None:
        waiting = Handover.objects.filter(pk=self.pk, state=self.State.REQUESTED)
        is_ours = waiting.update(state=state, decided_by=by, decided_at=timezone.now(), reason=reason)
        self.refresh_from_db()
        if not is_ours:
            raise HandoverError(self.too_late_sentence(reader=by))

    def too_late_sentence(self, *, reader: User) -> str:
        """Tell somebody who acted too late what has become of the request, and who did it where they may know."""
        at = {"at": f"{timezone.localtime(self.decided_at):%H:%M}" if self.decided_at else ""}
        if self.state == self.State.WITHDRAWN:
            return _("The patient has withdrawn this request at %(at)s, so nothing was done.") % at
        if self.decided_by_id == reader.pk:
            return _("You have decided on this request already, at %(at)s.") % at
        if reader.is_patient:
            return _("A doctor has decided on this request at %(at)s already, so it can no longer be withdrawn.") % at
        sentence = (
            _("%(name)s has taken this study over at %(at)s already. Nothing was done a second time.")
            if self.state == self.State.TAKEN
            else _("%(name)s has declined this request at %(at)s already.")
        )
        return sentence % (at | {"name": str(self.decided_by)})
