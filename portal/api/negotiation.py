"""Every address answers in one kind: JSON, or the file that it is; what else a client would like changes nothing."""

from collections.abc import Iterable
from typing import Any

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request


class OneRenderer(BaseContentNegotiation):
    """Takes the first renderer, whatever ``Accept`` says: a browser that asks for HTML gets the JSON there is."""

    def select_parser(self, request: Request, parsers: Iterable[Any]) -> Any:
        """Return the parser for the body's kind, None where there is none."""
        for parser in parsers:
            if (request.content_type or "").partition(";")[0].strip() == parser.media_type:
                return parser
        return None

    def select_renderer(self, request: Request, renderers: Iterable[Any], format_suffix: str | None = None) -> Any:
        """Return the only renderer."""
        renderer = next(iter(renderers))
        return renderer, renderer.media_type
