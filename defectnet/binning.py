"""How the densities of states of the training spectra are binned and smoothed, and which modes count as imaginary.

Whatever turns modes into a density, from a simulation or from a file, does it in this one way: the model has seen no
other.
"""

__all__ = ["BINS_TO_TOP", "IMAGINARY_THZ", "SIGMA_BINS"]

# The top of the spectrum lies near this bin.
BINS_TO_TOP = 256
# Every density is smoothed by a Gaussian of this sigma, in bins.
SIGMA_BINS = 1.5
# Frequencies below this, THz, are imaginary modes: above it, rounding of acoustic modes near the zone centre.
IMAGINARY_THZ = -0.05
