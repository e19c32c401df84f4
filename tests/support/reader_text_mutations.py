"""Tables of text, odd or damaged: columns, units, separators, encodings, lines."""

import numpy as np

from support.reader_mutant import NAMES, Mutant, Rng, base_of, rows_of, table_of, text_of


def separators(rng: Rng) -> Mutant:
    base = base_of(rng)
    separator = str(rng.choice([",", ";", "\t", ", ", " ; ", " , "]))
    return text_of(
        "separators",
        base,
        table_of(rng, base, separator, int(rng.integers(2, 4))),
        str(rng.choice(["\n", "\r\n", "\r"])),
    )


def encodings(rng: Rng) -> Mutant:
    base = base_of(rng)
    encoding = str(rng.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "latin-1", "cp1252", "utf-32"]))
    lines = [line.replace("ν", "f").replace("⁻¹", "-1") for line in table_of(rng, base)]
    return text_of(
        "encodings", base, ["# cell 5.43 Å, 20 °C" if encoding != "utf-32" else "# cell", *lines], encoding=encoding
    )


def decimal_commas(rng: Rng) -> Mutant:
    base = base_of(rng)
    separator = str(rng.choice([";", "\t", "; "]))
    head, *rows = table_of(rng, base, separator, int(rng.integers(2, 4)))
    return text_of("decimal commas", base, [head, *(row.replace(".", ",") for row in rows)])


def decimal_commas_and_commas(rng: Rng) -> Mutant:
    base = base_of(rng)
    head, *rows = table_of(rng, base)
    if rng.random() < 0.5:
        rows = [f"{i},{y}" for i, y in enumerate((f"{y:.4f}" for y in base.y), start=1)]
    lines = [row.replace(".", ",") for row in rows]
    lines = lines if rng.random() < 0.4 else [head, *lines]
    return Mutant(
        "decimal commas and commas",
        "x.csv",
        "\n".join(lines).encode(),
        None,
        unit=base.unit if rng.random() < 0.5 else None,
    )


def quotes(rng: Rng) -> Mutant:
    base = base_of(rng)
    quote = str(rng.choice(['"', "'"]))
    separator = str(rng.choice([",", ";", "\t"]))
    lines = [
        separator.join(f"{quote}{cell}{quote}" for cell in line.split(separator))
        for line in table_of(rng, base, separator)
    ]
    return text_of("quotes", base, lines)


def row_numbers(rng: Rng) -> Mutant:
    base = base_of(rng)
    separator = str(rng.choice([",", ";", "\t"]))
    head, *rows = table_of(rng, base, separator, int(rng.integers(2, 4)))
    start = int(rng.integers(0, 2))
    name = str(rng.choice(["", "index", "Unnamed: 0"]))
    numbered = [f"{i}{separator}{row}" for i, row in enumerate(rows, start=start)]
    return text_of("row numbers", base, [f"{name}{separator}{head}", *numbered])


def other_order(rng: Rng) -> Mutant:
    """Named columns in any order, among them some that are no density."""
    base = base_of(rng)
    axis = str(rng.choice(NAMES[base.unit]))
    columns = {axis: base.x, "dos": base.y}
    if rng.random() < 0.6:
        columns["error"] = base.error
    if rng.random() < 0.3:
        columns["int_dos"] = np.cumsum(base.y)
    names = list(columns)
    rng.shuffle(names)
    rows = [",".join(f"{columns[name][i]:.6f}" for name in names) for i in range(base.x.size)]
    return text_of("other order", base, [",".join(names), *rows])


def unknown_column(rng: Rng) -> Mutant:
    """Two columns that could be the density: no answer but a question."""
    base = base_of(rng)
    names = [str(rng.choice(NAMES[base.unit])), "Raw counts", "dos"]
    rows = [f"{x:.6f},{100 * np.sin(x) ** 2 + 1:.6f},{y:.6f}" for x, y in zip(base.x, base.y, strict=True)]
    return Mutant("unknown column", "x.csv", "\n".join([",".join(names), *rows, ""]).encode(), None)


