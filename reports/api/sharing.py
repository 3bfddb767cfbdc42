"""A patient's links to a report: make one, list them with what became of each, end one."""

import uuid

from allauth.core import ratelimit
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.problems import ProblemError, check
from accounts.api.serializers import Body
from accounts.api.views import PATIENT, ApiView, as_form, json_of
from accounts.limits import too_many_tries, wait_for
from accounts.models import AccessEvent
from reports.errors import MailError
from reports.forms import ShareForm
from reports.models import ShareLink
from reports.sharing import share_report
from reports.views.common import visible_report
from studies.api.common import AFTER, listed, page_response

TAGS = ["sharing"]


class ShareLinkSerializer(serializers.Serializer):
    """A link that was mailed to one reader. The address that opens it is in that mail only."""

    id = serializers.UUIDField()
    report_id = serializers.UUIDField()
    recipient_email = serializers.EmailField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    revoked_at = serializers.DateTimeField(allow_null=True)
    is_open = serializers.BooleanField()
    opened_count = serializers.IntegerField()
    last_opened_at = serializers.DateTimeField(allow_null=True)


class ShareLinkBody(Body):
    """Who is to read the report, and for how long."""

    email = serializers.EmailField(help_text="The link goes there, and a code each time that somebody opens it.")
    days = serializers.IntegerField(min_value=1, help_text="One of the times that the page offers, such as 7.")


class ReportShareLinks(ApiView):
    """The links to one report."""

    role = PATIENT

    @extend_schema(
        operation_id="share_links_make",
        tags=TAGS,
        summary="Mail somebody a link to a report",
        request=ShareLinkBody,
        responses={201: ShareLinkSerializer},
    )
    def post(self, request: Request, report_id: uuid.UUID) -> Response:
        """Make a link to one released report and mail it to its reader."""
        report = visible_report(self.user, report_id)
        form = ShareForm(as_form(json_of(request, ShareLinkBody)))
        check(form)
        page_request = self.page_request
        if not ratelimit.consume(page_request, action="share_link"):
            wait = wait_for(page_request, action="share_link", keys=[])
            raise ProblemError(429, str(too_many_tries(wait)), headers={"Retry-After": str(max(1, wait.seconds))})
        try:
            made = share_report(page_request, report, by=self.user, **form.cleaned_data)
        except MailError as error:
            raise ProblemError(503, str(error)) from error
        AccessEvent.record(request, action=AccessEvent.Action.SHARED, target=made)
        return Response(ShareLinkSerializer(made).data, status=201)


class ShareLinks(ApiView):
    """All links of a patient."""

    role = PATIENT

    @extend_schema(
        operation_id="share_links_list",
        tags=TAGS,
        summary="Your links, newest first",
        parameters=[AFTER],
        responses=listed("ShareLinkPage", ShareLinkSerializer),
    )
    def get(self, request: Request) -> Response:
        """List the patient's links with what became of each."""
        links = ShareLink.objects.visible_to(self.user)
        return page_response(request, links, order=["-created_at", "-id"], serializer=ShareLinkSerializer)


class ShareLinkRevoke(ApiView):
    """The end of a link."""

    role = PATIENT

    @extend_schema(
        operation_id="share_links_revoke",
        tags=TAGS,
        summary="End a link at once",
        request=None,
        responses=ShareLinkSerializer,
    )
    def post(self, request: Request, link_id: uuid.UUID) -> Response:
        """End a link; ending one twice keeps the first time."""
        found = get_object_or_404(ShareLink.objects.visible_to(self.user), id=link_id)
        if found.is_open:
            found.revoke()
            AccessEvent.record(request, action=AccessEvent.Action.UNSHARED, target=found)
        return Response(ShareLinkSerializer(found).data)
