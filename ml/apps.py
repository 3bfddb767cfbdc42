"""Registers ``ml`` with Django, so that its tables and management commands are found."""

from django.apps import AppConfig


class MlConfig(AppConfig):
    """The model's room. It loads no model when Django starts."""

    name = "ml"
    verbose_name = "Model"
    default_auto_field = "django.db.models.BigAutoField"
