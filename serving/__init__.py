"""The DefectNet HTTP service and batch scoring."""
