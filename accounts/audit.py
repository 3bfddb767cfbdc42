"""The record of who did what to whose record: append-only, and chained so that no event can be changed unnoticed.

Every event carries the next number and a keyed hash (HMAC-SHA-256) of itself and of the event before it. Who changes
a row, takes one out or puts one in breaks the chain at that place; only the last events could be cut off without a
trace, which is what checkpoints kept outside the database are for (``manage.py verify_audit``).
"""

import functools
import hashlib
import hmac
import ipaddress
import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from allauth.account.adapter import get_adapter
from django.apps import apps
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import connections, models, router, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.http import HttpRequest

    from accounts.models import User

# What the first event names as the hash of the one before it.
START: Final = "0" * 64
# Any number will do, as long as nothing else in the database takes PostgreSQL's advisory lock of that number.
LOCK_NUMBER: Final = 7_426_101
# So many foreign keys lie at most between a row and the patient's record it belongs to.
LONGEST_PATH: Final = 5


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Whose record a row belongs to; both None for a row that belongs to nobody's."""

    patient_id: uuid.UUID | None
    hospital_id: uuid.UUID | None


class AccessEventQuerySet(models.QuerySet["AccessEvent"]):
    """Events; they are read and added, nothing else."""

    def update(self, **kwargs: Any) -> int:
        """Raise ``PermissionDenied``: what happened stays as it was written."""
        raise PermissionDenied("Access events are never changed.")

    def delete(self) -> tuple[int, dict[str, int]]:
        """Raise ``PermissionDenied``: what happened stays on record."""
        raise PermissionDenied("Access events are never deleted.")

    def bulk_create(self, *args: Any, **kwargs: Any) -> Any:
        """Raise ``PermissionDenied``: events are written one after the other, each with the hash of the last."""
        raise PermissionDenied("Access events are written one by one.")


