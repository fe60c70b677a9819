"""The folder broker: whole messages, and nothing that a torn one could do."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.transport import filesystem

from tests.patience import PATIENCE
from worker.broker import Transport


@contextmanager
def queue(folder: Path, transport: Any = Transport) -> Iterator[Any]:
    options = {"folder": str(folder), "data_folder_in": str(folder), "data_folder_out": str(folder)}
    options["control_folder"] = str(folder / "control")
    with (
        Connection("folder://localhost", transport=transport, transport_options=options) as connection,  # type: ignore[no-untyped-call]
        connection.SimpleQueue("hints", serializer="json") as simple,
    ):
        yield simple


def take(simple: Any) -> Any:
    message = simple.get(timeout=PATIENCE)
    message.ack()
    return message.payload


def test_a_message_comes_back_once_and_whole(tmp_path: Path) -> None:
    with queue(tmp_path) as simple:
        simple.put({"id": "é"})
        assert take(simple) == {"id": "é"}
        with pytest.raises(Empty):
            simple.get(block=False)


@pytest.mark.parametrize("torn", [b"", b'{"body', b"\xff\x80", b"[]", b"{}", b"[" * 100_000])
def test_a_torn_message_is_dropped_and_the_next_one_arrives(tmp_path: Path, torn: bytes) -> None:
    with queue(tmp_path) as simple:
        (tmp_path / "0_a.hints.msg").write_bytes(torn)
        simple.put("next")
        assert take(simple) == "next"
    assert list(tmp_path.glob("*.msg")) == []


def test_kombus_own_transport_fails_on_a_torn_message(tmp_path: Path) -> None:
    """The precondition of ours."""
    with queue(tmp_path, filesystem.Transport) as simple:
        (tmp_path / "0_a.hints.msg").write_bytes(b"")
        with pytest.raises(json.JSONDecodeError):
            simple.get(timeout=2)


def test_many_readers_and_a_writer_lose_and_double_nothing(tmp_path: Path) -> None:
    received: list[int] = []
    done = threading.Event()

    def read() -> None:
        with queue(tmp_path) as simple:
            while True:
                last = done.is_set()  # before the look: what is put after it is looked for once more
                try:
                    message = simple.get(block=False)
                except Empty:
                    if last:
                        return
                    continue
                message.ack()
                received.append(message.payload)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    with queue(tmp_path) as simple:
        for number in range(200):
            simple.put(number)
    done.set()
    for reader in readers:
        reader.join()
    assert sorted(received) == list(range(200))
