"""Writes `docs/formats.md` from the readers themselves and from their example files.

make formats
"""

from pathlib import Path

from defectnet.errors import UnitError
from defectnet.readers import FORMATS, Format, Reading, read_file
from defectnet.readers.not_read import NOT_READ

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLES = REPOSITORY / "tests" / "data" / "formats"
PAGE = REPOSITORY / "docs" / "formats.md"

_HEAD = """# File formats

A reader is chosen by what is in the file, whatever its name; compressed files (.gz, .xz, .bz2) are read as they are.
The axis may be in THz, meV, cm⁻¹ or another unit of an energy or frequency that the file names. A file that does not
say its unit needs `--unit`; nothing is guessed, and an angular frequency is named and refused. A file that says
another unit than `--unit` is refused too; where the file is wrong, `--override-unit` reads it in the caller's, and a
warning names both (on the page a press on the unit does). `defectnet inspect FILE` says how a file is
read, with a sketch of it:

```bash
defectnet inspect examples/Si.csv
```

This page is written by `make formats` from the readers themselves. DefectNet's own Parquet, many spectra each with
its own host, is the one format that is not in the table.
"""
_MIDDLE = """
Where a file holds several columns or several spectra that could be meant, they are listed, and `--column` or
`--spectrum` names one. Counts in bins of unequal width are divided by the widths, points without a value at the ends
are left out, an empty tail beyond any phonon is cut, a falling axis is turned: each with a note. A peak at zero
energy, density at negative energies, a range that is cut off: each with a warning.

What the *reference's* file says of itself counts as much. A reference that is weighted otherwise than the sample is
weighted alike where it holds the elements' parts, else refused; where both files say their smoothing, the sharper
spectrum is broadened; where one looks like the other broadened, a warning says so. `--resolution` is for computed
references.

Standard errors widen the answer's intervals, weigh the fit of `--check` and are drawn; the service takes them as
`uncertainty`, and so does a table of spectra: an optional column `uncertainty` beside `dos`, per THz, one for each bin,
NaN or null where there is none (version 1.1 of the table, `defectnet/io/tables.py`; tables without it are read as
before). Errors of neighbouring bins are taken to be independent: bins finer than the points of the measurement have
larger ones (`Spectrum.resampled_error`). A CSV of labels for `defectnet finetune` takes them from the files that it
names; fine-tuning itself does not weigh by them.

## Examples

Small files of `tests/data/formats`, each of an invented spectrum, and what `defectnet inspect` says of it. Where the
file does not say its unit, `--unit THz` was given.
"""
_NOT_READ = """
## Known and not read

These are recognised, and the refusal says what to give instead. Raman, infrared and absorption data are refused by
name, so are difference spectra (negative densities), meshes too coarse for a density, and files that are cut short.
Nothing in a file is ever executed, and no class is made from a name in it.

| file | give instead |
|---|---|
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The page's text."""
    rows = ["| file | what is read | who says the unit | may be chosen |", "|---|---|---|---|"]
    rows += [
        f"| {form.name} | {form.read_as} | {form.unit} | {', '.join(f'`--{c}`' for c in form.chooses)} |"
        for form in FORMATS
    ]
    examples = [f"- `{form.example}`: {read_example(form).summary}" for form in FORMATS]
    others = [f"| {known.name} | {known.instead} |" for known in NOT_READ]
    return "\n".join([_HEAD, *rows, _MIDDLE.rstrip(), "", *examples, _NOT_READ.rstrip(), *others, ""])


def read_example(form: Format) -> Reading:
    """The example of a format; in THz where its file does not say."""
    try:
        return read_file(EXAMPLES / form.example)
    except UnitError:
        return read_file(EXAMPLES / form.example, "THz")


if __name__ == "__main__":
    main()
