"""The version of DefectNet."""

__all__ = ["__version__"]

__version__ = "0.1.0"
