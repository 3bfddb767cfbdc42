"""A patient claims the record that a hospital keeps about them."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from accounts.models import AccessEvent
from studies import claims
from studies.access import current_user, patients_only
from studies.errors import ClaimLockedError
from studies.forms import ClaimForm


@require_http_methods(["GET", "HEAD", "POST"])
@patients_only
def claim_record(request: HttpRequest) -> HttpResponseBase:
    """Show the form; tie the record to the person if everything matches. Wrong guesses all get the same sentence."""
    user = current_user(request)
    form = ClaimForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            patient = claims.claim_record(user, **form.cleaned_data)
        except ClaimLockedError as error:
            form.add_error(None, str(error))
        else:
            if patient is not None:
                AccessEvent.record(request, action=AccessEvent.Action.CLAIMED, target=patient)
                messages.success(
                    request,
                    _("This is your record at %(hospital)s. Reports that the hospital releases now reach you here.")
                    % {"hospital": patient.hospital.name},
                )
                return redirect("home")
            form.add_error(
                None,
                _(
                    "No record with this number and date of birth is kept under your e-mail address. Please check "
                    "both; if they are right, ask the hospital whether it has your e-mail address."
                ),
            )
    records = user.patient_records.select_related("hospital")
    return render(
        request,
        "studies/claim_record.html",
        {"form": form, "records": records},
        status=400 if form.is_bound and not form.is_valid() else 200,
    )
