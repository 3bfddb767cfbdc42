"""Reports from draft to release, and their PDFs. May import ``studies`` and ``accounts``."""
