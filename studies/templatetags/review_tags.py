"""What the forms of doctors' judgements need."""

from django import template

from studies import keeping

register = template.Library()


@register.simple_tag(takes_context=True)
def author_token(context: template.Context, path: str) -> str:
    """Return what a form that is sent to ``path`` carries, so that its entries survive the end of the session."""
    request = context.get("request")
    return keeping.author_token(path, author=request.user) if request is not None else ""
