"""The service as a process of its own, with an encoder from `tests.doubles`."""

import os
import subprocess
import sys
from pathlib import Path

import httpx

from tests.patience import PATIENCE

_PROGRAM = (
    "import sys; from service import app, serve; from tests import doubles; {constants};"
    "app.open_encoder = lambda settings: doubles.{encoder}; sys.exit(serve.main())"
)


def weightless(
    home: Path, encoder: str = "WeightlessEncoder()", constants: str = "pass", **variables: str
) -> "subprocess.Popen[str]":
    """It prints the address it listens on, with a free port by default. `FAULT_POINT` is for `files.fault_point`.

    Nobody reads its standard error while it runs, and a full pipe would stop it: by default it logs only errors. Nor
    does it refuse anything because of a machine that is slow.
    """
    fault = {"FAULT_POINT": variables.pop("FAULT_POINT")} if "FAULT_POINT" in variables else {}
    quiet = {"HOME": str(home), "PORT": "0", "LOG_LEVEL": "error", "REQUEST_SECONDS": str(PATIENCE)}
    names = {f"PICTOGLOT_{name}": value for name, value in {**quiet, **variables}.items()}
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM.format(encoder=encoder, constants=constants)],
        env=clean_environment() | names | fault,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answers(client: httpx.Client, path: str) -> int:
    try:
        return client.get(path).status_code
    except httpx.TransportError:
        return 0


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PICTOGLOT_")}