class AccessEvent(models.Model):
    """One look at, change of or download of something clinical, or one log-in. Rows are added, never changed.

    ``actor`` is None where nobody was logged in (a wrong password, a command of the machine's administrator).
    ``patient_id`` names the record it was about, and ``hospital`` the hospital that keeps it; without a record, the
    hospital of whoever acted at that time.
    """

    class Action(models.TextChoices):
        """What was done."""

        VIEWED = "viewed", _("viewed")
        CREATED = "created", _("created")
        CHANGED = "changed", _("changed")
        DOWNLOADED = "downloaded", _("downloaded")
        SIGNED = "signed", _("signed")
        RELEASED = "released", _("released")
        CLAIMED = "claimed", _("claimed")
        SHARED = "shared", _("shared")
        UNSHARED = "unshared", _("ended the sharing of")
        OPENED_IN_EMERGENCY = "emergency", _("opened without a grant, giving a reason")
        DELETED = "deleted", _("deleted")
        DEPLOYED = "deployed", _("changed the model in use")
        LOGGED_IN = "logged_in", _("logged in")
        LOGGED_OUT = "logged_out", _("logged out")
        LOGIN_FAILED = "login_failed", _("log-in failed")

    sequence = models.PositiveBigIntegerField(_("number"), unique=True, editable=False)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        related_name="access_events",
        verbose_name=_("person"),
    )
    action = models.CharField(_("action"), max_length=20, choices=Action)
    target_type = models.CharField(_("kind"), max_length=40)
    target_id = models.UUIDField(_("identifier"), null=True)
    patient_id = models.UUIDField(_("patient's record"), null=True, editable=False)
    hospital = models.ForeignKey(
        "accounts.Hospital", on_delete=models.PROTECT, null=True, related_name="+", editable=False
    )
    note = models.CharField(_("note"), max_length=500, blank=True)
    at = models.DateTimeField(_("time"), default=timezone.now, editable=False)
    address = models.GenericIPAddressField(_("address"), null=True)
    sha256 = models.CharField(max_length=64, editable=False)

    objects = AccessEventQuerySet.as_manager()

    class Meta:
        verbose_name = _("access event")
        verbose_name_plural = _("access events")
        ordering = ["-at"]
        indexes = [
            models.Index(fields=["target_type", "target_id", "-at"], name="access_event_by_target"),
            models.Index(fields=["patient_id", "-at"], name="access_event_by_patient"),
            models.Index(fields=["hospital", "-at"], name="access_event_by_hospital"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(actor__isnull=False)
                | models.Q(action__in=("viewed", "downloaded", "deleted", "login_failed", "deployed")),
                name="whoever_changes_something_is_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.target_type} {self.target_id}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Append a new event to the chain. Raises ``PermissionDenied`` for one that is already stored."""
        if not self._state.adding:
            raise PermissionDenied("Access events are never changed.")
        if self.hospital_id is None and self.actor is not None:
            self.hospital_id = self.actor.hospital_id
        kwargs |= {"force_insert": True}
        using = kwargs.setdefault("using", router.db_for_write(AccessEvent))
        with transaction.atomic(using=using):
            _wait_for_turn(using=using)
            newest = AccessEvent.objects.using(using).order_by("-sequence")
            last, previous = newest.values_list("sequence", "sha256").first() or (0, START)
            self.sequence = last + 1
            self.sha256 = event_hash(self, previous=previous)
            super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Raise ``PermissionDenied``: what happened stays on record."""
        raise PermissionDenied("Access events are never deleted.")

    @classmethod
    def record(cls, request: "HttpRequest", *, action: Action, target: models.Model, note: str = "") -> "AccessEvent":
        """Note that whoever asks did ``action`` to ``target`` (a stored row with a UUID); ``note`` holds no name.

        What a script did with a token says so, unless there is something else to be noted.
        """
        user = getattr(request, "user", None)
        token_id = getattr(getattr(request, "auth", None), "pk", None)
        return cls.note_of(
            action=action,
            target=target,
            actor=user if user is not None and user.is_authenticated else None,
            address=client_address(request),
            note=note or (f"API token {token_id}" if token_id else ""),
        )

    @classmethod
    def note_of(
        cls,
        *,
        action: Action,
        target: models.Model | None,
        actor: "User | None",
        address: str | None = None,
        note: str = "",
    ) -> "AccessEvent":
        """Append an event that no request stands behind, or whose person is not the request's."""
        subject = subject_of(target) if target is not None else Subject(patient_id=None, hospital_id=None)
        return cls.objects.create(
            actor=actor,
            action=action,
            target_type=target._meta.label_lower if target is not None else "",
            target_id=target.pk if target is not None else None,
            patient_id=subject.patient_id,
            hospital_id=subject.hospital_id,
            note=note[:500],
            address=address,
        )


def event_hash(event: Any, *, previous: str) -> str:
    """Return the keyed hash of an event and the one before it, whose hash is ``previous``: 64 hexadecimal digits.

    The key is ``settings.AUDIT_KEY``: who can write to the database only cannot make the chain anew.
    """
    facts = {
        "previous": previous,
        "sequence": event.sequence,
        "actor": _same_form(event.actor_id),
        "action": str(event.action),
        "target_type": event.target_type,
        "target_id": _same_form(event.target_id),
        "patient_id": _same_form(event.patient_id),
        "hospital": _same_form(event.hospital_id),
        "note": event.note,
        "at": event.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "address": str(ipaddress.ip_address(event.address)) if event.address else "",
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hmac.new(settings.AUDIT_KEY.encode(), text.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The end of the chain at some time, to be kept where the database's writers cannot reach."""

    sequence: int
    sha256: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class ChainReport:
    """What reading the whole chain found: how many events, its end, and full sentences, none if all is well."""

    count: int
    head: Checkpoint | None
    problems: tuple[str, ...]


def verify_chain(*, checkpoints: Iterable[Checkpoint] = ()) -> ChainReport:
    """Read every event in order and compare it with its hash and with the checkpoints; stop at the first broken link.

    Memory does not grow with the number of events.
    """
    wanted: dict[int, list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        wanted.setdefault(checkpoint.sequence, []).append(checkpoint)
    count, previous = 0, START
    for event in AccessEvent.objects.order_by("sequence").iterator(chunk_size=2000):
        if event.sequence != count + 1:
            gap = f"{count + 1} is" if event.sequence == count + 2 else f"{count + 1} to {event.sequence - 1} are"
            return _broken(count, f"Event {gap} missing: the next one that is stored is event {event.sequence}.")
        if not hmac.compare_digest(event.sha256, event_hash(event, previous=previous)):
            return _broken(count, f"Event {event.sequence} is not what was written, or follows another event.")
        if any(checkpoint.sha256 != event.sha256 for checkpoint in wanted.pop(event.sequence, [])):
            return _broken(count, f"Event {event.sequence} is not the one that a checkpoint names: written anew.")
        count, previous = event.sequence, event.sha256
    if wanted:
        latest = max(wanted)
        return _broken(count, f"The log ends at event {count}, but a checkpoint names event {latest}: its end is gone.")
    head = Checkpoint(sequence=count, sha256=previous, at=timezone.now()) if count else None
    return ChainReport(count=count, head=head, problems=())


def client_address(request: "HttpRequest") -> str | None:
    """Return from where a request came, behind as many proxies as ``IRA_TRUSTED_PROXIES`` says; None if unknown."""
    try:
        return get_adapter().get_client_ip(request) or None
    except PermissionDenied:
        return None


def subject_of(target: models.Model) -> Subject:
    """Return whose record a stored row belongs to, by the row's own foreign keys (``settings.AUDITED_RECORD``)."""
    record = apps.get_model(settings.AUDITED_RECORD)
    if isinstance(target, record):
        return Subject(patient_id=target.pk, hospital_id=target.hospital_id)
    model = target._meta.model  # not type(): the user of a request is a lazy object
    row = model._base_manager.filter(pk=target.pk)
    for path in paths_to_record(model):
        found = row.values_list(path, f"{path}__hospital").first()
        if found is not None and found[0] is not None:
            return Subject(patient_id=found[0], hospital_id=found[1])
    hospital_id = getattr(target, "hospital_id", None)
    return Subject(patient_id=None, hospital_id=hospital_id)


@functools.cache
def paths_to_record(model: type[models.Model]) -> tuple[str, ...]:
    """Return the ways from a model to the patient's record as lookups (``analysis__image__study__patient``).

    The shortest comes first. Ways over people and hospitals are none: they lead to somebody's other records.
    """
    record = apps.get_model(settings.AUDITED_RECORD)
    found: list[str] = []
    open_ends: list[tuple[str, Any]] = [("", model)]
    for _step in range(LONGEST_PATH):
        further: list[tuple[str, Any]] = []
        for prefix, here in open_ends:
            for field in here._meta.concrete_fields:
                if not field.is_relation or field.related_model is None:
                    continue
                there: Any = field.related_model
                if there is record:
                    found.append(prefix + field.name)
                elif there is not here and there._meta.app_label not in ("accounts", "auth", "contenttypes"):
                    further.append((f"{prefix}{field.name}__", there))
        open_ends = further
    return tuple(found)


def _wait_for_turn(*, using: str) -> None:
    """Let one transaction at a time extend the chain.

    PostgreSQL: a lock until the end of the transaction, which also makes the last event of the one before visible.
    SQLite: an immediate transaction is alone anyway (``SQLITE_OPTIONS``). Should both fail, ``sequence`` is unique.
    """
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK_NUMBER])


def _same_form(value: Any) -> str:
    # Whoever makes an event may name a row by a UUID or by its text; the database answers with a UUID.
    return str(uuid.UUID(str(value))) if value is not None else ""


def _broken(count: int, problem: str) -> ChainReport:
    return ChainReport(count=count, head=None, problems=(problem,))
