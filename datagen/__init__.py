"""Doped-crystal phonon spectra at scale: parents, potentials, force constants, densities of states."""
