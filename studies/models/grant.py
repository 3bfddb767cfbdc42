"""What one doctor may do with one record: rows of permission, keyed by a real foreign key, from an allow-list."""

from typing import Any

from django.contrib.auth.models import Permission
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from guardian.models import UserObjectPermissionBase


class AllowedPermissionsMixin(models.Model):
    """A grant row that takes only the permissions on its allow-list, each at most once a person and object."""

    allowed_permissions: frozenset[str] = frozenset()
    # A foreign key of guardian's base class, which every grant has as its second base.
    permission: Permission

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store the grant. Raises ``ValidationError`` for a permission outside the allow-list."""
        if self.permission.codename not in self.allowed_permissions:
            raise ValidationError(
                f"{self.permission.codename} cannot be granted on a single object. Allowed: "
                f"{', '.join(sorted(self.allowed_permissions))}."
            )
        super().save(*args, **kwargs)


class LimitedGrantMixin(AllowedPermissionsMixin):
    """A grant that may end by itself: one of an emergency has ``expires_at``, an ordinary one has none."""

    expires_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        abstract = True

    @classmethod
    def is_held_by(cls, user: Any, *, codename: str) -> models.Exists:
        """Return whether this person holds the permission, not ended, on the row of the outer query.

        Asked of each row, not joined: with a list of identifiers SQLite takes the list first now and then, and sorts
        100,000 studies where an index has them in order. The permission is looked up once and compared by its key:
        joined by its name, PostgreSQL would take one grant in seventy for a match, and sort as well.
        """
        permissions = Permission.objects.filter(codename=codename, content_type__app_label=cls._meta.app_label)
        permission = permissions.order_by().values("id")[:1]
        held = cls.counting().filter(user=user, permission=permission, content_object=models.OuterRef("pk"))
        return models.Exists(held)

    @classmethod
    def counting(cls) -> models.QuerySet[Any]:
        """Return the grants that have no end, and those whose end has not come."""
        grants: models.QuerySet[Any] = cls._default_manager.all()
        return grants.filter(models.Q(expires_at__isnull=True) | models.Q(expires_at__gt=timezone.now()))


class PatientUserObjectPermission(LimitedGrantMixin, UserObjectPermissionBase):
    """A doctor's grant on one patient record."""

    allowed_permissions = frozenset({"view_patient", "change_patient"})
    content_object = models.ForeignKey("studies.Patient", on_delete=models.CASCADE)

    class Meta(UserObjectPermissionBase.Meta):
        indexes = [
            models.Index(
                fields=["user", "content_object"],
                condition=models.Q(expires_at__isnull=False),
                name="patient_grants_with_an_end",
            )
        ]

    def __str__(self) -> str:
        return f"grant {self.pk}"


class StudyUserObjectPermission(LimitedGrantMixin, UserObjectPermissionBase):
    """A doctor's grant on one study."""

    allowed_permissions = frozenset({"view_study", "change_study"})
    content_object = models.ForeignKey("studies.Study", on_delete=models.CASCADE)

    class Meta(UserObjectPermissionBase.Meta):
        indexes = [
            models.Index(
                fields=["user", "content_object"],
                condition=models.Q(expires_at__isnull=False),
                name="study_grants_with_an_end",
            )
        ]

    def __str__(self) -> str:
        return f"grant {self.pk}"
