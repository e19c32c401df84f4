"""Training, evaluation, registry and promotion of the DefectNet model."""
