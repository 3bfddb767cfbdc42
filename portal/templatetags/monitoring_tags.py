"""Filters of the pages on which the model is watched."""

from django import template

from studies.monitoring import signal_label as label_of

register = template.Library()


@register.filter
def signal_label(name: str) -> str:
    """Return a signal as people read it."""
    return label_of(name)
