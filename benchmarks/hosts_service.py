"""A crystal that a user gives: the time from its CIF to a first answer by its responses, and the service's memory.

    make bench-hosts-service

The service runs as `defectnet serve` runs it, once with one process that holds the model and once with four. A cell of
silicon is given as a CIF, prepared by a Ray job, and named by the question that examples/Si.csv and its reference make;
its answer must be by that cell's own responses. Then a job is killed half-way and the file is given again, and two
crystals are given at once.

Memory is that of the processes that hold the model, after each has answered by comparison: `rss` counts what they share
in each of them, `pss` divides it among all who have it (`/proc/PID/smaps_rollup`).
"""

import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from asked_service import processes

from defectnet import Client, Query, read_query
from serving.local import running_service
from serving.settings import HostSettings, Replicas, ServiceSettings

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results" / "hosts_service.json"
# Lattice constants of primitive cells in Å, the measured 5.43 over √2 and cells strained from it: other files, other
# hosts.
MEASURED, KILLED, TOGETHER = 3.84, 3.85, (3.83, 3.86)
CIF = """data_Si
_cell_length_a {a}
_cell_length_b {a}
_cell_length_c {a}
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
Si1 Si 0.0 0.0 0.0
Si2 Si 0.25 0.25 0.25
"""
LONGEST_S = 900.0
# Questions a process, so that each of several has answered some.
ASKED = 40


def main() -> None:
    """Measure and write the figures."""
    figures: dict[str, Any] = {}
    question = read_query(
        REPOSITORY / "examples" / "Si.csv", "Si", reference=REPOSITORY / "examples" / "Si-pristine.csv"
    ).query
    with tempfile.TemporaryDirectory(prefix="defectnet-hosts-") as store:
        for count in (1, 4):
            began = time.monotonic()
            settings = ServiceSettings(
                model="released",
                port=0,
                replicas=Replicas(minimum=count, maximum=count, cpus=0.25),
                hosts=HostSettings(prepare=True, store=store),
            )
            suffix = f"{count}_replica{'s' * (count > 1)}"
            with running_service(settings) as url, Client(url, timeout_s=60.0) as client:
                figures[f"start_s_{suffix}"] = round(time.monotonic() - began, 1)
                if count == 1:
                    figures["cif_to_answer_s"] = round(cif_to_answer(client, question), 1)
                    figures |= killed_and_resumed(client)
                    figures["two_at_once_s"] = round(two_at_once(client), 1)
                for _ in range(ASKED * count):
                    client.predict([question])
                figures |= {f"{name.lower()}_mb_{suffix}": size for name, size in resident_mib(count).items()}
            write(figures)


def write(figures: dict[str, Any]) -> None:
    """What is known so far: a later part may fail."""
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))  # noqa: T201


def cif_to_answer(client: Client, question: Query) -> float:
    """Seconds from sending the CIF to the answer by its responses.

    Raises:
        RuntimeError: it was not answered by them.
    """
    began = time.monotonic()
    host = client.wait_for_host(give(client, MEASURED), LONGEST_S)
    (answer,) = client.predict([replace(question, host_id=host["host_id"])])
    if answer.fit is None or answer.fit.host_id != host["host_id"]:
        raise RuntimeError(f"not answered by {host['host_id']}: {answer}")
    found = ", ".join(f"{one.element} {one.concentration:.3f}" for one in answer.elements if one.present)
    sys.stderr.write(f"{found or 'nothing found'}, explains {answer.fit.explained:.2f}\n")
    return time.monotonic() - began


def killed_and_resumed(client: Client) -> dict[str, float | str]:
    """Kill a job once its force constants are there, and give the file again.

    Returns:
        how long each half took, s, and what the service said of the host in between.
    """
    began = time.monotonic()
    host_id = give(client, KILLED)
    while client.host(host_id)["step"] != "responses":
        if time.monotonic() - began > LONGEST_S:
            raise RuntimeError(f"{host_id} did not come as far as its responses")
        time.sleep(0.02)
    kill_job(host_id)
    while (host := client.host(host_id))["state"] in ("pending", "running"):
        time.sleep(0.2)
    if host["state"] == "ready":
        raise RuntimeError("it was ready before it could be killed")
    half_s, again = time.monotonic() - began, time.monotonic()
    give(client, KILLED)
    client.wait_for_host(host_id, LONGEST_S)
    return {
        "killed_after_s": round(half_s, 1),
        "killed_said": str(host["error"]),
        "resumed_s": round(time.monotonic() - again, 1),
    }


def kill_job(host_id: str) -> None:
    """Kill the processes that prepare a host, which name it in their command lines."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:  # it ended
            continue
        if b"datagen.uploaded_hosts" in command and host_id.encode() in command:
            os.kill(int(folder.name), signal.SIGKILL)


def two_at_once(client: Client) -> float:
    """Seconds until two crystals are ready that were given one right after the other."""
    began = time.monotonic()
    for host_id in [give(client, length) for length in TOGETHER]:
        client.wait_for_host(host_id, LONGEST_S)
    return time.monotonic() - began


def give(client: Client, length: float) -> str:
    """Give a cell of silicon; its id."""
    return str(client.give_host(CIF.format(a=length).encode(), "Si.cif")["host_id"])


def resident_mib(count: int) -> dict[str, int]:
    """Memory of the processes that hold the model, MiB, by kind of count."""
    pids = processes(os.getpid(), "ray::ServeReplica:defectnet:model")
    if len(pids) != count:
        raise RuntimeError(f"{len(pids)} processes hold the model where {count} should")
    total = dict.fromkeys(("Rss", "Pss"), 0)
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        for name in total:
            total[name] += next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
    return {name: round(size / 1024) for name, size in total.items()}


if __name__ == "__main__":
    main()
