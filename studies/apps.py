"""App configuration."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class StudiesConfig(AppConfig):
    """Names the app for Django and for the admin."""

    name = "studies"
    verbose_name = _("Studies")
