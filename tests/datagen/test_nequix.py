"""Nequix in torch: the original's numbers where its weights are, and the laws of physics on random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from datagen.embedding import compute_fragment, compute_potential_host
from datagen.engine import Workbench
from datagen.parents import Parent
from datagen.potentials import Potential, load_potential
from datagen.potentials.nequix import NequixPotential, find_weights
from datagen.supercells import Supercell, choose_matrix
from defectnet.errors import PotentialError

CHANNELS = (6, 4, 3, 2)
NUMBERS = [8, 12, 30]

# Answers of the original package, nequix 0.4.5 with jax 0.10.2 on a processor, `NequixCalculator(model_path=…,
# use_kernel=False)`: energy (eV), forces (eV/Å) and stress (eV/Å³, in Voigt's order). A triclinic cell of five elements
# at random places, two atoms among their own images, and a distorted oxide.
REFERENCES = [
    (
        Atoms(
            "LiFeP2H3O",
            positions=[
                [2.4, 4.79, 2.43],
                [4.33, 3.97, 4.74],
                [5.49, 5.99, 2.46],
                [0.46, 2.59, 2.59],
                [0.69, 2.16, 5.39],
                [4.14, 6.07, 6.4],
                [4.17, 2.7, 0.68],
                [1.39, 6.7, 4.26],
            ],
            cell=[[5.1, 0.3, -0.2], [1.9, 5.5, 0.4], [-1.5, 2.1, 6.3]],
            pbc=True,
        ),
        -25.6347,
        [
            [1.4407, -0.3459, -0.2756],
            [1.3827, -0.6156, -0.0003],
            [-0.6625, 0.9006, 1.9301],
            [-2.3888, -0.6084, 0.0447],
            [-0.7414, 1.1211, -0.1330],
            [0.0063, -0.5757, 0.2423],
            [1.1971, -0.1909, 1.4851],
            [-0.2341, 0.3148, -3.2933],
        ],
        [0.03504, 0.07354, 0.08540, 0.00659, 0.00546, 0.01274],
    ),
    (
        Atoms(
            "SiGe",
            positions=[[0, 0.05, 0], [1.3, 1.4, 1.38]],
            cell=[[0, 2.72, 2.72], [2.72, 0, 2.72], [2.72, 2.72, 0]],
            pbc=True,
        ),
        -9.8325,
        [[-0.8528, -0.0931, 0.2633], [0.8528, 0.0931, -0.2633]],
        [-0.05373, -0.05496, -0.05486, -0.02118, -0.00269, 0.00670],
    ),
    (
        Atoms(
            "Mg3ZnO4",
            positions=[
                [0, 0, 0],
                [0, 2.15, 2.1],
                [2.1, 0, 2.12],
                [2.05, 2.1, 0],
                [2.1, 0.1, 0],
                [0, 2.1, 0],
                [0, 0, 2.15],
                [2.1, 2.2, 2.1],
            ],
            cell=[4.2, 4.25, 4.2],
            pbc=True,
        ),
        -44.5456,
        [
            [-0.1060, 0.0060, 0.2306],
            [-0.1121, -0.1655, 0.0546],
            [0.0336, 0.3164, -0.1243],
            [0.4201, 0.5906, 0.0308],
            [-0.0034, -1.0046, 0.2245],
            [-0.2343, 0.4935, 0.1386],
            [0.0114, 0.1594, -0.5457],
            [-0.0094, -0.3958, -0.0091],
        ],
        [-0.05587, -0.05071, -0.05372, -0.00064, 0.00003, 0.00058],
    ),
]


def write_random_weights(path: Path, **changes: object) -> Path:
    """A weights file of a small network that has learnt nothing, in the format of the original's."""
    header = {
        "atomic_numbers": NUMBERS,
        "hidden_irreps": " + ".join(f"{c}x{order}{'eo'[order % 2]}" for order, c in enumerate(CHANNELS)),
        "lmax": 3,
        "n_layers": 3,
        "cutoff": 4.0,
        "radial_basis_size": 5,
        "radial_mlp_size": 8,
        "radial_mlp_layers": 2,
        "radial_polynomial_p": 6.0,
        "index_weights": False,
        "layer_norm": True,
        "shift": -1.0,
        "scale": 0.8,
        "avg_n_neighbors": 20.0,
    }
    species, (c0, c1, c2, c3) = len(NUMBERS), CHANNELS
    wide = c0 + c1 + c2 + c3
    firsts, thens = [species], list(CHANNELS)
    # Channels of all tensor products of each order: the orders l1, l2, l3 that couple with an even sum.
    sums = [wide, c0 + 2 * c1 + 2 * c2 + c3, c0 + 2 * c1 + 2 * c2 + 2 * c3, c0 + c1 + 2 * c2 + 2 * c3]
    shapes: list[tuple[int, ...]] = [(species,)]
    for inputs, widths, outputs in (
        (firsts, [species] * 4, [c0 + c1 + c2 + c3, c1, c2, c3]),
        (thens, sums, [c0 + c1 + c2 + c3, c1, c2, c3]),
        (thens, sums[:1], [c0]),
    ):
        shapes += [(5, 8), (8, 8), (8, sum(widths))]
        shapes += [(c, c) for c in inputs]
        shapes += list(zip(widths, outputs, strict=True))
        shapes += list(zip(inputs, outputs, strict=False))
        shapes += [(c,) for c in outputs]
    shapes.append((c0, 1))
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(json.dumps(header | changes).encode() + b"\n")
        for shape in shapes:
            np.save(file, rng.normal(size=shape).astype(np.float32), allow_pickle=False)
    return path


