"""Pages of reports: the doctor's drafts and releases, the patient's reading, and the files that belong to them."""
