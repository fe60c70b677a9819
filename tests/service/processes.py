"""The service as a process of its own, with an encoder from `tests.doubles`; forked: a start takes 0.1 s and not 5."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import httpx

from tests.forked import CONTEXT, Forked, run_source
from tests.patience import PATIENCE
from tests.service.harness import ADMIN_KEY, wait_until

_SERVE = (
    "import sys; import service.__main__ as serve; from service import app; from tests import doubles; {constants};"
    "app.open_encoder = lambda settings: doubles.{encoder}; sys.exit(serve.main())"
)
_MODULE = "import runpy; runpy.run_module('{module}', run_name='__main__', alter_sys=True)"


class Program(Forked):
    """A process that runs `source`. Standard error goes to a file: no full pipe stops it."""

    def __init__(self, source: str, environment: Mapping[str, str]) -> None:
        reader, writer = CONTEXT.Pipe(duplex=False)
        self._errors = Path(tempfile.mkdtemp(prefix="program-")) / "stderr"
        self._errors.touch()
        super().__init__(run_source, source, environment=environment, log=self._errors, output=writer)
        writer.close()
        with reader:
            self.stdout = os.fdopen(os.dup(reader.fileno()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait(PATIENCE)
        self.stdout.close()

    def communicate(self, timeout: float = PATIENCE) -> tuple[str, str]:
        """Return what is left of its output, and all of its standard error; nothing the second time."""
        if self.stdout.closed:
            return "", ""
        with self.stdout:
            output = self.stdout.read()
        self.wait(timeout)
        errors = self._errors.read_text(encoding="utf-8")
        shutil.rmtree(self._errors.parent)
        return output, errors


def weightless(
    home: object, encoder: str = "WeightlessEncoder()", constants: str = "pass", **variables: str
) -> Program:
    """Start a service that prints its address, with a free port by default.

    `FAULT_POINT` is for `files.pass_fault_point`. It logs only errors, and refuses nothing because of a slow machine.
    """
    own = {"LOG_LEVEL": "error", "REQUEST_SECONDS": str(PATIENCE)}
    return _start(_SERVE.format(encoder=encoder, constants=constants), home, **{**own, **variables})


@contextmanager
def start_service(home: object, **more: str) -> Iterator[tuple[Program, httpx.Client]]:
    """Yield a ready service and a client of its administrator; the process is killed after the block."""
    server = weightless(home, ADMIN_KEY=ADMIN_KEY, FREE_BYTES="0", **more)
    try:
        address = server.stdout.readline().split()[-1]
        with httpx.Client(base_url=address, headers={"X-API-Key": ADMIN_KEY}, timeout=PATIENCE) as client:
            wait_until(lambda: answers(client, "/readyz") == 200)
            yield server, client
    finally:
        server.kill()
        server.communicate()


def run_module(name: str, home: object, **variables: str) -> tuple[int | None, str, str]:
    """Return the exit status of `python -m NAME`, which ends at once, and what it writes."""
    with _start(_MODULE.format(module=name), home, **variables) as program:
        try:
            program.wait()
        finally:
            program.kill()
        output, errors = program.communicate()
    return program.returncode, output, errors


def answers(client: httpx.Client, path: str) -> int:
    try:
        return client.get(path).status_code
    except httpx.TransportError:
        return 0


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PICTOGLOT_")}


def _start(source: str, home: object, **variables: str) -> Program:
    fault = {"FAULT_POINT": variables.pop("FAULT_POINT")} if "FAULT_POINT" in variables else {}
    names = {f"PICTOGLOT_{name}": value for name, value in {"HOME": str(home), "PORT": "0", **variables}.items()}
    return Program(source, clean_environment() | names | fault)
