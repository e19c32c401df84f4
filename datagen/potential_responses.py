"""Responses of a host by an interatomic potential: one dopant at a time in a small cell, laid over a large one.

What `datagen.methods.Embedded` does to a sample is done here to the cell of the responses. A fragment takes most of the
time, so that it is computed once a substitution and kept where the settings name a folder.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from datagen.dopants import Replacement
from datagen.endmembers import Endmembers
from datagen.methods import Embedded, Interpolated
from datagen.potential_view import PotentialView
from datagen.potentials import Potential
from datagen.responses import LOWEST_THZ, HostDynamics, Response
from datagen.settings import SimulateSettings
from datagen.sites import basis_of
from defectnet.errors import SimulationError

__all__ = ["FRAGMENT_ATOMS", "Asked", "potential_responses"]

# Atoms of the cell of a fragment: at most so many, or the primitive cell twice over. Fragments in 64 atoms and in 110
# give responses of one form; a call takes two times longer in the larger cell.
FRAGMENT_ATOMS = 110


@dataclass(frozen=True, eq=False)
class Asked:
    """What came of asking a potential about one substitution.

    Attributes:
        replaces, element: the substitution.
        responses: at each concentration; empty where it failed.
        error: why it failed, "" where it did not.
        seconds, force_calls: what its fragments cost, when they were computed.
    """

    replaces: str
    element: str
    responses: tuple[Response, ...]
    error: str
    seconds: float
    force_calls: int


def potential_responses(
    dynamics: HostDynamics,
    potential: Potential,
    pairs: Sequence[tuple[str, str]],
    *,
    fragment_atoms: int = FRAGMENT_ATOMS,
    fragment_cache: str = "",
) -> Iterator[Asked]:
    """Responses by a potential, source "potential:NAME", one substitution after another.

    Args:
        dynamics: the host.
        potential: asked for what a dopant changes.
        pairs: (replaced element, dopant) of each substitution.
        fragment_atoms: atoms of the cell of one dopant.
        fragment_cache: folder that keeps fragments; "" for none.

    Raises:
        SimulationError: the potential fails its gate on the pristine host.
    """
    n = len(dynamics.parent.primitive)
    settings = SimulateSettings.model_validate(
        {"fragment_atoms": fragment_atoms, "max_basis_potential": n, "fragment_cache": fragment_cache}
    )
    view = PotentialView(dynamics.parent, potential, settings)
    view.host()
    method = Embedded(Interpolated(Endmembers(dynamics.parent, None, max_strain=0.0, lowest_thz=LOWEST_THZ)), view)
    bases = basis_of(dynamics.parent.primitive)
    for replaces, element in pairs:
        found: list[Response] = []
        error, seconds, calls = "", 0.0, 0
        try:
            fragments = {id(one): one for one in (view.fragment(basis, element) for basis in bases[replaces])}
            seconds = sum(one.seconds for one in fragments.values())
            calls = sum(one.force_calls for one in fragments.values())
            choice = Replacement(element, replaces, 0.0, False)
            found = dynamics.smooth_responses(method, choice, f"potential:{potential.name}")
        except SimulationError as failure:
            error = str(failure)
        yield Asked(replaces, element, tuple(found), error, seconds, calls)
