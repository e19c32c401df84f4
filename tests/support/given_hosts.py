"""Hosts as users give them: a CIF, or put into a store without a job; and a model that compares."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from defectnet.io.host_store import HostStore, host_id_of
from defectnet.io.response_library import RESPONSES_SCHEMA
from defectnet.model.artifact import ModelConfig, save_artifact
from defectnet.model.comparison.comparer import ComparerSettings
from defectnet.model.features import FrequencyGrid
from defectnet.model.network import DefectNetwork, NetworkSettings
from support.responses import made_up_hosts

__all__ = ["comparing_artifact", "give_made_up", "silicon_cif"]


def silicon_cif(share: float = 1.0) -> str:
    """A cell of silicon whose first place is occupied by this share."""
    return f"""data_Si
_cell_length_a 3.84
_cell_length_b 3.84
_cell_length_c 3.84
_cell_angle_alpha 60
_cell_angle_beta 60
_cell_angle_gamma 60
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Si1 Si 0.0 0.0 0.0 {share}
Si2 Si 0.25 0.25 0.25 1.0
"""


def comparing_artifact(folder: Path) -> Path:
    """A small model with random weights that compares."""
    torch.manual_seed(0)
    config = ModelConfig(
        network=NetworkSettings(width=16, encoder_layers=1, decoder_layers=1, heads=2, members=1),
        grid=FrequencyGrid(n_bins=64),
        comparer=ComparerSettings(width=16, layers=1, heads=2),
    )
    network = DefectNetwork(config.network, config.grid, config.comparer)
    save_artifact(folder, network=network, config=config, card="# Random, compares")
    return folder


def give_made_up(store: str, formula: str = "MgO") -> str:
    """Lay a made-up host into a store as its job leaves it there, and return its id."""
    content = f"made up: {formula}".encode()
    host_id = host_id_of(content, "cif", {})
    place = HostStore.at(store)
    place.write(host_id, "request", {"id": host_id, "name": f"{formula}.cif", "owner": "anna", "job": "none"})
    row = next(row for row in made_up_hosts() if row["formula"] == formula) | {"host_id": host_id}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([row], schema=RESPONSES_SCHEMA), sink)
    place.place(host_id, "responses.parquet").write(sink.getvalue())
    return host_id
