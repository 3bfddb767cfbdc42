"""Addresses of the figures."""

from django.urls import path

from portal.dashboard import views

app_name = "dashboard"

urlpatterns = [
    path("", views.page, name="quality"),
    path("problems/", views.problems, name="problems"),
    path("problems.csv", views.problems_table, name="problems_table"),
    path("<slug:name>/", views.page, name="page"),
    path("<slug:name>/<slug:panel>.csv", views.table, name="table"),
]
