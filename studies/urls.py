"""Addresses of this app."""

from django.urls import path

from studies.views import claims, files, imports, patients, reading, reviews, studies, worklist

app_name = "studies"
urlpatterns = [
    path("", worklist.study_list, name="study_list"),
    path("rows/", worklist.study_rows, name="study_rows"),
    path("mark/", worklist.study_mark, name="study_mark"),
    path("retry/", worklist.study_retry, name="study_retry"),
    path("new/", studies.study_create, name="study_create"),
    path("new/patients/", studies.patient_find, name="patient_find"),
    path("<uuid:study_id>/", studies.study_detail, name="study_detail"),
    path("<uuid:study_id>/status/", studies.study_status, name="study_status"),
    path("<uuid:study_id>/images/", studies.image_add, name="image_add"),
    path("<uuid:study_id>/share/", studies.study_share, name="study_share"),
    path("<uuid:study_id>/read/", reading.study_read, name="study_read"),
    path("<uuid:study_id>/read/panel/", reading.study_read_panel, name="study_read_panel"),
    path("<uuid:study_id>/reading.json", reviews.reading, name="reading"),
    path("<uuid:study_id>/first-impression/", reviews.first_impression, name="first_impression"),
    path("findings/<uuid:lesion_id>/reviews/", reviews.finding_reviews, name="finding_reviews"),
    path("findings/<uuid:finding_id>/outline.png", reviews.finding_outline, name="finding_outline"),
    path("images/<uuid:image_id>/reviews/", reviews.image_reviews, name="image_reviews"),
    path("images/<uuid:image_id>/judged.png", reviews.image_judged, name="image_judged"),
    path("reviews/<uuid:review_id>/outline.png", reviews.review_outline, name="review_outline"),
    path("images/<uuid:image_id>/slice.png", files.image_file, name="image_file"),
    path("analyses/<uuid:analysis_id>/overlay.png", files.analysis_overlay, name="analysis_overlay"),
    path("analyses/<uuid:analysis_id>/mask.png", files.analysis_mask, name="analysis_mask"),
    path("analyses/<uuid:analysis_id>/activation.png", files.analysis_activation, name="analysis_activation"),
    path("analyses/<uuid:analysis_id>/run-again/", studies.analysis_rerun, name="analysis_rerun"),
    path("analyses/<uuid:analysis_id>/cancel/", studies.analysis_cancel, name="analysis_cancel"),
    path("patients/", patients.patient_list, name="patient_list"),
    path("patients/new/", patients.patient_create, name="patient_create"),
    path("patients/<uuid:patient_id>/", patients.patient_detail, name="patient_detail"),
    path("patients/<uuid:patient_id>/edit/", patients.patient_edit, name="patient_edit"),
    path("patients/<uuid:patient_id>/invite/", claims.patient_invite, name="patient_invite"),
    path("imports/", imports.import_list, name="import_list"),
    path("imports/new/", imports.import_create, name="import_create"),
    path("imports/<uuid:import_id>/", imports.import_detail, name="import_detail"),
    path("imports/<uuid:import_id>/status/", imports.import_status, name="import_status"),
    path("imports/<uuid:import_id>/files/", imports.import_files, name="import_files"),
    path("imports/<uuid:import_id>/start/", imports.import_start, name="import_start"),
    path("imports/<uuid:import_id>/discard/", imports.import_discard, name="import_discard"),
    path("imports/examinations/<uuid:group_id>/", imports.import_answer, name="import_answer"),
    path("claim/", claims.claim_record, name="claim_record"),
    path("claim/<str:token>/", claims.claim_invitation, name="claim_invitation"),
]
