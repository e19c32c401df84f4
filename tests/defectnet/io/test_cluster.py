"""Rows from a cluster that has fallen silent, and its failures in one sentence."""

import threading
from collections.abc import Callable, Iterator

import pytest

from defectnet.errors import StorageError, TableError
from defectnet.io.cluster import cluster_failure, require_room, warn_when_silent

NEVER_S = 60.0


def test_rows_come_in_order_and_nobody_looks() -> None:
    def look() -> None:
        raise AssertionError("rows came all the time")

    assert list(warn_when_silent(iter(range(100)), look, NEVER_S)) == list(range(100))
    assert list(warn_when_silent(iter([None, 0]), look, NEVER_S)) == [None, 0]
    assert list(warn_when_silent(iter(()), look, NEVER_S)) == []


def test_an_error_of_the_rows_comes_after_them() -> None:
    def rows() -> Iterator[int]:
        yield 1
        raise TableError("torn")

    taken = warn_when_silent(rows(), lambda: None, NEVER_S)
    assert next(taken) == 1
    with pytest.raises(TableError, match="torn"):
        next(taken)


def test_silence_is_looked_into_and_what_is_found_is_said(caplog: pytest.LogCaptureFixture) -> None:
    go_on = threading.Event()
    looks = []

    def rows() -> Iterator[int]:
        yield 1
        assert go_on.wait(NEVER_S)
        yield 2

    def look() -> None:
        looks.append(1)
        if len(looks) == 3:
            go_on.set()
        raise StorageError("the object store is full")

    assert list(warn_when_silent(rows(), look, 0.01)) == [1, 2]
    assert len(looks) >= 3
    assert "waiting: the object store is full" in caplog.text


def test_nobody_looks_any_more_once_the_rows_are_left() -> None:
    taken = warn_when_silent(iter(range(9)), lambda: None, NEVER_S)
    assert next(taken) == 0
    watchers = [thread for thread in threading.enumerate() if thread.name == "silence"]
    assert watchers
    taken.close()  # type: ignore[attr-defined]  # a generator
    assert not any(thread.is_alive() for thread in watchers)


def test_a_full_store_is_a_storage_error_and_any_other_failure_stays_what_it_is() -> None:
    held: list[bytes] = []

    def refuse(error: Exception) -> Callable[[bytes], object]:
        def put(_: bytes) -> object:
            raise error

        return put

    require_room(held.append, (MemoryError,))
    assert [len(one) for one in held] == [1_000_000]
    with pytest.raises(StorageError, match="object store"):
        require_room(refuse(MemoryError()), (MemoryError,))
    with pytest.raises(KeyError):
        require_room(refuse(KeyError()), (MemoryError,))


def test_a_page_becomes_a_sentence() -> None:
    error = RuntimeError("Traceback\n  File ...\nActorDiedError: the node is gone" + "." * 300)
    said = str(cluster_failure("scoring", error, "run again"))
    assert said.startswith("scoring was cut off (ActorDiedError: the node is gone")
    assert said.endswith("); run again")
    assert len(said) < 250
    assert "KeyError" in str(cluster_failure("scoring", KeyError(), "run again"))
