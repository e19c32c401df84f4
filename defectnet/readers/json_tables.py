"""Tables in JSON as pandas writes them: rows that are objects or lists, or columns by the names of their rows.

They are read as the same table in text: what stands beside the rows (a unit, a weighting, a title) as its header.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["json_tables"]

_MAX_DEPTH = 4
# Fewer rows are no spectrum, and may be any list.
_LEAST_ROWS = 3
# Words and figures beside the rows that may belong to a header.
_LONGEST_WORDS = 200


def json_tables(content: Any, label: str = "", beside: Mapping[str, Any] | None = None) -> Iterator[tuple[str, str]]:
    """Every table in the content of a JSON file: its place in the file, and the table as tab-separated text."""
    if label.count(".") > _MAX_DEPTH:
        return
    said = dict(beside or {})
    if isinstance(content, Mapping):
        said |= {key: value for key, value in content.items() if _is_word(value)}
    rows = _rows(content)
    if rows is not None:
        yield label, _text(*rows, said)
    elif isinstance(content, Mapping):
        for key, item in content.items():
            yield from json_tables(item, f"{label}.{key}" if label else str(key), said)


def _rows(content: Any) -> tuple[list[str], Sequence[Sequence[Any]]] | None:
    """The columns' names (none where they have none) and the rows of what is a table."""
    if isinstance(content, list) and len(content) >= _LEAST_ROWS:
        if all(isinstance(row, Mapping) for row in content):
            keys = list(dict.fromkeys(key for row in content for key in row))
            return _of_numbers([str(key) for key in keys], [[row.get(key) for key in keys] for row in content])
        if all(isinstance(row, list) and len(row) == len(content[0]) for row in content):
            return _of_numbers([], content)
    if isinstance(content, list) and len(content) in (2, 3):
        if all(isinstance(line, list) and len(line) == len(content[0]) >= _LEAST_ROWS for line in content):
            return _of_numbers([], list(zip(*content, strict=True)))
    elif isinstance(content, Mapping):
        names, data = content.get("columns"), content.get("data")
        if isinstance(names, list) and isinstance(data, list) and len(data) >= _LEAST_ROWS:
            if all(isinstance(row, list) and len(row) == len(names) for row in data):
                return _of_numbers([str(name) for name in names], data)
        else:
            return _of_columns(content)
    return None


def _of_columns(content: Mapping[str, Any]) -> tuple[list[str], Sequence[Sequence[Any]]] | None:
    """The table of a dictionary's lists, all of one length, or of its dictionaries, all with the same keys: columns, or
    rows where there are more of them than of their keys."""
    values = list(content.values())
    if (
        len(values) >= _LEAST_ROWS
        and all(isinstance(value, Mapping) for value in values)
        and len({tuple(value) for value in values}) == 1
        and 1 < len(values[0]) < len(values)
    ):
        return _of_numbers([str(key) for key in values[0]], [list(value.values()) for value in values])
    columns: dict[str, tuple[Any, list[Any]]] = {}
    for name, column in content.items():
        if isinstance(column, list) and len(column) >= _LEAST_ROWS and all(map(_is_cell, column)):
            columns[str(name)] = (len(column), column)
        elif isinstance(column, Mapping) and len(column) >= _LEAST_ROWS and all(map(_is_cell, column.values())):
            columns[str(name)] = (tuple(column), list(column.values()))
    if len(columns) < 2 or len({rows for rows, _ in columns.values()}) > 1:
        return None
    return _of_numbers(list(columns), list(zip(*(column for _, column in columns.values()), strict=True)))


def _of_numbers(names: list[str], rows: Sequence[Sequence[Any]]) -> tuple[list[str], Sequence[Sequence[Any]]] | None:
    """The table's columns that may hold numbers; None where there are not two."""
    kept = [place for place in range(len(rows[0])) if any(_is_number(row[place]) for row in rows)]
    if len(kept) < 2:
        return None
    return [names[place] for place in kept] if names else [], [[row[place] for place in kept] for row in rows]


def _text(names: list[str], rows: Sequence[Sequence[Any]], beside: Mapping[str, Any]) -> str:
    said = [f"# {key}: {value}" for key, value in beside.items() if value != ""]
    head = ["\t".join(_plain(name) for name in names)] if names else []
    body = ["\t".join("" if cell is None else _plain(cell) for cell in row) for row in rows]
    return "\n".join([*(_plain(line) for line in said), *head, *body]) + "\n"


def _plain(cell: Any) -> str:
    text = cell if isinstance(cell, str) else json.dumps(cell)
    return " ".join(text.split())


def _is_word(value: Any) -> bool:
    return isinstance(value, str | int | float) and len(str(value)) <= _LONGEST_WORDS


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _is_number(cell: Any) -> bool:
    if isinstance(cell, str):
        try:
            float(cell.replace(",", "."))
        except ValueError:
            return False
        return True
    return isinstance(cell, int | float) and not isinstance(cell, bool)
