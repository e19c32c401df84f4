"""From a spectrum to what the network reads: the share of modes in each bin of one absolute frequency grid.

The grid is uniform in u, with f = scale_thz * sinh(u): nearly linear below `scale_thz`, where acoustic modes are dense,
and logarithmic above, so that a hydrogen stretch at 110 THz and an optical mode at 5 THz both find room. A bin holds
the integral of the density over it, never a sample of the density: no mode is lost, whatever axis the spectrum came on.
"""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from defectnet.elements import VOCABULARY
from defectnet.errors import SpectrumError
from defectnet.host import Host
from defectnet.settings import Settings
from defectnet.spectrum import MODES_PER_ATOM, Spectrum

__all__ = ["FrequencyGrid", "element_index", "host_vector"]

_INDEX = {symbol: index for index, symbol in enumerate(VOCABULARY)}


class FrequencyGrid(Settings):
    """The absolute frequency grid of a model.

    Attributes:
        n_bins: number of bins.
        scale_thz: where the grid turns from linear to logarithmic, THz.
        top_thz: upper edge of the last bin, THz; modes above it are not seen (the H2 stretch is at 125 THz).
    """

    n_bins: PositiveInt = 512
    scale_thz: PositiveFloat = 4.0
    top_thz: PositiveFloat = 120.0

    @property
    def bin_width(self) -> float:
        """Width of every bin in u, without unit."""
        return float(np.arcsinh(self.top_thz / self.scale_thz)) / self.n_bins

    @cached_property
    def edges_thz(self) -> NDArray[np.float64]:
        """Bin edges from 0 to `top_thz`, shape (n_bins + 1,), THz."""
        return self.scale_thz * np.sinh(np.arange(self.n_bins + 1) * self.bin_width)

    @cached_property
    def centres_thz(self) -> NDArray[np.float64]:
        """Bin centres, the middle in u, shape (n_bins,), THz."""
        return self.scale_thz * np.sinh((np.arange(self.n_bins) + 0.5) * self.bin_width)

    def mode_shares(self, spectrum: Spectrum) -> NDArray[np.float32]:
        """The share of all modes in each bin, shape (n_bins,), summing to 1; negative densities count as zero.

        Raises:
            SpectrumError: no density between 0 THz and the top of the grid.
        """
        shares = np.diff(spectrum.normalised().cumulative(self.edges_thz)) / MODES_PER_ATOM
        total = shares.sum()
        if total <= 0.0:
            raise SpectrumError(
                f"no density below {self.top_thz:g} THz", fix="check the axis and its unit", field="frequency"
            )
        return (shares / total).astype(np.float32)


def element_index(symbol: str) -> int:
    """Place of an element in the vocabulary: its atomic number minus 1."""
    return _INDEX[symbol]


def host_vector(host: Host) -> NDArray[np.float32]:
    """The host's composition as fractions of all atoms, shape (94,), in the order of the vocabulary."""
    vector = np.zeros(len(VOCABULARY), dtype=np.float32)
    for symbol, fraction in host.fractions.items():
        vector[_INDEX[symbol]] = fraction
    return vector
