"""Registers ``ml`` with Django, so that its management commands are found; it has no tables."""

from django.apps import AppConfig


class MlConfig(AppConfig):
    """The model's room. It never touches the database and loads no model when Django starts."""

    name = "ml"
    verbose_name = "Model"
    default_auto_field = "django.db.models.BigAutoField"
