"""Bulk import: receiving files, looking into them, sorting them into examinations, storing their slices."""