@pytest.fixture(scope="module")
def random_network(tmp_path_factory: pytest.TempPathFactory) -> NequixPotential:
    path = write_random_weights(tmp_path_factory.mktemp("weights") / "random.nqx")
    return NequixPotential(path, device="cpu", dtype=torch.float64)


@pytest.fixture(scope="module")
def trained() -> NequixPotential:
    path = Path(__file__).parents[3] / "shared" / "data" / "nequix-oam-1-pft.nqx"
    try:
        return NequixPotential(path if path.is_file() else find_weights(), device="cpu")
    except PotentialError as error:
        pytest.skip(f"the weights are not here: {error}")


@pytest.fixture
def oxide() -> Atoms:
    """Seven atoms in a skew cell, some of them outside it."""
    rng = np.random.default_rng(1)
    atoms = Atoms("Mg3ZnO3", cell=[[4.1, 0.2, 0.1], [1.7, 4.4, -0.3], [-1.2, 0.9, 5.1]], pbc=True)
    atoms.set_scaled_positions(
        [[0, 0, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    )
    atoms.positions += rng.normal(scale=0.15, size=(7, 3))
    return atoms


@pytest.mark.physics
@pytest.mark.parametrize("which", range(len(REFERENCES)))
def test_the_originals_numbers(which: int, trained: NequixPotential) -> None:
    atoms, energy, forces, stress = REFERENCES[which]
    energies, found, stresses = trained.compute([atoms])
    assert energies[0] == pytest.approx(energy, abs=1e-4 * len(atoms))
    assert found[0] == pytest.approx(np.array(forces), abs=2e-4)
    assert stresses[0].ravel()[[0, 4, 8, 5, 2, 1]] == pytest.approx(np.array(stress), abs=2e-5)


def test_forces_and_stress_are_derivatives_of_the_energy(random_network: NequixPotential, oxide: Atoms) -> None:
    step = 1e-4
    _, forces, stresses = random_network.compute([oxide])
    for atom, axis in ((0, 0), (3, 1), (6, 2)):
        moved = [oxide.copy(), oxide.copy()]
        for sign, one in zip((1, -1), moved, strict=True):
            one.positions[atom, axis] += sign * step
        up, down = random_network.compute(moved)[0]
        assert forces[0][atom, axis] == pytest.approx(-(up - down) / (2 * step), rel=1e-4, abs=1e-5)
    for a, b in ((0, 0), (1, 2)):
        moved = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[a, b] += 0.5 * sign * step
            strain[b, a] += 0.5 * sign * step
            one = oxide.copy()
            one.set_cell(oxide.cell[:] @ (np.eye(3) + strain), scale_atoms=True)
            moved.append(one)
        up, down = random_network.compute(moved)[0]
        assert stresses[0, a, b] == pytest.approx((up - down) / (2 * step) / oxide.get_volume(), rel=1e-4, abs=1e-6)


def test_turning_the_crystal_turns_the_forces(random_network: NequixPotential, oxide: Atoms) -> None:
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]  # improper ones are symmetries too
    turned = oxide.copy()
    turned.set_cell(oxide.cell[:] @ turn)
    turned.positions = oxide.positions @ turn + [0.3, -7.0, 1.1]
    energies, forces, stresses = random_network.compute([oxide, turned])
    assert energies[0] == pytest.approx(energies[1], abs=1e-8)
    assert forces[1] == pytest.approx(forces[0] @ turn, abs=1e-7)
    assert stresses[1] == pytest.approx(turn.T @ stresses[0] @ turn, abs=1e-8)
    assert np.abs(forces[0].sum(axis=0)).max() < 1e-9


def test_a_repeated_cell_and_a_batch_change_nothing(random_network: NequixPotential, oxide: Atoms) -> None:
    twice = oxide * (2, 1, 1)
    other = bulk("MgO", "rocksalt", a=4.21) * 2
    energies, forces, stresses = random_network.compute([oxide, twice, other])
    assert energies[1] == pytest.approx(2 * energies[0])
    assert forces[1] == pytest.approx(np.vstack([forces[0], forces[0]]), abs=1e-8)
    assert stresses[1] == pytest.approx(stresses[0], abs=1e-8)
    alone = random_network.compute([other])
    assert forces[2] == pytest.approx(alone[1][0], abs=1e-9)
    assert stresses[2] == pytest.approx(alone[2][0], abs=1e-9)


def test_a_kept_neighbour_list_holds_all_neighbours(tmp_path: Path, oxide: Atoms) -> None:
    path = write_random_weights(tmp_path / "random.nqx")
    kept = NequixPotential(path, device="cpu", dtype=torch.float64)
    kept.compute([oxide])
    moved = oxide.copy()
    moved.positions += np.random.default_rng(3).uniform(-0.1, 0.1, size=(7, 3))
    fresh = NequixPotential(path, device="cpu", dtype=torch.float64)
    assert kept.compute([moved])[1][0] == pytest.approx(fresh.compute([moved])[1][0], abs=1e-9)
    far = moved.copy()
    far.positions[2] += [0.9, -0.8, 0.7]
    fresh = NequixPotential(path, device="cpu", dtype=torch.float64)
    assert kept.compute([far])[1][0] == pytest.approx(fresh.compute([far])[1][0], abs=1e-9)


def test_single_precision_is_enough_for_small_displacements(tmp_path: Path, oxide: Atoms) -> None:
    path = write_random_weights(tmp_path / "random.nqx")
    single, double = (NequixPotential(path, device="cpu", dtype=t) for t in (torch.float32, torch.float64))
    exact = double.compute([oxide])[1][0]
    assert single.compute([oxide])[1][0] == pytest.approx(exact, abs=1e-5 * max(1.0, np.abs(exact).max()))


def test_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(PotentialError, match="get it from https"):
        load_potential("nequix")
    with pytest.raises(PotentialError, match="no Nequix weights at"):
        load_potential("nequix:/no/such/file.nqx")
    (tmp_path / "defectnet").mkdir()
    write_random_weights(tmp_path / "defectnet" / "nequix-oam-1-pft.nqx")
    found = load_potential("nequix")
    assert found.name == "nequix"
    assert found.knows("Zn")
    assert not found.knows("Ge")
    assert not found.knows("Xx")
    with pytest.raises(PotentialError, match="does not know Ge"):
        found.evaluate([bulk("Ge", "diamond", a=5.6)])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"index_weights": True}, "index_weights"),
        ({"lmax": 2}, "lmax"),
        ({"hidden_irreps": "8x0e + 8x1e"}, "0e \\+ 1o"),
        ({"n_layers": 4}, "not a Nequix weights file"),
    ],
)
def test_other_networks_are_refused(changes: dict[str, object], word: str, tmp_path: Path) -> None:
    with pytest.raises(PotentialError, match=word):
        NequixPotential(write_random_weights(tmp_path / "other.nqx", **changes))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = write_random_weights(tmp_path / "evil.nqx")
    header = path.read_bytes().split(b"\n", 1)[0]
    with path.open("wb") as file:
        file.write(header + b"\n")
        np.save(file, np.array([{}, {}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(PotentialError, match="not a Nequix weights file"):
        NequixPotential(path)
    path.write_bytes(b"\x93NUMPY nonsense")
    with pytest.raises(PotentialError, match="not a Nequix weights file"):
        NequixPotential(path)


@pytest.mark.physics
def test_one_sided_displacements_do_for_a_fragment(silicon_bench: Workbench, potential: Potential) -> None:
    """With the host's anharmonicity taken off, half a per cent of the change is left, for two thirds of the calls."""
    host = silicon_bench.view.host()
    both = compute_fragment(host, potential, 0, "Ge", thrifty=False)
    thrifty = compute_fragment(host, potential, 0, "Ge", thrifty=True)
    assert thrifty.force_calls < 0.75 * both.force_calls
    assert np.linalg.norm(thrifty.change - both.change) < 0.02 * np.linalg.norm(both.change)
    assert thrifty.strain_per_fraction == pytest.approx(both.strain_per_fraction, rel=0.02)


@pytest.mark.physics
def test_a_fragment_is_cheap(trained: NequixPotential, silicon: Parent) -> None:
    cell = Supercell(silicon.primitive, choose_matrix(silicon.primitive, 64))
    host = compute_potential_host(silicon, trained, cell, 0.005)
    fragment = compute_fragment(host, trained, 0, "Ge")
    assert fragment.force_calls <= 25
    assert fragment.seconds > 0
    on_site = fragment.change[:3, :3]
    assert on_site == pytest.approx(on_site[0, 0] * np.eye(3), abs=1e-3)
    assert -3.0 < on_site[0, 0] < -0.1  # germanium's bonds are softer, a little
    assert fragment.strain_per_fraction == pytest.approx(0.04, abs=0.02)
