"""Patients, studies, slices and their analyses. May import ``accounts`` and ``ml``."""