def edges_of_bins(rng: Rng) -> Mutant:
    base = base_of(rng)
    half = 0.5 * (base.x[1] - base.x[0])
    rows = [f"{x - half:.6f} {x + half:.6f} {y:.6f}" for x, y in zip(base.x, base.y, strict=True)]
    head = f"# E_lo({base.unit}) E_hi({base.unit}) g(E)" if rng.random() < 0.5 else ""
    return text_of("edges of bins", base, ([head] if head else []) + rows, unit=None if head else base.unit)


def no_unit(rng: Rng) -> Mutant:
    base = base_of(rng)
    remark = str(
        rng.choice(
            ["# instrument: Ei = 60 meV", "# resolution FWHM 5 cm-1", "# 300 K, 2 THz step", "# sample 4 meV away"]
        )
    )
    lines = [*([remark] if rng.random() < 0.7 else []), "frequency,dos", *rows_of(base, ",")]
    return Mutant("no unit", "x.csv", "\n".join([*lines, ""]).encode(), None)


def remarks_with_units(rng: Rng) -> Mutant:
    base = base_of(rng)
    remarks = [
        "# instrument: Ei = 60 meV",
        "# FWHM 5 cm-1",
        "# step 0.1 THz",
        "# T = 300 K",
        "# cutoff (eV): 500",
        "# density in 1/THz",
    ]
    head, *rows = table_of(rng, base)
    lines = [*rng.choice(remarks, 2), f"# {head}", *rng.choice(remarks, int(rng.integers(0, 3))), *rows]
    return text_of("remarks with units", base, [str(line) for line in lines])


def contradiction(rng: Rng) -> Mutant:
    base = base_of(rng)
    other = str(rng.choice([unit for unit in ("THz", "meV", "cm-1") if unit != base.unit]))
    lines = table_of(rng, base)
    if rng.random() < 0.5:
        return Mutant("contradiction", "x.csv", "\n".join([*lines, ""]).encode(), None, unit=other)
    return Mutant("contradiction", "x.csv", "\n".join([f"# unit: {other}", *lines, ""]).encode(), None)


def angular(rng: Rng) -> Mutant:
    base = base_of(rng)
    name = str(
        rng.choice(["omega (2pi THz)", "omega (rad/ps)", "angular frequency (THz)", "ω (2π THz)", "w (rad THz)"])
    )
    unit = "THz" if rng.random() < 0.3 else None
    return Mutant("angular", "x.dat", "\n".join([f"# {name}   DOS", *rows_of(base, " "), ""]).encode(), None, unit=unit)


def other_units(rng: Rng) -> Mutant:
    base = base_of(rng)
    name, thz = [("eV", 241.79892420849), ("GHz", 1e-3), ("µeV", 0.241798924e-3), ("Ha", 6579.683920502)][
        int(rng.integers(0, 4))
    ]
    rows = [f"{x / thz:.10g},{y:.6f}" for x, y in zip(base.thz, base.y, strict=True)]
    return text_of("other units", base, [f"Energy ({name}),DOS", *rows])


def nan_ends(rng: Rng) -> Mutant:
    base = base_of(rng)
    n, m = (int(k) for k in rng.integers(0, 6, 2))
    rows = rows_of(base, ",")
    word = str(rng.choice(["nan", "NaN", ""]))
    rows = [f"{row.split(',')[0]},{word}" if i < n or i >= len(rows) - m else row for i, row in enumerate(rows)]
    kept = slice(n, base.x.size - m)
    head = table_of(rng, base)[0]
    return Mutant("NaN at the ends", "x.csv", "\n".join([head, *rows, ""]).encode(), base.thz[kept], base.y[kept])


