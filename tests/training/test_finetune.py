"""Fine-tuning on made-up spectra of one host: it learns, it knows when to stop, and what comes out is an artifact."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from defectnet.cli.main import main
from defectnet.errors import InputError, TableError
from defectnet.io.tables import SPECTRA_SCHEMA, write_table
from defectnet.model.artifact import ModelConfig, load_artifact, save_artifact
from defectnet.model.network import DefectNetwork, NetworkSettings
from defectnet.readers.labels import read_labels
from defectnet.spectrum import bin_centres_thz
from training.finetune import FinetuneSettings, finetune, folds

PLACES = {"Ge": 9.0, "Sn": 4.0}
AXIS = bin_centres_thz(150, 0.12)


def band(at: float, width: float) -> np.ndarray:
    line = np.exp(-(((AXIS - at) / width) ** 2))
    return np.asarray(3.0 * line / line.sum() / 0.12)


HOST = 0.6 * band(5.0, 1.0) + 0.4 * band(14.0, 0.8)


def text_of(dos: Iterable[float]) -> str:
    return "".join(f"{f:.3f},{d:.6f}\n" for f, d in zip(AXIS, dos, strict=True))


def measured(n: int) -> pa.Table:
    rows = []
    for index in range(n):
        element = ("Ge", "Sn")[index % 2]
        share = 0.02 + 0.02 * (index // 2 % 4)
        rows.append(
            {
                "sample_id": f"{element}-{index}",
                "host": "Si",
                "defects": [{"element": element, "replaces": "Si", "concentration": share}],
                "frequency_step_thz": 0.12,
                "dos": ((1 - share) * HOST + share * band(PLACES[element], 0.4)).tolist(),
                "reference_dos": HOST.tolist(),
            }
        )
    return pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network that has learnt nothing, and has never heard of tin."""
    torch.manual_seed(1)
    settings = NetworkSettings(width=32, heads=2, encoder_layers=1, decoder_layers=1, stem_channels=8)
    config = ModelConfig(network=settings)
    known = tuple(symbol for symbol in config.trained_on.dopants if symbol != "Sn")
    config = config.model_copy(update={"trained_on": config.trained_on.model_copy(update={"dopants": known})})
    folder = tmp_path_factory.mktemp("base") / "model"
    save_artifact(folder, network=DefectNetwork(settings, config.grid), config=config, card="# Base")
    return folder


SETTINGS = FinetuneSettings(epochs=6, learning_rate=1e-2, weight_decay=0.0)


def test_the_loss_on_what_is_left_out_falls(base: Path, tmp_path: Path) -> None:
    done = finetune(base, measured(6), tmp_path, SETTINGS)
    assert done.epochs > 0
    assert done.held_out_loss[done.epochs] < done.held_out_loss[0]
    assert len(done.held_out_loss) == 7
    network, config = load_artifact(done.artifact)
    assert "Sn" in config.trained_on.dopants
    # Only linear maps of the encoder, the decoder and the head have moved.
    before, _ = load_artifact(base)
    moved = {
        n
        for (n, a), b in zip(network.state_dict().items(), before.state_dict().values(), strict=True)
        if (a != b).any()
    }
    assert moved
    assert all({"encoder", "decoder", "head"} & set(name.split(".")) for name in moved)
    report = json.loads((tmp_path / "finetune.json").read_text())
    assert report["measurements"] == 6
    assert "Fine-tuned on 6 labelled measurements" in (done.artifact / "card.md").read_text()


def test_measurements_that_teach_nothing_leave_the_base_alone(base: Path, tmp_path: Path) -> None:
    """Every spectrum is the pristine one under another label: what is left out cannot be foretold."""
    table = measured(6).to_pylist()
    elements = ("Ge", "Ca", "Pb", "Fe", "Cs", "W")
    for row, element in zip(table, elements, strict=True):
        row["dos"] = row["reference_dos"]
        row["defects"] = [{"element": element, "replaces": "Si", "concentration": 0.05}]
    settings = SETTINGS.model_copy(update={"learning_rate": 3.0, "patience": 3})
    done = finetune(base, pa.Table.from_pylist(table, schema=SPECTRA_SCHEMA), tmp_path, settings)
    assert done.epochs == 0
    assert len(done.held_out_loss) == 4  # no more are tried
    network, before = load_artifact(done.artifact)[0], load_artifact(base)[0]
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), before.state_dict().values(), strict=True)
    )


def test_whole_hosts_are_left_out_where_there_are_several() -> None:
    several = np.array(["Si", "Ge", "SiC", "Si", "MgO", "Ge"])
    left_out = folds(several, seed=0)
    assert sorted(set(left_out.tolist())) == [0, 1, 2, 3]
    assert left_out[0] == left_out[3]
    assert left_out[1] == left_out[5]
    assert len(set(left_out[[0, 1, 2, 4]].tolist())) == 4
    one = folds(np.array(["Si"] * 12), seed=0)
    assert np.bincount(one).tolist() == [2, 2, 1, 1, 1, 1, 1, 1, 1, 1]


