"""The API of reports and of work on many studies at once: the same rules and acts as the pages."""
