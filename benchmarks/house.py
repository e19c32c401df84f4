"""The house in figures: modules, imports, circles, lengths, and what `--help` and a small installation cost.

make house
"""

import argparse
import ast
import json
import resource
import subprocess
import sys
from pathlib import Path

import grimp
from predict_only import REPOSITORY, measure
from writing import write_result

PACKAGES = ("defectnet", "datagen", "training", "serving")
# The best of so many runs: another process on the machine only ever makes it slower.
RUNS = 5


def main() -> None:
    """Count, measure, print and write `results/house.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-wheel", action="store_true", help="leave out the empty environment, which takes minutes")
    arguments = parser.parse_args()
    graph = grimp.build_graph(*PACKAGES)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in sorted(graph.modules)}
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in _sources()}
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in trees}
    functions = [
        (node.end_lineno - node.lineno + 1, f"{_name(path)}:{node.name}")
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
    ]
    figures: dict[str, object] = {
        "modules": len(imports),
        "edges": sum(map(len, imports.values())),
        "circles": circles(imports),
        "longest_function": dict(zip(("lines", "where"), max(functions), strict=True)),
        "functions_above_60": sorted(where for length, where in functions if length > 60),
        "longest_file": dict(zip(("lines", "where"), max((n, _name(p)) for p, n in lines.items()), strict=True)),
        "files_above_400": sorted(_name(path) for path, n in lines.items() if n > 400),
        "lines": sum(lines.values()),
        "help_cpu_s": min(cpu_s("-m", "defectnet", "--help") for _ in range(RUNS)),
        "import_cpu_s": min(cpu_s("-c", "import defectnet") for _ in range(RUNS)),
    }
    if not arguments.no_wheel:
        small = measure()
        figures |= {"predict_only_env_mb": small["env_mb"], "predict_only": small}
    write_result("house", figures)
    print(json.dumps(figures, indent=1))  # noqa: T201


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import one another around (strongly connected components of several), by Tarjan."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        path.append(module)
        for other in sorted(imports[module]):
            if other not in number:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in path:
                lowest[module] = min(lowest[module], number[other])
        if lowest[module] == number[module]:
            group = path[path.index(module) :]
            del path[path.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in imports:
        if module not in number:
            visit(module)
    return sorted(found)


def cpu_s(*arguments: str) -> float:
    """CPU seconds, user and system, of a Python process with these arguments."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, 3)


def _sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))


def _name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


if __name__ == "__main__":
    main()
