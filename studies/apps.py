"""App configuration."""

from django.apps import AppConfig


class StudiesConfig(AppConfig):
    """Names the app for Django and for the admin."""

    name = "studies"
    verbose_name = "Studies"
