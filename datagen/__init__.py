"""Doped-crystal phonon spectra at scale: parents, potentials, force constants, densities of states."""

from defectnet.extras import require

require("simulate", "simulating crystals")
