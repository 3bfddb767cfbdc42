"""What a line of the log says besides its sentence: which request, whose, about which study, in which task.

``IRA_LOG_FORMAT=json`` writes one JSON object a line, for programs that collect logs. The identifiers are UUIDs;
names, file names, searches and the secrets of links are in no line (``tests/portal/test_logging.py``).

A request's identifier comes from the proxy (``X-Request-ID``, if it is a sane one) or is made here, goes back in the
answer's header of the same name, and travels with each message to the queue, so that what a worker does for a request
can be found by it.
"""

import contextvars
import datetime
import json
import logging
import re
import uuid
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from django.core.signals import request_finished
from django.http import HttpRequest, HttpResponseBase
from django.utils.functional import SimpleLazyObject

from portal.secrets_in_addresses import without_secrets

HEADER: Final = "X-Request-ID"
SANE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")
# Under this name the web server finds in a request's environment what the portal knows about it.
NOTED: Final = "portal.log"  # portal/weblog.py, which loads no Django, has the name too
# What code gives a line as fields of its own (``extra={"study_id": …}``) is an identifier or one of these.
FIELD: Final = re.compile(r"\w+_id|method|path|status|duration_ms")
UUID: Final = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")

# Replaced as a whole, never changed.
_context: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("portal_log", default=MappingProxyType({}))


def request_id() -> str | None:
    """Return the identifier of the request that is being answered, or on whose behalf a worker works."""
    return _context.get().get("request_id")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and whichever identifiers are known."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.datetime.fromtimestamp(record.created, tz=datetime.UTC)
        line: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_context.get(),
        }
        line |= {name: value for name, value in record.__dict__.items() if FIELD.fullmatch(name)}
        if record.exc_info:
            text = self.formatException(record.exc_info)
            line["exception"] = "\n".join(without_secrets(part) for part in text.splitlines())
        return json.dumps(line, default=str, ensure_ascii=False)


class RequestIdMiddleware:
    """Gives each request its identifier, and tells the web server whose it was and about what."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request under its identifier."""
        sent = request.headers.get(HEADER, "")
        identifier = sent if SANE.fullmatch(sent) else str(uuid.uuid4())
        _context.set({"request_id": identifier})
        response = self.get_response(request)
        response.headers[HEADER] = identifier
        request.META[NOTED] = {"request_id": identifier, **_whose(request), **_about(request)}
        return response


def _whose(request: HttpRequest) -> dict[str, str]:
    """Return the person's identifier if the request came to know it; asking now would cost a query."""
    user = request.__dict__.get("user")
    if isinstance(user, SimpleLazyObject):
        user = getattr(request, "_cached_user", None)
    return {"user_id": str(user.pk)} if user is not None and user.is_authenticated else {}


def _about(request: HttpRequest) -> dict[str, str]:
    """Return the identifiers in the address by the names of their parts, such as ``study_id``."""
    match = request.resolver_match
    return {name: str(value) for name, value in match.kwargs.items() if isinstance(value, uuid.UUID)} if match else {}


def send_along(*, task: dict[str, Any], **kwargs: Any) -> None:
    """Put the request's identifier into a message to the queue (django-q2's ``pre_enqueue``)."""
    if identifier := request_id():
        task["request_id"] = identifier


def begin_task(*, task: dict[str, Any], **kwargs: Any) -> None:
    """Note in the worker what it works on (``pre_execute``): task, request, and the first identifier it was given."""
    known = {"task": str(task.get("func", "")), "task_id": str(task.get("id", ""))}
    if identifier := task.get("request_id"):
        known["request_id"] = str(identifier)
    for value in task.get("args", ()):
        if isinstance(value, str) and UUID.fullmatch(value):
            known["object_id"] = value
            break
    _context.set(known)


def forget(**kwargs: Any) -> None:
    """Forget it again (``post_execute_in_worker``, ``request_finished``: Django logs refusals after all middleware)."""
    _context.set({})


def connect() -> None:
    """Follow the queue's messages; called once when Django starts (the log is configured before there are models)."""
    from django_q.signals import post_execute_in_worker, pre_enqueue, pre_execute

    pre_enqueue.connect(send_along, dispatch_uid="portal.logs")
    pre_execute.connect(begin_task, dispatch_uid="portal.logs")
    post_execute_in_worker.connect(forget, dispatch_uid="portal.logs")
    request_finished.connect(forget, dispatch_uid="portal.logs")
