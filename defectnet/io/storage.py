"""Files by path or by URI: the local disk, or an object store that pyarrow knows (s3://, gs://, abfs://, hdfs://).

Credentials, region and endpoint of an object store come from the environment (for S3: AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL), never from the URI, which ends up in logs and metadata.
"""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from defectnet.errors import InputError, StorageError

__all__ = ["Location", "reason"]

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Location:
    """A file or folder, wherever it is. It crosses process borders as its text.

    Attributes:
        text: a path or a URI, as the user knows it; a relative path is one of this process.
    """

    text: str

    @classmethod
    def of(cls, where: "str | Path | Location", *, field: str = "path") -> "Location":
        """Check `where`; a local path becomes absolute, for other processes have other working folders.

        Raises:
            InputError: a URI of an unknown kind, or one that carries credentials.
        """
        if isinstance(where, Location):
            return where
        text = str(where)
        if not _SCHEME.match(text):
            return cls(str(Path(text).absolute()))
        if urlsplit(text).username is not None:
            hidden = re.sub(r"//[^@]*@", "//…@", text)
            raise InputError(f"{hidden} carries credentials", fix="put them into the environment", field=field)
        location = cls(text.rstrip("/"))
        try:
            location._resolved()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(
                f"cannot use {text} ({reason(error)})",
                fix="give a path, or a URI such as s3://bucket/folder",
                field=field,
            ) from None
        return location

    def __str__(self) -> str:
        return self.text

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.text.split("?", 1)[0].rsplit("/", 1)[-1]

    def child(self, name: str) -> "Location":
        """What `name` is in this folder."""
        path, mark, query = self.text.partition("?")
        return Location(f"{path}/{name}{mark}{query}")

    def is_folder(self) -> bool:
        """Whether it is a folder; raises `StorageError` where the store cannot be asked."""
        return self._info().type == fs.FileType.Directory

    def is_file(self) -> bool:
        """Whether it is a file; raises `StorageError` where the store cannot be asked."""
        return self._info().type == fs.FileType.File

    def files(self, *suffixes: str) -> list["Location"]:
        """The files of this folder whose names end in one of `suffixes`, in name order; empty where it is none.

        Names that begin with a dot or an underscore are no data.
        """
        filesystem, path = self._resolved()
        with _one_sentence(f"cannot list {self}"):
            found = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
        names = sorted(info.base_name for info in found if info.type == fs.FileType.File)
        return [self.child(name) for name in names if name.endswith(suffixes) and name[0] not in "._"]

    def open(self) -> pa.NativeFile:
        """Open it for reading at any place; raises `OSError`, as opening a local file does."""
        filesystem, path = self._resolved()
        return filesystem.open_input_file(path)

    def write(self, content: bytes | pa.Buffer) -> None:
        """Write the file, making its folder: whole or not at all, whoever else writes the same name meanwhile.

        A local file is moved into place; an object appears when its upload ends.

        Raises:
            StorageError: the disk is full, or the store refuses or cannot be reached.
        """
        filesystem, path = self._resolved()
        with _one_sentence(f"cannot write {self}", "make room or check the store"):
            if not isinstance(filesystem, fs.LocalFileSystem):
                with filesystem.open_output_stream(path) as stream:
                    stream.write(content)
                return
            target = Path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            # A name of its own: a process that is thought dead and its successor may write the same file at once.
            partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}{_PARTIAL}")
            try:
                partial.write_bytes(content)
                partial.replace(target)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise

    def remove(self, name: str) -> None:
        """Delete a file of this folder if it is there; raises `StorageError` where the store refuses."""
        child = self.child(name)
        if child.is_file():
            filesystem, path = child._resolved()
            with _one_sentence(f"cannot delete {child}"):
                filesystem.delete_file(path)

    def sweep(self) -> None:
        """Delete what writers that were killed left half-written in this folder; only when no writer is left."""
        filesystem, path = self._resolved()
        if isinstance(filesystem, fs.LocalFileSystem):
            for partial in Path(path).glob(f".*{_PARTIAL}"):
                partial.unlink(missing_ok=True)

    def _info(self) -> fs.FileInfo:
        filesystem, path = self._resolved()
        with _one_sentence(f"cannot reach {self}"):
            return filesystem.get_file_info(path)

    def _resolved(self) -> tuple[fs.FileSystem, str]:
        return _resolve(self.text)


@lru_cache(maxsize=256)
def _resolve(text: str) -> tuple[fs.FileSystem, str]:
    """The file system and the path in it; kept, for a new S3 client has new connections to make."""
    if _SCHEME.match(text):
        resolved: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(text)
        return resolved
    return fs.LocalFileSystem(), text


def reason(error: Exception) -> str:
    """The first line of what a library said, at most 160 characters."""
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


@contextmanager
def _one_sentence(what: str, fix: str = "check the store and the rights to it") -> Iterator[None]:
    """Turn what a file system raises into one sentence."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        said = getattr(error, "strerror", None) or reason(error)
        raise StorageError(f"{what} ({said}); {fix}, and run again") from error
