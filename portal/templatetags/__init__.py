"""Template filters of the portal as a whole."""
