"""DefectNet: which foreign elements sit in a crystal, and how much of each, from its vibrational spectrum."""

__version__ = "0.1.0"
