"""Addresses of the API about patients, studies, slices, analyses, judgements, patients' own uploads and the model."""

from django.urls import path

from studies.api import analyses, claims, emergency, handovers, imports, model, own, patients, reviews, studies
from studies.uploads import takes_many_files

urlpatterns = [
    path("patients/", patients.Patients.as_view(), name="patients"),
    path("patients/<uuid:patient_id>/", patients.OnePatient.as_view(), name="patient"),
    path("patients/<uuid:patient_id>/invitation/", claims.PatientInvitation.as_view(), name="patient_invitation"),
    path("my-record/claim/", claims.RecordClaim.as_view(), name="own_record_claim"),
    path("emergency/", emergency.EmergencyAccess.as_view(), name="emergency_access"),
    path("colleagues/", studies.Colleagues.as_view(), name="colleagues"),
    path("studies/", studies.Studies.as_view(), name="studies"),
    path("studies/mark/", studies.StudyMarks.as_view(), name="study_marks"),
    path("studies/retry/", analyses.StudyRetries.as_view(), name="study_retries"),
    path("studies/<uuid:study_id>/", studies.OneStudy.as_view(), name="study"),
    path("studies/<uuid:study_id>/state/", studies.StudyState.as_view(), name="study_state"),
    path("studies/<uuid:study_id>/slices/", studies.StudySlices.as_view(), name="study_slices"),
    path("studies/<uuid:study_id>/access/", studies.StudyAccess.as_view(), name="study_access"),
    path(
        "studies/<uuid:study_id>/first-impression/",
        reviews.StudyFirstImpression.as_view(),
        name="study_first_impression",
    ),
    path("slices/<uuid:image_id>/", analyses.OneSlice.as_view(), name="image"),
    path("slices/<uuid:image_id>/slice.png", analyses.SlicePicture.as_view(), name="image_file"),
    path("slices/<uuid:image_id>/judged.png", analyses.SliceJudged.as_view(), name="image_judged"),
    path("slices/<uuid:image_id>/analyses/", analyses.SliceAnalyses.as_view(), name="image_analyses"),
    path("slices/<uuid:image_id>/findings/", reviews.SliceFindings.as_view(), name="image_findings"),
    path("slices/<uuid:image_id>/class/", reviews.SliceClass.as_view(), name="image_class"),
    path("analyses/<uuid:analysis_id>/", analyses.OneAnalysis.as_view(), name="analysis"),
    path("analyses/<uuid:analysis_id>/cancel/", analyses.AnalysisCancel.as_view(), name="analysis_cancel"),
    path("analyses/<uuid:analysis_id>/overlay.png", analyses.AnalysisOverlay.as_view(), name="analysis_overlay"),
    path("analyses/<uuid:analysis_id>/mask.png", analyses.AnalysisMask.as_view(), name="analysis_mask"),
    path(
        "analyses/<uuid:analysis_id>/activation.png", analyses.AnalysisActivation.as_view(), name="analysis_activation"
    ),
    path("findings/<uuid:lesion_id>/reviews/", reviews.FindingReviews.as_view(), name="finding_reviews"),
    path("findings/<uuid:finding_id>/outline.png", reviews.FindingOutline.as_view(), name="finding_outline"),
    path("reviews/<uuid:review_id>/outline.png", reviews.ReviewOutline.as_view(), name="review_outline"),
    path("imports/", imports.Imports.as_view(), name="imports"),
    path("imports/<uuid:import_id>/", imports.OneImport.as_view(), name="import"),
    path("imports/<uuid:import_id>/files/", takes_many_files(imports.ImportFiles.as_view()), name="import_files"),
    path("imports/<uuid:import_id>/start/", imports.ImportStart.as_view(), name="import_start"),
    path("imports/<uuid:import_id>/discard/", imports.ImportDiscard.as_view(), name="import_discard"),
    path("imports/examinations/<uuid:group_id>/", imports.ImportExamination.as_view(), name="import_examination"),
    path("own-studies/", own.OwnStudies.as_view(), name="own_studies"),
    path("own-studies/consent/", own.OwnConsent.as_view(), name="own_consent"),
    path("own-studies/<uuid:study_id>/", own.OneOwnStudy.as_view(), name="own_study"),
    path("own-studies/<uuid:study_id>/state/", own.OwnStudyState.as_view(), name="own_study_state"),
    path("own-studies/<uuid:study_id>/slice.png", own.OwnPicture.as_view(), name="own_picture"),
    path("own-studies/<uuid:study_id>/retry/", own.OwnRetry.as_view(), name="own_retry"),
    path("own-studies/<uuid:study_id>/hand-over/", own.OwnHandover.as_view(), name="own_handover"),
    path("own-studies/<uuid:study_id>/hand-over/withdraw/", own.OwnWithdraw.as_view(), name="own_withdraw"),
    path("hospitals/", own.Hospitals.as_view(), name="hospitals"),
    path("hand-overs/", handovers.Handovers.as_view(), name="hand_overs"),
    path("hand-overs/<uuid:handover_id>/", handovers.OneHandover.as_view(), name="hand_over"),
    path("hand-overs/<uuid:handover_id>/take/", handovers.HandoverTake.as_view(), name="hand_over_take"),
    path("hand-overs/<uuid:handover_id>/decline/", handovers.HandoverDecline.as_view(), name="hand_over_decline"),
    path("model/", model.Model.as_view(), name="model"),
    path("classify/", model.Classify.as_view(), name="classify"),
]