def test_too_few(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="2 labelled spectra are too few; give at least three"):
        finetune(base, measured(2), tmp_path)


def test_the_command_registers_a_challenger(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from training.tracking import tracking_client

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for row in measured(4).to_pylist():
        lines = "".join(f"{f:.3f},{d:.6f}\n" for f, d in zip(AXIS, row["dos"], strict=True))
        Path(f"{row['sample_id']}.csv").write_text("frequency_thz,dos\n" + lines)
    Path("si.csv").write_text(
        "frequency_thz,dos\n" + "".join(f"{f:.3f},{d:.6f}\n" for f, d in zip(AXIS, HOST, strict=True))
    )
    lines = ["file,host,dopants,reference"]
    for row in measured(4).to_pylist():
        (defect,) = row["defects"]
        lines.append(f"{row['sample_id']}.csv,Si,{defect['element']}={100 * defect['concentration']:.0f}%,si.csv")
    Path("labels.csv").write_text("\n".join(lines) + "\n")
    arguments = ["finetune", str(base), "labels.csv", "--output", "out", "--epochs", "2"]
    monkeypatch.setattr(sys, "argv", ["defectnet", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert "registered as defectnet/1, alias challenger" in capsys.readouterr().out
    version = tracking_client().get_model_version_by_alias("defectnet", "challenger")
    assert version.tags["finetuned_from"] == str(base)
    assert version.tags["finetuned_on"]


def test_labels(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text_of(HOST))
    path = tmp_path / "labels.csv"
    path.write_text("file,host,dopants,unit,kind\na.csv,GaAs,Al=5%; In=0.01,meV,neutron\na.csv,GaAs,,THz,\n")
    rows = read_labels(path).to_pylist()
    found = [(d["element"], d["replaces"], round(d["concentration"], 6)) for d in rows[0]["defects"]]
    assert found == [("Al", "Ga", 0.05), ("In", "Ga", 0.01)]
    assert [row["kind"] for row in rows] == ["neutron", "vibrational"]
    assert rows[1]["defects"] == []
    assert rows[0]["frequency_step_thz"] < rows[1]["frequency_step_thz"]  # meV are a quarter of THz
    write_table(read_labels(path), tmp_path / "table.parquet")
    for text, words in [
        ("file,host\na.csv,Si\n", "has no column 'dopants'; give the columns file, host, dopants"),
        ("file,host,dopants,colour\na.csv,Si,,red\n", "has an unknown column 'colour'"),
        ("", "has no column 'file'"),
        ("file,host,dopants\na.csv,Si,Ge\n", "line 2 of .*: dopants: 'Ge' is no dopant; write it like Ge=5%"),
        ("file,host,dopants\na.csv,Si,Ge=-1%\n", "is no dopant"),
        ("file,host,dopants,unit\na.csv,Si,,THz\nb.csv,Si,,THz\n", "line 3 of .*: file: cannot read"),
        ("file,host,dopants\na.csv,Si,\n", "line 2 of .*: unit: .* does not say its unit"),
        ("file,host,dopants,unit,kind\na.csv,Si,,THz,raman\n", "unknown kind of spectrum 'raman'"),
    ]:
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            read_labels(path)


def test_labels_bring_the_errors_of_their_files(tmp_path: Path) -> None:
    """Per THz of the row, on the scale of three modes; none where the file has none."""
    (tmp_path / "a.csv").write_text(
        "Frequency (THz),DOS,error\n" + "".join(f"{f:.3f},{d:.6f},0.02\n" for f, d in zip(AXIS, HOST, strict=True))
    )
    (tmp_path / "b.csv").write_text("frequency_thz,dos\n" + text_of(HOST))
    (tmp_path / "labels.csv").write_text("file,host,dopants\na.csv,Si,Ge=5%\nb.csv,Si,\n")
    row, other = read_labels(tmp_path / "labels.csv").to_pylist()
    assert other["uncertainty"] is None
    step, errors = row["frequency_step_thz"], np.array(row["uncertainty"])
    variance = np.nansum((errors * step) ** 2)
    assert variance == pytest.approx(AXIS.size * (0.02 * 0.12) ** 2, rel=0.05)


def test_wrong_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(measured(4), "table.parquet")
    # With a slash in it, it was once looked up in the registry.
    monkeypatch.setattr(sys, "argv", ["defectnet", "finetune", "runs/nowhere", "table.parquet"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "nowhere is no folder and no models:/NAME@ALIAS" in capsys.readouterr().err
