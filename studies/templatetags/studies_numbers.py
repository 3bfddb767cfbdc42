"""Numbers as people and as attributes of HTML read them."""

from django import template

register = template.Library()


@register.filter
def percent(share: object) -> str:
    """Return a share in [0, 1] as whole percent, never rounded to certainty: ``<1%`` and ``>99%`` at the ends.

    What is no number (an answer of a model without that threshold) becomes a dash.
    """
    if not isinstance(share, int | float):
        return "–"
    if 0 < share < 0.005:
        return "<1%"
    if 0.995 < share < 1:
        return ">99%"
    return f"{share:.0%}"


@register.filter
def plain_number(value: float) -> str:
    """Return a number with a decimal point whatever the language, for attributes such as ``value``."""
    return f"{value:.4f}"
