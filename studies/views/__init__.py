"""The pages of this app: patients, studies, the files in them, and claiming a record."""
