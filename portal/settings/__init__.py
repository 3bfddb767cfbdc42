"""Settings: ``base`` holds what every installation shares; ``dev``, ``demo``, ``test`` and ``production`` add the rest."""
