"""Stage 1: look at every file before anything is trained on it.

A source (folder or ZIP archive in the public set's layout, or a download) becomes one folder that is either complete or
not there: the sound files, `manifest.csv`, `data_report.json` and `.md`, and the groups of the class set.
"""