def nan_inside(rng: Rng) -> Mutant:
    base = base_of(rng)
    lines = table_of(rng, base)
    at = int(rng.integers(5, len(lines) - 5))
    word = str(rng.choice(["nan", "inf", "-", "****", "lots", "1e999", ""]))
    lines[at] = f"{lines[at].split(',')[0]},{word}"
    return Mutant("no number inside", "x.csv", "\n".join([*lines, ""]).encode(), None)


def cut(rng: Rng) -> Mutant:
    """Cut at any byte: what was read must be what stands there."""
    base = base_of(rng)
    lines = table_of(rng, base, str(rng.choice([",", " ", "\t"])).replace(" ", "  "))
    content = ("\n".join(lines) + "\n").encode()
    content = content[: int(rng.integers(0, len(content)))]
    return Mutant("cut", "x.csv", content, base.thz, base.y, more={"part": "yes"})


def lost_lines(rng: Rng) -> Mutant:
    base = base_of(rng)
    head, *rows = table_of(rng, base)
    keep = np.sort(rng.choice(base.x.size, base.x.size - int(rng.integers(1, 8)), replace=False))
    return Mutant(
        "lost lines", "x.csv", "\n".join([head, *(rows[i] for i in keep), ""]).encode(), base.thz[keep], base.y[keep]
    )


def doubled_lines(rng: Rng) -> Mutant:
    base = base_of(rng)
    head, *rows = table_of(rng, base)
    at = int(rng.integers(0, len(rows)))
    return Mutant("doubled lines", "x.csv", "\n".join([head, *rows[:at], rows[at], *rows[at:], ""]).encode(), None)


def shuffled_lines(rng: Rng) -> Mutant:
    base = base_of(rng)
    head, *rows = table_of(rng, base)
    rng.shuffle(rows)
    return Mutant("shuffled lines", "x.csv", "\n".join([head, *rows, ""]).encode(), None)


def falling(rng: Rng) -> Mutant:
    base = base_of(rng)
    head, *rows = table_of(rng, base)
    return text_of("falling axis", base, [head, *reversed(rows)])


def gain_side(rng: Rng) -> Mutant:
    base = base_of(rng)
    rows = [f"{-x:.6f},{y:.6f}" for x, y in zip(base.x[::-1], base.y[::-1], strict=True)]
    more = [f"{x:.6f},0.01" for x in base.x[:10]]
    return Mutant("energy gain", "x.csv", "\n".join([table_of(rng, base)[0], *rows, *more, ""]).encode(), None)


def fortran(rng: Rng) -> Mutant:
    base = base_of(rng)
    rows = [f"{x:.6E} {y:.6E}".replace("E", "D") for x, y in zip(base.x, base.y, strict=True)]
    if rng.random() < 0.5:
        rows[-1] = f"{base.x[-1]:.6E} 1.2345-104"
    return text_of("Fortran", base, [f"# {NAMES[base.unit][0]} DOS", *rows])


def blanks_and_comments(rng: Rng) -> Mutant:
    base = base_of(rng)
    lines = [f"# {table_of(rng, base, '   ')[0]}", *rows_of(base, "   ")]
    for _ in range(int(rng.integers(1, 6))):
        lines.insert(
            int(rng.integers(1, len(lines))), str(rng.choice(["", "# a remark", "   ", "! another", "% 3 4 5"]))
        )
    return text_of(
        "blanks and comments",
        base,
        [
            f"  {line}  # ok" if rng.random() < 0.05 and not line.startswith(("#", "!", "%")) and line.strip() else line
            for line in lines
        ],
    )


def trailing(rng: Rng) -> Mutant:
    base = base_of(rng)
    separator = str(rng.choice([",", ";", "\t"]))
    return text_of(
        "trailing separators",
        base,
        [line + separator for line in table_of(rng, base, separator)],
    )


def two_spectra(rng: Rng) -> Mutant:
    base = base_of(rng)
    head, *rows = table_of(rng, base)
    between = str(rng.choice(["", "# second", "2"]))
    content = "\n".join([head, *rows, between, *rows, ""]).encode()
    return Mutant("two spectra", "x.csv", content, None)
