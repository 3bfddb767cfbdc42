"""What a doctor entered and sent after the session had ended, kept until they have logged in again.

It waits in the new, still anonymous session, which the log-in takes over. Only a form that the portal has made for a
doctor is kept, and only that doctor gets it back, on the same page.
"""

import base64
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.core import signing
from django.http import HttpRequest, HttpResponseBase

from accounts.models import User
from studies import uploads

Arguments = ParamSpec("Arguments")
View = Callable[Concatenate[HttpRequest, Arguments], HttpResponseBase]

SESSION_KEY = "kept_entries"
SALT = "studies.keeping"
# A form may have stood open over a week-end.
MAX_AGE_S = 7 * 24 * 60 * 60
MAX_KEPT = 3
MAX_TEXT = 4000
MAX_OUTLINE_BYTES = 100_000
NAMES = ("verdict", "diagnosis", "suspicion", "malignancy", "diameter_mm", "diameter_px", "note", "seen", "token")


def author_token(path: str, *, author: User) -> str:
    """Return what a form carries so that its entries can be kept for this doctor and this page."""
    return signing.dumps({"author": str(author.pk), "path": path}, salt=SALT)


def keeps_entries(view: View[Arguments]) -> View[Arguments]:
    """Lead anonymous people to the log-in, and keep what they sent if it is one of our forms."""

    @login_not_required
    @wraps(view)
    def kept(request: HttpRequest, *args: Arguments.args, **kwargs: Arguments.kwargs) -> HttpResponseBase:
        if request.user.is_authenticated:
            return view(request, *args, **kwargs)
        if request.method != "POST":
            return redirect_to_login(request.get_full_path())
        _keep(request)
        # Whoever came from the reading page goes back there in the end.
        return redirect_to_login(f"{request.path}?back=read" if request.POST.get("back") == "read" else request.path)

    return kept


def kept_entries(request: HttpRequest) -> dict[str, Any]:
    """Return the entries that were kept for whoever is logged in and this page; empty if there are none."""
    entry = request.session.get(SESSION_KEY, {}).get(request.path)
    return dict(entry["fields"]) if entry is not None and entry["author"] == str(request.user.pk) else {}


def forget_entries(request: HttpRequest) -> None:
    """Drop the kept entries of this page: they are stored now."""
    kept = request.session.get(SESSION_KEY, {})
    if kept.pop(request.path, None) is not None:
        request.session[SESSION_KEY] = kept


def _keep(request: HttpRequest) -> None:
    if uploads.refusal(request):
        return
    try:
        token = signing.loads(request.POST.get("author", ""), salt=SALT, max_age=MAX_AGE_S)
    except signing.BadSignature:
        return
    if token["path"] != request.path:
        return
    fields = {name: request.POST[name][:MAX_TEXT] for name in NAMES if name in request.POST}
    file = request.FILES.get("outline")
    if file is not None and file.size and file.size <= MAX_OUTLINE_BYTES:
        fields["outline_kept"] = base64.b64encode(file.read()).decode()
    elif len(outline := request.POST.get("outline_kept", "")) <= 2 * MAX_OUTLINE_BYTES and outline:
        fields["outline_kept"] = outline
    kept = dict(list(request.session.get(SESSION_KEY, {}).items())[-(MAX_KEPT - 1) :])
    kept[request.path] = {"author": token["author"], "fields": fields}
    request.session[SESSION_KEY] = kept
