"""A crystal that a user gives: the time from its CIF to a first answer that uses it, and the service's memory.

    make bench-hosts-service

The service runs as `defectnet serve` runs it, once with one process that holds the model and once with four. A cell of
silicon is given as a CIF, prepared by a Ray job, and taken as the reference of examples/Si.csv.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from faults import processes

from serving.local import running_service
from serving.settings import HostSettings, Replicas, ServiceSettings

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results" / "hosts_service.json"
# The primitive cell; its lattice constant is the measured 5.43 Å over √2.
CIF = """data_Si
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
Si1 Si 0.0 0.0 0.0
Si2 Si 0.25 0.25 0.25
"""
LONGEST_S = 900.0


def main() -> None:
    """Measure and write the figures."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="defectnet-hosts-") as store:
        for count in (1, 4):
            began = time.monotonic()
            settings = ServiceSettings(
                model="released",
                port=0,
                replicas=Replicas(minimum=count, maximum=count, cpus=0.25),
                hosts=HostSettings(prepare=True, store=store),
            )
            with running_service(settings) as url, httpx.Client(base_url=url, timeout=60.0, trust_env=False) as http:
                figures[f"start_s_{count}_replica{'s' * (count > 1)}"] = round(time.monotonic() - began, 1)
                if count == 1:
                    figures["cif_to_answer_s"] = round(cif_to_answer(http), 1)
                for _ in range(20 * count):  # so that each process has answered
                    http.get("/v1/hosts", params={"formula": "Si"}).raise_for_status()
                figures[f"rss_mb_{count}_replica{'s' * (count > 1)}"] = resident_mib()
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))  # noqa: T201


def cif_to_answer(http: httpx.Client) -> float:
    """Seconds from sending the CIF to the answer.

    Raises:
        RuntimeError: the host was not prepared.
    """
    began = time.monotonic()
    octets = {"content-type": "application/octet-stream"}
    host = http.post("/v1/hosts", params={"name": "Si.cif"}, content=CIF.encode(), headers=octets).json()
    while host.get("state") in ("pending", "running") and time.monotonic() - began < LONGEST_S:
        time.sleep(0.5)
        host = http.get(f"/v1/hosts/{host['host_id']}").json()
    if host.get("state") != "ready":
        raise RuntimeError(f"the host was not prepared: {host}")
    sample = (REPOSITORY / "examples" / "Si.csv").read_bytes()
    read = http.post("/v1/read", params={"name": "Si.csv"}, content=sample, headers=octets).json()["spectra"][0]
    reference = http.get(f"/v1/hosts/{host['host_id']}/spectrum").json()
    item = {
        "host": host["formula"],
        "unit": "THz",
        "frequency": read["frequency"],
        "dos": read["dos"],
        "reference": {"unit": "THz", "frequency": reference["frequency"], "dos": reference["dos"]},
    }
    answer = http.post("/v1/study", json={"spectra": [item]})
    answer.raise_for_status()
    sys.stderr.write(answer.json()["answers"][0]["said"]["sentence"] + "\n")
    return time.monotonic() - began


def resident_mib() -> int:
    """Memory of the processes that hold the model, shared pages divided among them (`Pss`), MiB."""
    total = 0
    for pid in processes(os.getpid(), "ray::ServeReplica:defectnet:model"):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return round(total / 1024)


if __name__ == "__main__":
    main()
