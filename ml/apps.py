"""Registers ``ml`` with Django, so that its tables and management commands are found."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class MlConfig(AppConfig):
    """The model's room. It loads no model when Django starts."""

    name = "ml"
    verbose_name = _("Model")
    default_auto_field = "django.db.models.BigAutoField"
