"""Training, evaluation, registry and promotion of the DefectNet model."""

from defectnet.extras import require

require("train", "training a model")
