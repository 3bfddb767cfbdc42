"""Opening a record in an emergency."""

from allauth.core import ratelimit
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from accounts.limits import too_many_tries, wait_for
from studies.access import current_user, doctors_only
from studies.emergency import NO_SUCH_RECORD, open_in_emergency
from studies.forms import EmergencyForm


@require_http_methods(["GET", "HEAD", "POST"])
@doctors_only
def emergency_access(request: HttpRequest) -> HttpResponseBase:
    """Ask which record and why; open it for a while. A record of another hospital is none: one sentence for both."""
    form = EmergencyForm(request.POST if request.method == "POST" else None)
    status = 400 if form.is_bound else 200
    if form.is_valid():
        if not ratelimit.consume(request, action="emergency"):
            form.add_error(None, too_many_tries(wait_for(request, action="emergency", keys=[])))
            status = 429
        elif opening := open_in_emergency(request, doctor=current_user(request), **form.cleaned_data):
            if opening.until is None:
                messages.info(request, _("You may read this record anyway; nobody was told of an emergency."))
            # Otherwise the banner on the page says all that there is to say.
            return redirect("studies:patient_detail", patient_id=opening.patient.id)
        else:
            form.add_error(None, NO_SUCH_RECORD)
    context = {"form": form, "minutes": settings.EMERGENCY_ACCESS_MINUTES}
    return render(request, "studies/emergency_access.html", context, status=status)
