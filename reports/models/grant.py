"""A patient's grant on one released report."""

from django.db import models
from guardian.models import UserObjectPermissionBase

from studies.models import AllowedPermissionsMixin


class ReportUserObjectPermission(AllowedPermissionsMixin, UserObjectPermissionBase):
    """A patient's grant on one released report."""

    allowed_permissions = frozenset({"view_report"})
    content_object = models.ForeignKey("reports.Report", on_delete=models.CASCADE)

    class Meta(UserObjectPermissionBase.Meta):
        pass
