"""Formats that people have, that are recognised and not read: each is named, with what to export in its place."""

import re

from defectnet.readers.registry import NotRead

__all__ = ["HDF5_NOT_READ", "NOT_READ"]

_COLUMNS = "export two columns of text, frequency and density"
_DOS = "write the density of states (total_dos.dat), or give phonopy.yaml with force constants"


def _magic(name: str, instead: str, *starts: bytes) -> NotRead:
    return NotRead(name, instead, lambda source: source.content.startswith(starts))


def _words(name: str, instead: str, pattern: str, flags: re.RegexFlag = re.MULTILINE) -> NotRead:
    compiled = re.compile(pattern, flags)
    return NotRead(name, instead, lambda source: compiled.search(source.head[:4000]) is not None)


def _suffix(name: str, instead: str, *suffixes: str) -> NotRead:
    return NotRead(name, instead, lambda source: source.stem.endswith(suffixes))


def _h5(name: str, instead: str, *names: str) -> NotRead:
    return NotRead(name, instead, lambda source: source.holds(*names))


# HDF5 of programs whose data are no spectrum, known by the names in it; whatever other HDF5 there is may be NeXus.
HDF5_NOT_READ: tuple[NotRead, ...] = (
    _h5("phonopy's band.hdf5", "a band structure is no density of states; " + _DOS, "path", "distance"),
    _h5("phonopy's force_constants.hdf5", "give phonopy.yaml beside it", "force_constants"),
    _h5("phonopy's qpoints.hdf5", _DOS, "frequency", "masses"),
    _h5("VASP's vaspout.h5", _DOS, "results", "version"),
    _h5("a histogram of multiphonon (HDF5)", _COLUMNS, "I", "grid"),
)

# In the order in which they are tried; those known by their suffix alone come last, and only for what is no text.
NOT_READ: tuple[NotRead, ...] = (
    *HDF5_NOT_READ,
    _magic("an old Excel workbook (.xls)", "save it as .xlsx or CSV", b"\xd0\xcf\x11\xe0"),
    _magic(
        "a picture or PDF",
        "give the numbers, not their picture",
        b"\x89PNG",
        b"\xff\xd8\xff",
        b"%PDF",
        b"GIF8",
        b"II*\x00",
        b"MM\x00*",
    ),
    _magic("a MATLAB file", _COLUMNS + " (writematrix)", b"MATLAB 5.0", b"MATLAB 7.3"),
    _magic("a Renishaw WiRE file", "give a density of states, not a Raman spectrum", b"WDF1"),
    _magic("a Bruker OPUS file", "give a density of states, not an infrared spectrum", b"\x0a\x0a\xfe\xfe"),
    _magic("an Origin project", "export the worksheet as ASCII, with its names and units", b"CPYA", b"CPYUA"),
    _magic("an SQLite database", _COLUMNS, b"SQLite format 3"),
    _magic("an IDL save file (DAVE's .dave)", "export a .grp or columns of text from DAVE", b"SR\x00\x04"),
    _magic("a ROOT file", _COLUMNS, b"root\x00"),
    _magic(
        "an archive", "unpack it and give the file in it", b"PK\x03\x04", b"7z\xbc\xaf", b"Rar!", b"\x28\xb5\x2f\xfd"
    ),
    _magic(
        "a Python pickle", _COLUMNS + "; pickles are never opened", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"
    ),
    NotRead("a tar archive", "unpack it and give the file in it", lambda source: source.content[257:262] == b"ustar"),
    _words("JCAMP-DX", "export a density of states as columns of text", r"\A##(?:TITLE|JCAMP)", re.IGNORECASE),
    _words("XML, such as VASP's vasprun.xml", _DOS, r"\A<\?xml|\A<modeling", re.IGNORECASE),
    _words(
        "a crystal structure (CIF)",
        "give its spectrum; a structure belongs to --structure",
        r"^data_\S*\s*$[\s\S]*^_cell_length_a",
    ),
    _words(
        "a crystal structure",
        "give its spectrum; a structure belongs to --structure",
        r"\A.*\n\s*[\d.]+\s*\n(?:(?:\s+-?\d+\.\d+){3}\s*\n){3}\s*[A-Z]",
    ),
    _words("VASP's OUTCAR", _DOS, r"\A\s*vasp\.\d"),
    _words("a band structure, not a density of states", "give a mesh or a density", r"^(?:npath|segment_nqpoint)\s*:"),
    _words("phonopy's qpoints.yaml", _DOS, r"\Anqpoint\s*:"),
    _words("phonopy's thermal_properties.yaml", _DOS, r"^thermal_properties\s*:"),
    _words(
        "a namelist of Quantum ESPRESSO's bands (&plot)",
        "give the density that matdyn.x writes with dos=.true.",
        r"\A&plot\b",
        re.IGNORECASE,
    ),
    _words(
        "Quantum ESPRESSO's dynamical matrices or force constants",
        "give the density that matdyn.x writes with dos=.true.",
        r"\A\s*Dynamical matrix file|\A\s*Dynamical\s+Matrix in",
    ),
    _words("a program's input", _COLUMNS, r"\A&(?:control|input|system)\b", re.IGNORECASE),
    _words("a web page or other markup", _COLUMNS, r"\A<"),
    _words("text of Igor (.itx)", _COLUMNS, r"\AIGOR\s"),
    _words("LaTeX", _COLUMNS, r"\A\s*\\(?:begin|documentclass|hline)"),
    NotRead(
        "YAML, but none of phonopy's mesh.yaml and phonopy.yaml",
        _COLUMNS,
        lambda source: (
            source.stem.endswith((".yaml", ".yml"))
            and re.search(r"(?m)^[A-Za-z_]+\s*:\s", source.head[:2000]) is not None
            and re.search(r"(?m)^\s*[-\d.]+[\s,;]+[-\d.]+", source.head) is None
        ),
    ),
    NotRead("netCDF", _COLUMNS, lambda source: source.content.startswith(b"CDF")),
    NotRead(
        "not text",
        "give columns of text, NeXus, or a Parquet file of spectra",
        lambda source: source.decoded is None and not source.content.startswith(b"\x89HDF"),
    ),
)
