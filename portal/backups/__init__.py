"""Backups: database, stored files and models as one folder that is complete or not there, and the way back.

    STAMP/backup.json      the format, whether it is encrypted, and the fingerprint of the manifest
    STAMP/manifest.jsonl   what it is a copy of, then a line for each file: path, bytes, SHA-256
    STAMP/database         SQLite: the file; PostgreSQL: what pg_dump writes
    STAMP/files/…          stored pictures and PDFs as they lie in the store, encrypted there or not
    STAMP/models/…         the registered models (IRA_MODELS_DIR)

While it is written the folder has another name; it gets its own when everything is on the disk.
"""
