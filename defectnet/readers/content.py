"""The bytes of a file and the text in them: compression, encodings, and what the caller wishes to be read."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from defectnet.errors import InputError, SpectrumError
from defectnet.units import FrequencyUnit

__all__ = ["Source", "Wish", "load", "text_of"]

# What a compressed file may grow to: force constants of large cells take some hundred MB, a decompression bomb more.
_MAX_BYTES = 1 << 29
_COMPRESSED: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"BZh": bz2.BZ2File,
}
_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_HDF5 = b"\x89HDF\r\n\x1a\n"
# Control characters that no text holds; binary files are full of them.
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\v\x1a\x1b"))


@dataclass(frozen=True)
class Wish:
    """What the caller chooses, where a file leaves it open.

    Attributes:
        unit: of the axis, where the file does not say.
        override_unit: whether `unit` holds even where the file says another.
        column: name or number (from 1 on) of the density, in a table of several.
        spectrum: name or number (from 1 on) of the spectrum, in a file of several.
    """

    unit: FrequencyUnit | str | None = None
    column: str | None = None
    spectrum: str | None = None
    override_unit: bool = False


@dataclass(frozen=True)
class Source:
    """A file whose bytes are in memory, no longer compressed."""

    path: Path
    content: bytes
    wish: Wish = field(default_factory=Wish)

    @property
    def where(self) -> str:
        """The file's name, for messages."""
        return str(self.path)

    @property
    def stem(self) -> str:
        """The file's name without folders and without what says that it is compressed, in lower case."""
        name = self.path.name.lower()
        return next((name[: -len(end)] for end in (".gz", ".xz", ".bz2") if name.endswith(end)), name)

    @cached_property
    def decoded(self) -> tuple[str, str] | None:
        """The text and the encoding; None where the bytes are no text."""
        return text_of(self.content)

    @property
    def text(self) -> str:
        """The text; empty where the bytes are no text."""
        return self.decoded[0] if self.decoded else ""

    @cached_property
    def head(self) -> str:
        """The text's first characters, without blanks before them: enough to know a format by."""
        return self.text[:20_000].lstrip()

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of what lies at the top of an HDF5 file; empty for any other file."""
        if not self.content.startswith(_HDF5):
            return frozenset()
        import h5py

        try:
            with h5py.File(io.BytesIO(self.content), "r") as file:
                return frozenset(map(str, file))
        except (OSError, RuntimeError, ValueError, KeyError):
            return frozenset()

    def holds(self, *names: str) -> bool:
        """Whether it is an HDF5 file with all these names at its top."""
        return self.names.issuperset(names)


def load(path: Path, wish: Wish | None = None) -> Source:
    """Read a file, and decompress it where its bytes say that it is compressed.

    Raises:
        InputError: there is no such file.
        SpectrumError: the compressed data are damaged or too large.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})", fix="check the path", field="file") from None
    for magic, opened in _COMPRESSED.items():
        if content.startswith(magic):
            try:
                content = opened(io.BytesIO(content)).read(_MAX_BYTES + 1)
            except (OSError, EOFError, lzma.LZMAError, zlib.error):
                raise SpectrumError(
                    f"{path} is damaged: it cannot be decompressed", fix="write or copy it again", field="file"
                ) from None
            if len(content) > _MAX_BYTES:
                raise SpectrumError(f"{path} is too large", fix="give one spectrum", field="file")
            break
    return Source(path, content, wish or Wish())


def text_of(content: bytes) -> tuple[str, str] | None:
    """Decode text as instruments and spreadsheets write it: UTF-8, UTF-16 with or without its mark, Latin-1.

    Returns:
        the text and the encoding's name; None where the bytes are no text.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _decode(content, encoding)
    if content[1:400:2].count(0) > 0.9 * len(content[1:400:2]) > 0:
        return _decode(content, "utf-16-le")
    if content[0:400:2].count(0) > 0.9 * len(content[0:400:2]) > 0:
        return _decode(content, "utf-16-be")
    if len(content) != len(content.translate(None, _CONTROL)):
        return None
    return _decode(content, "utf-8-sig") or _decode(content, "cp1252") or _decode(content, "latin-1")


def _decode(content: bytes, encoding: str) -> tuple[str, str] | None:
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        return None
    if "\x00" in text:
        return None
    return text, encoding
