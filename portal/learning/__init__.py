"""Learning from what doctors say: labels for training, trainings in the background, what would teach most."""
