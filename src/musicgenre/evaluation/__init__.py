"""From predictions to measured, calibrated, reported results."""
