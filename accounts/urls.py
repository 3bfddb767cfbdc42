"""Addresses of this app."""

from django.urls import path

from accounts import views
from accounts.language import set_language

app_name = "accounts"
urlpatterns = [
    path("doctor/", views.DoctorSignupView.as_view(), name="doctor_signup"),
    path("sessions/", views.sessions, name="sessions"),
    path("tokens/", views.api_tokens, name="api_tokens"),
    path("language/", set_language, name="set_language"),
    path("profile/", views.profile, name="profile"),
]
