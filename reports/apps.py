"""App configuration."""

from django.apps import AppConfig


class ReportsConfig(AppConfig):
    """Names the app for Django and for the admin."""

    name = "reports"
    verbose_name = "Reports"
