"""The figures by which a hospital judges the portal: quality, speed, work, the model's life, problems.

Every figure is counted in the database when it is asked for; nothing is kept, so nothing can be stale.
"""
