"""All addresses of the API, version 1. Each room names its own; what is here belongs to no room."""

from django.urls import include, path, re_path

from portal.api import models, own_record, views, worth_judging

app_name = "api"
urlpatterns = [
    path("", include("accounts.api.urls")),
    path("", include("studies.api.urls")),
    path("", include("reports.api.urls")),
    path("models/", models.Versions.as_view(), name="models"),
    path("models/history/", models.Deployments.as_view(), name="model_history"),
    path("models/rollback/", models.Rollback.as_view(), name="model_rollback"),
    path("models/challenge/end/", models.ChallengeEnd.as_view(), name="model_challenge_end"),
    path("models/<uuid:version_id>/", models.OneVersion.as_view(), name="model_version"),
    path("models/<uuid:version_id>/promote/", models.Promotion.as_view(), name="model_promote"),
    path("models/<uuid:version_id>/challenge/", models.Challenge.as_view(), name="model_challenge"),
    path("my-record/", own_record.OwnRecord.as_view(), name="own_record"),
    path("my-record/history/", own_record.OwnHistory.as_view(), name="own_history"),
    path("my-record/teaching/", own_record.OwnTeaching.as_view(), name="own_teaching"),
    path("my-record/teaching/<uuid:patient_id>/", own_record.OwnTeachingChange.as_view(), name="own_teaching_change"),
    path("my-record/erasures/", own_record.Erasures.as_view(), name="erasures"),
    path("my-record/erasures/<uuid:wish_id>/withdraw/", own_record.ErasureWithdraw.as_view(), name="erasure_withdraw"),
    path("worth-judging/", worth_judging.WorthJudging.as_view(), name="worth_judging"),
    path("health/", views.Health.as_view(), name="health"),
    path("openapi.json", views.Description.as_view(), name="schema"),
    path("docs/", views.documentation, name="docs"),
    # Whatever else is asked below here is told so as a problem, not as a page; an address with a line break in it too.
    re_path(r"^[\s\S]*$", views.Nothing.as_view(), name="nothing"),
]
