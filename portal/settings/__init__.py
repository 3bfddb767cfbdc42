"""Settings: ``base`` is shared; ``dev``, ``demo``, ``test`` and ``production`` add the rest."""
