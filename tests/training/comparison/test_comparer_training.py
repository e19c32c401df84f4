"""One process trains as it did before Ray Train did, and a run that is killed ends at the weights it would have had."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from defectnet.errors import SettingsError
from defectnet.model.comparison.comparer import Comparer, ComparerSettings
from training.comparison.batches import Batch, BatchMaker
from training.comparison.fit import ComparerTrainer, Share, averaged, comparison_loss, fit_comparer
from training.comparison.lists import LISTS
from training.comparison.mismatch import Mismatch
from training.comparison.rows import ComparisonRows
from training.comparison.settings import CompareSettings

SETTINGS = CompareSettings(
    steps=6,
    batch_size=8,
    learning_rate=5e-3,
    warmup_steps=2,
    checkpoint_steps=2,
    network=ComparerSettings(width=16, layers=1, heads=2),
)


def former_batch(
    rows: ComparisonRows,
    settings: CompareSettings,
    maker: BatchMaker,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> Batch:
    """A batch as it was drawn before there were workers."""

    def pool(source: str, least: int) -> list[int]:
        host = {row: rows.hosts[rows.host[row]].vibrational for row in rows.of_split("train")}
        return [row for row, one in host.items() if len(one.chosen(one.elements, source)) >= least]

    hard = {source: pool(source, 2) for source in ("endmember", "potential")}
    shares = np.array([settings.list_shares.get(kind, 0.0) for kind in LISTS])
    kind = str(rng.choice(LISTS, p=shares / shares.sum()))
    source = "endmember"
    known = len(hard["potential"]) / max(len(hard["endmember"]), 1)
    if kind == "hard" and rng.random() < (max(known, settings.potential_share) if known else 0.0):
        source = "potential"
    rows_of_kind = hard[source] if kind == "hard" else pool("springs", 1)
    chosen = [rows_of_kind[place] for place in rng.integers(0, len(rows_of_kind), settings.batch_size)]
    questions = [
        maker.question(
            row,
            kind,  # type: ignore[arg-type]
            rng,
            neutron=bool(rng.random() < settings.neutron_share),
            source=source,
            n_distractors=int(rng.integers(3, settings.most_distractors + 1)),
        )
        for row in chosen
    ]
    distorted = settings.distorted_share if kind in ("hard", "mixed", "all_mixed") else 0.0
    return maker.batch(questions, rng, generator, distorted=distorted, without_prior=settings.prior_dropout)


def former_loop(rows: ComparisonRows, settings: CompareSettings) -> dict[str, torch.Tensor]:
    """The loop as it was before there were workers: the averaged weights of a whole run."""
    torch.manual_seed(settings.seed)
    network = Comparer(settings.network)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    maker = BatchMaker(
        rows,
        Mismatch(settings.mismatch),
        mixtures=settings.mixture_share,
        pristine=settings.pristine_share,
        made_up=settings.made_up_share,
    )
    network.train()
    for step in range(settings.steps):
        rng = np.random.default_rng([settings.seed, step])
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        batch = former_batch(rows, settings, maker, rng, generator)
        risen = min(1.0, (step + 1) / max(settings.warmup_steps, 1))
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * risen * 0.5 * (1.0 + math.cos(math.pi * step / settings.steps))
        presence, concentration = comparison_loss(network(batch.inputs), batch)
        loss = settings.presence_weight * presence + settings.concentration_weight * concentration
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()
        decay = min(settings.average_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, value in network.state_dict().items():
                if value.is_floating_point():
                    average[name].lerp_(value, 1.0 - decay)
                else:
                    average[name].copy_(value)
    return average


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_one_process_trains_as_it_did_before_there_were_workers(in_training: ComparisonRows, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    expected = former_loop(in_training, SETTINGS)
    found = fit_comparer(in_training, SETTINGS, tmp_path).state_dict()
    assert same(found, expected)
    another = fit_comparer(in_training, SETTINGS.model_copy(update={"seed": 1}), tmp_path / "other").state_dict()
    assert not same(another, expected)


def test_a_killed_run_goes_on_to_the_same_weights(in_training: ComparisonRows, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = fit_comparer(in_training, SETTINGS, tmp_path / "whole").state_dict()

    def killed(metrics: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_comparer(in_training, SETTINGS, tmp_path / "killed", report=killed)
    torch.manual_seed(77)  # another process has drawn nothing yet
    steps: list[float] = []
    found = fit_comparer(
        in_training, SETTINGS, tmp_path / "killed", report=lambda metrics: steps.append(metrics["step"])
    )
    assert steps == [4, 6]
    assert same(found.state_dict(), whole)
    assert same(averaged(tmp_path / "killed", SETTINGS).state_dict(), whole)


def test_a_checkpoint_without_the_optimiser_is_taken_up(in_training: ComparisonRows, tmp_path: Path) -> None:
    """Runs that were begun before checkpoints kept the optimiser, the draws and the step go on."""
    trainer = ComparerTrainer(in_training, SETTINGS)
    for _ in range(3):
        trainer.run_step(trainer.network)
    tensors = {f"network.{name}": value for name, value in trainer.network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in trainer.average.items()}
    safetensors.torch.save_file(
        {name: value.clone() for name, value in tensors.items()}, tmp_path / "comparer-state.safetensors"
    )
    (tmp_path / "comparer-progress.json").write_text(json.dumps({"step": 3}), encoding="utf-8")
    again = ComparerTrainer(in_training, SETTINGS)
    again.load(tmp_path)
    assert again.step == 3
    assert same(dict(again.network.state_dict()), dict(trainer.network.state_dict()))
    assert same(again.average, trainer.average)
    steps: list[float] = []
    fit_comparer(in_training, SETTINGS, tmp_path, report=lambda metrics: steps.append(metrics["step"]))
    assert steps == [4, 6]


def test_machines_are_no_part_of_what_a_run_is_of() -> None:
    """A run in progress goes on with another checkpoint interval or GPU; another number of workers is another run."""
    digest = SETTINGS.sha256("responses")
    for change in ({"use_gpu": True}, {"max_failures": 7}, {"cpus_per_worker": 3.0}, {"checkpoint_steps": 5}):
        assert SETTINGS.model_copy(update=change).sha256("responses") == digest
    others = [SETTINGS.model_copy(update={"workers": n}).sha256("responses") for n in (1, 2)]
    assert len({digest, *others, SETTINGS.sha256("others"), SETTINGS.model_copy(update={"seed": 4}).sha256("x")}) == 5
    # What is in the run.json of runs with these settings: another setting that is not about machines changes it.
    written = "f4fc480ff0825681e1b0b3e76e5be247dc13a00f6a0c8e3ceaaf98ee4ffe5a81"
    assert CompareSettings().sha256("data/responses") == written


def test_each_worker_draws_a_share_of_its_own(in_training: ComparisonRows) -> None:
    batches = [ComparerTrainer(in_training, SETTINGS, share=Share(rank, 3))._drawn() for rank in range(3)]
    assert [len(batch.present) for batch in batches] == [3, 3, 2]
    assert not torch.equal(batches[0].inputs.change[:2], batches[1].inputs.change[:2])
    again = ComparerTrainer(in_training, SETTINGS, share=Share(1, 3))._drawn()
    assert torch.equal(again.inputs.change, batches[1].inputs.change)
    with pytest.raises(SettingsError, match="each of 5 workers 2 spectra"):
        CompareSettings.from_yaml(workers=5, batch_size=8)


def test_draws_do_not_depend_on_the_process() -> None:
    """Sets of strings have another order in every process; a list of candidates has not."""
    program = (
        "import numpy as np\n"
        "from support.responses import made_up_library\n"
        "from defectnet.model.comparison.hosts import HostOnAxis\n"
        "from training.comparison.lists import candidate_entries\n"
        "host = HostOnAxis(made_up_library().host('made-up-MgO'))\n"
        "rng = np.random.default_rng(0)\n"
        "found = candidate_entries(host, {'Ca', 'Zn', 'Ni', 'Mn', 'Sr'}, 'likely', rng)\n"
        "print([entry.element for entry in found])\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    }
    assert len(said) == 1
    assert "Ca" in said.pop()
