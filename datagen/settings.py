"""Settings of the simulator's two runs: spectra (`configs/simulate.yaml`) and responses (`configs/responses.yaml`)."""

import hashlib
import json

from pydantic import Field, ValidationInfo, field_validator

from defectnet.elements import check_element
from defectnet.settings import Settings

__all__ = ["PREPARE_PHYSICS", "PrepareSettings", "SimulateSettings"]

# Raised when the same settings would give other spectra.
_PHYSICS = 2
# Raised when the same host would get other responses.
PREPARE_PHYSICS = 4


class SimulateSettings(Settings):
    """What to simulate and how. One YAML file of these makes a dataset again."""

    parents: str = Field("packaged", description='Parquet of phonopy calculations, folder of them, or "packaged".')
    parent_ids: tuple[str, ...] = Field((), description="Only these parents; empty for all.")
    max_parents: int | None = Field(None, ge=1, description="At most so many parents, drawn at random by `seed`.")
    potential: str = Field(
        "nep89", description="nep89, nequix, nep:PATH, nequix:PATH or package.module:Calculator(key=value)."
    )
    second_potential: str = Field(
        "", description="Asked where the first one fails its gate on the host: a slower and better one; empty for none."
    )
    dopants: tuple[str, ...] = Field((), description="Only these dopant elements; empty for every sensible one.")
    sublattices: tuple[str, ...] = Field(
        (), description="Only on sites of these host elements; then `dopants` are taken as they are, sensible or not."
    )
    output: str = Field("runs/spectra", description="Folder of Parquet shards; finished samples there are kept.")
    samples_per_parent: int = Field(6, ge=1, description="Spectra of each parent, pristine ones included.")
    dopants_per_parent: int = Field(6, ge=1, description="Dopant elements drawn for a parent, shared by its samples.")
    seed: int = Field(1, description="Seed of every random choice; part of every sample's identity.")
    pristine_share: float = Field(0.04, ge=0, le=1, description="Share of samples without a dopant.")
    max_defects: int = Field(6, ge=1, le=6, description="Most dopant elements in a sample.")
    min_concentration: float = Field(0.002, gt=0, le=0.25, description="Least share of all atoms.")
    max_concentration: float = Field(0.25, gt=0, le=0.5, description="Greatest share of all atoms.")
    concentration_ratio: float = Field(
        20.0, ge=1, description="Greatest ratio of two dopants in one sample; a trace beside 5 % is not resolved."
    )
    quasirandom: int = Field(
        0,
        ge=0,
        description="Keep the most random-like of so many drawn configurations; 0: draw one.",
    )
    fragment_atoms: int = Field(220, ge=16, description="Atoms of the cell in which one dopant's change is found.")
    max_atoms: int = Field(500, ge=32, description="Atoms of the largest doped cell: 500 resolves 0.2 %.")
    min_atoms: int = Field(250, ge=16, description="Atoms of the smallest embedded cell; fewer are noisy.")
    direct_atoms: int = Field(120, ge=16, description="Atoms of the smallest cell computed directly.")
    max_host_imaginary: float = Field(
        0.005, ge=0, description="Gate: the potential's own pristine host, share of modes."
    )
    max_doped_imaginary: float = Field(0.01, ge=0, description="Gate: the doped crystal, share of modes.")
    lowest_host_thz: float = Field(-0.3, le=0, description="Gate: the DFT host's lowest frequency, THz.")
    use_endmembers: bool = Field(
        True, description="Where the parents hold the dopant's own crystal of the same structure, interpolate to it."
    )
    max_endmember_strain: float = Field(
        0.06, ge=0, description="Greatest linear misfit of an end member; beyond it bonds do not keep their length."
    )
    max_basis_potential: int = Field(
        20, ge=1, description="Parents with larger primitive cells take dopants with an end member alone."
    )
    potential_dopants: int = Field(
        20, ge=0, description="At most so many of a parent's dopants need the potential, which costs most of the time."
    )
    potential_likeliest: int = Field(
        0,
        ge=0,
        description="Draw the dopants that need the potential from so many of the host's likeliest, which are those "
        "that a response library has of it; 0: from all.",
    )
    allow_direct: bool = Field(
        True,
        description="Compute a doped cell itself where fragments do not superpose; a costly potential takes hours over "
        "it. Else such samples fail.",
    )
    allow_masses: bool = Field(False, description="Fall back on masses alone where a gate fails, and mark the row.")
    max_basis: int = Field(20, ge=1, description="Parents with larger primitive cells are left out.")
    parents_per_shard: int = Field(4, ge=1, description="Parents written together; what a kill can lose.")
    workers: int = Field(2, ge=1, description="Actors, one thread each.")
    fragment_cache: str = Field(
        "", description="Folder that keeps dopants' fragments between runs, 2 MB each; empty for none."
    )
    compact: bool = Field(
        True,
        description="Store densities as whole numbers of a step of their own (an L1 error below 2.5e-4 of their "
        "integral) and each host's once; else as lists of float32.",
    )

    @field_validator("dopants", "sublattices")
    @classmethod
    def _are_elements(cls, symbols: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return tuple(check_element(symbol, field=str(info.field_name)) for symbol in symbols)

    def digest(self) -> str:
        """Hash of what decides a sample's physics; where it is stored and by how many workers does not."""
        where = {"output", "workers", "parents_per_shard", "compact", "fragment_cache"}
        # Neither which parents nor how many samples of each: a dataset can be grown without making it again.
        which = {"parents", "parent_ids", "max_parents", "max_basis", "samples_per_parent"}
        values = {"physics": _PHYSICS, **self.model_dump(mode="json", exclude=where | which)}
        # Left as they are, samples are what they were before there were such settings.
        for later in ("sublattices", "second_potential", "quasirandom", "potential_likeliest", "allow_direct"):
            if getattr(self, later) == type(self).model_fields[later].default:
                del values[later]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


class PrepareSettings(Settings):
    """Whose responses to compute and by what. One YAML file of these makes a response library again."""

    parents: str = Field("packaged", description='Parquet of phonopy calculations, folder of them, or "packaged".')
    parent_ids: tuple[str, ...] = Field((), description="Only these parents; empty for all.")
    max_parents: int | None = Field(None, ge=1, description="At most so many parents, drawn at random by `seed`.")
    max_basis: int = Field(20, ge=1, description="Parents with larger primitive cells are left out.")
    dopants: tuple[str, ...] = Field(
        (), description="Only these elements, sensible or not; empty for every sensible substitution."
    )
    use_endmembers: bool = Field(
        True, description="Where the parents hold the dopant's own crystal of the same structure, interpolate to it."
    )
    potential: str = Field("", description="Asked about the likeliest dopants, such as nequix; empty for none.")
    potential_dopants: int = Field(
        5,
        ge=1,
        description="So many of a host's likeliest substitutions; of `dopants`, where given, all are asked for.",
    )
    potential_repeats: int = Field(
        0, ge=0, description="Of these, so many that end members tell too: whoever compares sources needs both."
    )
    fragment_atoms: int = Field(
        72,
        ge=16,
        description="Atoms of the cell in which the potential finds one dopant's change; its cost grows with it.",
    )
    fragment_cache: str = Field(
        "", description="Folder that keeps dopants' fragments between runs, 0.3 MB each; empty for none."
    )
    output: str = Field("runs/responses", description="Folder of Parquet files; finished hosts there are kept.")
    seed: int = Field(1, description="Order of the hosts.")
    hosts_per_shard: int = Field(10, ge=1, description="Hosts written together; what a kill can lose.")
    workers: int = Field(2, ge=1, description="Actors, one thread each.")

    @field_validator("dopants")
    @classmethod
    def _are_elements(cls, symbols: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return tuple(check_element(symbol, field=str(info.field_name)) for symbol in symbols)

    def digest(self) -> str:
        """Hash of what decides a host's responses; which hosts and where they are written does not."""
        what = {"dopants", "use_endmembers", "potential", "potential_dopants", "fragment_atoms"}
        what |= {"potential_repeats"} if self.potential_repeats else set()
        values = {"physics": PREPARE_PHYSICS, **self.model_dump(mode="json", include=what)}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
