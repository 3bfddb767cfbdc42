"""Addresses of this app."""

from django.urls import path

from accounts import views

app_name = "accounts"
urlpatterns = [
    path("doctor/", views.DoctorSignupView.as_view(), name="doctor_signup"),
    path("sessions/", views.sessions, name="sessions"),
    path("profile/", views.profile, name="profile"),
]
