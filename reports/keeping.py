"""A text that was sent after the session had ended, kept until its author has logged in again.

With JavaScript the browser keeps the text itself; this is for a form that was sent all the same. The text waits in the
new, still anonymous session, which the log-in takes over. Only a form that the portal has made for a doctor is kept,
and only that doctor gets it back.
"""

from dataclasses import dataclass
from typing import Any

from django.core import signing
from django.http import HttpRequest

from reports.forms import DraftForm
from reports.models import Report
from reports.text import DraftText

SESSION_KEY = "kept_drafts"
SALT = "reports.keeping"
# A form may have stood open over a week-end.
MAX_AGE_S = 7 * 24 * 60 * 60
MAX_KEPT = 3


@dataclass(frozen=True, kw_only=True)
class KeptText:
    """A text that is not stored, and the revision that it was written on."""

    text: DraftText
    revision: int


def author_token(report: Report, *, author: Any) -> str:
    """Return what a form carries so that its text can be kept for this doctor and this report."""
    return signing.dumps({"author": str(author.pk), "report": str(report.pk)}, salt=SALT)


def keep_text(request: HttpRequest, report_id: Any) -> bool:
    """Keep the text of a form that came without a session; return whether it was one of ours and is kept."""
    try:
        token = signing.loads(request.POST.get("author", ""), salt=SALT, max_age=MAX_AGE_S)
    except signing.BadSignature:
        return False
    form = DraftForm(request.POST)
    if token["report"] != str(report_id) or not form.is_valid():
        return False
    kept = dict(list(request.session.get(SESSION_KEY, {}).items())[-(MAX_KEPT - 1) :])
    kept[token["report"]] = {
        "author": token["author"],
        "revision": form.cleaned_data["revision"],
        "findings_text": form.text.findings_text,
        "impression": form.text.impression,
    }
    request.session[SESSION_KEY] = kept
    return True


def kept_text(request: HttpRequest, report: Report) -> KeptText | None:
    """Return the text that was kept for whoever is logged in and this report, if there is one."""
    kept = request.session.get(SESSION_KEY, {}).get(str(report.pk))
    if kept is None or kept["author"] != str(request.user.pk):
        return None
    text = DraftText(findings_text=kept["findings_text"], impression=kept["impression"])
    return KeptText(text=text, revision=kept["revision"])


def forget_text(request: HttpRequest, report: Report) -> None:
    """Drop the kept text of a report: it is stored now, or its author has decided against it."""
    kept = request.session.get(SESSION_KEY, {})
    if kept.pop(str(report.pk), None) is not None:
        request.session[SESSION_KEY] = kept
