"""From a trained model to the command line of a run that teaches it labels."""
