"""The broker of one machine: a folder with one file for each message. It carries hints only, so it may lose one.

kombu has such a transport, `filesystem://`, but it writes messages in place and reads any file: an empty or partial
file (its writer was killed, or has not finished) ends the whole Celery worker with a JSONDecodeError and exit status 0
(kombu 5.7.0, measured), and a partial exchange file does so at every start. Here a message appears by rename and is
taken by rename; one that cannot be read is dropped (the relay sends its hint again); and bindings live in memory, since
every process declares its own.
"""

import json
import logging
import os
import time
from pathlib import Path
from queue import Empty
from typing import Any
from uuid import uuid4

from kombu.transport import virtual

from model.storage import make_folder

_log = logging.getLogger(__name__)


class Channel(virtual.Channel):
    """Messages of a queue are the files `*.QUEUE.msg` of the folder, oldest first."""

    @property
    def _folder(self) -> Path:
        folder = Path(self.connection.client.transport_options["folder"])
        make_folder(folder)
        return folder

    def _put(self, queue: str, message: Any, **_: Any) -> None:
        name = f"{time.time_ns()}_{uuid4().hex}.{queue}.msg"
        temporary = self._folder / f".{name}"
        temporary.write_text(json.dumps(message), encoding="utf-8")
        temporary.replace(self._folder / name)

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        for path in self._messages(queue):
            taken = self._folder / f".taken-{uuid4().hex}"
            try:
                path.rename(taken)
            except FileNotFoundError:  # another worker was faster
                continue
            data = taken.read_bytes()
            taken.unlink()
            try:
                payload = json.loads(data)
                payload["properties"]["delivery_tag"]
            except (ValueError, KeyError, TypeError, RecursionError):
                _log.warning("dropped an unreadable message")
                continue
            return payload
        raise Empty

    def _purge(self, queue: str) -> int:
        messages = self._messages(queue)
        for path in messages:
            path.unlink(missing_ok=True)
        return len(messages)

    def _size(self, queue: str) -> int:
        return len(self._messages(queue))

    def _messages(self, queue: str) -> list[Path]:
        end = f".{queue}.msg"
        names = (name for name in os.listdir(self._folder) if name.endswith(end) and not name.startswith("."))
        return [self._folder / name for name in sorted(names)]


class Transport(virtual.Transport):
    """The transport option `folder` names the folder."""

    Channel = Channel
    driver_type = driver_name = "folder"
    polling_interval = 0.25  # seconds between looks

    def driver_version(self) -> str:
        """The transport needs no other program that would have a version."""
        return "1"
