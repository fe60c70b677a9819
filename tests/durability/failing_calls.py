"""Lets chosen calls of running processes fail: `failing_calls.c`, preloaded, and the file that orders it."""

import errno
import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["open", "write", "fsync", "name", "mmap", "accept"]
KINDS: tuple[Kind, ...] = ("open", "write", "fsync", "name", "mmap", "accept")
ERRORS: dict[Kind, tuple[int, ...]] = {  # what each kind fails with
    "open": (errno.EIO, errno.ENOSPC, errno.EMFILE),
    "write": (errno.EIO, errno.ENOSPC),
    "fsync": (errno.EIO, errno.ENOSPC),
    "name": (errno.EIO, errno.ENOSPC),
    "mmap": (errno.EIO, errno.ENOMEM),
    "accept": (errno.EMFILE, errno.ECONNABORTED),
}
EVER = 1 << 62  # as the number of calls that fail: all from the first one on
_CONTROL = struct.Struct("=IiQQQQq1024s1024s")
_SOURCE = Path(__file__).with_name("failing_calls.c")


@dataclass(frozen=True)
class Fault:
    """The `nth` call of a kind fails with `error`, and `count - 1` calls after it."""

    kind: Kind
    error: int
    nth: int
    count: int = 1

    @property
    def error_name(self) -> str:
        """Such as ENOSPC."""
        return errno.errorcode[self.error]

    def __str__(self) -> str:
        more = "" if self.count == 1 else " and all after it" if self.count == EVER else f" and {self.count - 1} more"
        return f"{self.kind} {self.nth}{more}: {self.error_name}"


class FailingCalls:
    """Faults for the programs that are started with `environment`."""

    def __init__(self, library: Path, file: Path) -> None:
        file.write_bytes(bytes(_CONTROL.size))
        with file.open("r+b") as stream:
            self._control = mmap.mmap(stream.fileno(), _CONTROL.size)
        self.environment = {"LD_PRELOAD": str(library), "CALLS_CONTROL": str(file)}

    @contextmanager
    def fail_calls(self, fault: Fault, session: int, root: Path) -> Iterator[None]:
        """Count the calls of a session's processes on files below `root` in the block, and fail them as ordered."""
        kind, last = KINDS.index(fault.kind) + 1, min(fault.nth + fault.count - 1, EVER)
        order = _CONTROL.pack(kind, fault.error, fault.nth, last, 0, 0, session, os.fsencode(root.resolve()), b"")
        self._control[4:] = order[4:]
        self._control[:4] = order[:4]  # last: until then nothing fails
        try:
            yield
        finally:
            self._control[:4] = bytes(4)

    @property
    def seen(self) -> int:
        """How many calls of that kind there were."""
        return int(_CONTROL.unpack(self._control)[4])

    @property
    def failed(self) -> int:
        """How many calls failed since the last fault was set."""
        return int(_CONTROL.unpack(self._control)[5])

    @property
    def where(self) -> str:
        """The path of the first one that failed; empty when none did."""
        return os.fsdecode(_CONTROL.unpack(self._control)[8].rstrip(b"\0"))


def build(folder: Path) -> Path | None:
    """Return the compiled library; None where there is no C compiler."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        return None
    library = folder / "failing_calls.so"
    subprocess.run([compiler, "-O2", "-fPIC", "-shared", "-o", library, _SOURCE, "-ldl"], check=True)
    return library
