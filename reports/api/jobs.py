"""Work on many studies at once: start, watch, fetch the archive. There is no job that signs."""

import uuid

from django.http import Http404, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.problems import conflict
from accounts.api.views import DOCTOR_OR_PATIENT, PATIENT, ApiView, json_of
from reports.api.serializers import JobBody, JobSerializer, JobSummarySerializer
from reports.models import BulkJob
from reports.views.common import archive_response, archived_reports, finished_job, note_archive, start_my_data
from studies.api.common import AFTER, binary, link, listed, page_response
from studies.models import Study

TAGS = ["jobs"]


class Jobs(ApiView):
    """One's own jobs."""

    role = DOCTOR_OR_PATIENT

    @extend_schema(
        operation_id="jobs_list",
        tags=TAGS,
        summary="Your jobs, newest first",
        parameters=[AFTER],
        responses=listed("JobPage", JobSummarySerializer),
    )
    def get(self, request: Request) -> Response:
        """List the jobs of whoever asks."""
        jobs = BulkJob.objects.visible_to(self.user)
        return page_response(request, jobs, order=["-queued_at", "-id"], serializer=JobSummarySerializer)

    @extend_schema(
        operation_id="jobs_start",
        tags=TAGS,
        summary="Have drafts written, or PDFs collected, for many studies",
        description=(
            "For doctors. The same request while its job runs gets that job. Studies that you cannot see are left out; "
            "if none is left, the answer is 404."
        ),
        request=JobBody,
        responses={202: JobSerializer},
    )
    def post(self, request: Request) -> Response:
        """Start a job on those of the named studies that the doctor may see."""
        if not self.user.is_approved_doctor:
            raise Http404
        values = json_of(request, JobBody)
        wanted = list(dict.fromkeys(values["studies"]))
        visible = Study.objects.visible_to(self.user).in_bulk(wanted)
        if not visible:
            raise Http404
        studies = [visible[key] for key in wanted if key in visible]
        job = BulkJob.objects.start(kind=values["kind"], studies=studies, by=self.user)
        return _started(request, job)


class MyData(ApiView):
    """All data of a patient."""

    role = PATIENT

    @extend_schema(
        operation_id="my_data_start",
        tags=TAGS,
        summary="Have the archive of all your data made",
        request=None,
        responses={202: JobSerializer},
    )
    def post(self, request: Request) -> Response:
        """Start the job that collects everything; an older archive is deleted for the new one."""
        return _started(request, start_my_data(self.user))


class OneJob(ApiView):
    """One job."""

    role = DOCTOR_OR_PATIENT

    @extend_schema(operation_id="jobs_read", tags=TAGS, summary="How far a job is", responses=JobSerializer)
    def get(self, request: Request, job_id: uuid.UUID) -> Response:
        """Show a job: one line a study, done or skipped because of a reason."""
        job = get_object_or_404(BulkJob.objects.visible_to(self.user), id=job_id)
        return Response(JobSerializer(job, context={"request": request}).data)


class JobArchive(ApiView):
    """The archive of a job."""

    role = DOCTOR_OR_PATIENT

    @extend_schema(
        operation_id="jobs_archive",
        tags=TAGS,
        summary="The archive of a job",
        description="Everything in it is recorded as downloaded; 409 where you may not read all of it any more.",
        responses=binary("application/zip", "ZIP."),
    )
    def get(self, request: Request, job_id: uuid.UUID) -> HttpResponseBase:
        """Send the archive of a job, if whoever asks may still read everything in it."""
        job = finished_job(self.user, job_id)
        reports = archived_reports(job, user=self.user)
        if reports is None:
            raise conflict(_("You can no longer see every report in this archive. Please start the job again."))
        response = archive_response(job, name="my-data" if job.kind == BulkJob.Kind.MY_DATA else "reports")
        note_archive(self.page_request, job, reports=reports)
        response["Content-Type"] = "application/zip"
        return response


def _started(request: Request, job: BulkJob) -> Response:
    headers = {"Location": link(request, "job", job_id=job.pk)}
    return Response(JobSerializer(job, context={"request": request}).data, status=202, headers=headers)
