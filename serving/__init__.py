"""The DefectNet HTTP service and batch scoring."""

from defectnet.extras import require

require("serve", "serving a model")
