"""The wheel: its content, and that it works in an empty environment outside the repository."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest
from PIL import Image

from tests.house.source import PACKAGES, ROOT, list_tracked
from tests.launcher import find_free_port
from tests.patience import PATIENCE
from tests.service.harness import ADMIN_KEY, picture, running, wait_until
from tests.service.processes import answers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TORCH = ("torch", "torchvision", "setuptools")  # outside the lock: setuptools is what torch asks for
HTTPX = ("httpx", "httpcore", "h11", "certifi", "idna", "anyio", "typing_extensions")  # and what it asks for
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
QUICKLY = ["--quiet", "--no-compile", "--no-warn-script-location"]
# without settings of the person who runs the tests, and without paths into the repository
OWN = {
    name: value for name, value in os.environ.items() if not name.startswith(("PICTOGLOT_", "PYTHON", "VIRTUAL_ENV"))
}


def call(*command: object, **environment: str) -> str:
    """Return the standard output of a program, which must end with status 0."""
    words = [str(word) for word in command]
    done = subprocess.run(words, env=OWN | environment, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the tracked files only, so that no other file gets in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for file in list_tracked():
        inside = file.relative_to(ROOT)
        if inside.parts[0] in PACKAGES or len(inside.parts) == 1:
            (source / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, source / inside)
    call(*PIP, "wheel", "--quiet", "--no-deps", "--wheel-dir", out, source)
    return next(out.glob("pictoglot-*.whl"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Python of an environment that has the client's own package and what it asks for, nothing else."""
    source, home = tmp_path_factory.mktemp("source") / "client", tmp_path_factory.mktemp("environment")
    shutil.copytree(ROOT / "client", source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    call(sys.executable, "-m", "venv", "--without-pip", home)
    (packages,) = home.glob("lib/python*/site-packages")
    link(HTTPX, packages)
    into = [*PIP, "--python", home / "bin" / "python"]
    call(*into, "install", *QUICKLY, "--no-deps", source)
    call(*into, "check")
    yield home / "bin" / "python"
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The `bin` of an environment that has torch, what the lock names, and the wheel."""
    home = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", home)
    (packages,) = home.glob("lib/python*/site-packages")
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    link([*TORCH, *re.findall(r"^([\w.-]+)(?:\[.*\])?==", lock, re.MULTILINE)], packages)
    into = [*PIP, "--python", home / "bin" / "python"]
    call(*into, "install", *QUICKLY, "--no-deps", wheel)
    call(*into, "check")
    yield home / "bin"
    shutil.rmtree(home)


def link(distributions: Iterable[str], packages: Path) -> None:
    """Link what these have here, where the lock has installed them: unpacking them takes a minute.

    What another platform needs is not here; `pip check` tells whether anything is missing.
    """
    for name in distributions:
        with suppress(PackageNotFoundError):
            found = distribution(name)
            for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
                with suppress(FileExistsError):  # several share a folder
                    (packages / top).symlink_to(str(found.locate_file(top)))


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    inside = [file.relative_to(ROOT) for file in list_tracked()]
    expected = {str(file) for file in inside if file.parts[0] in PACKAGES and file.name != "pyproject.toml"}
    assert expected >= {f"{package}/py.typed" for package in PACKAGES}
    content = {name for name in ZipFile(wheel).namelist() if "/licenses/" in name or ".dist-info/" not in name}
    information = f"pictoglot-{PROJECT['version']}.dist-info"
    assert content == expected | {f"{information}/licenses/{name}" for name in ("LICENSE", "NOTICE")}


def test_the_installed_command_tells_its_version(programs: Path) -> None:
    assert call(programs / "pictoglot", "--version") == f"pictoglot {PROJECT['version']}\n"


def test_the_client_alone_speaks_to_a_service(client: Path, tmp_path: Path) -> None:
    code = "import sys; from pictoglot_client import Client; client = Client(*sys.argv[1:])\n"
    code += "client.put_picture('a', {'picture': sys.stdin.buffer.read(), 'captions': {'en': ['an apple']}})\n"
    code += "print(*(hit['id'] for hit in client.iterate_hits({'text': 'an apple'})), 'torch' in sys.modules)"
    with running(tmp_path) as service, tempfile.TemporaryFile() as file:
        file.write(picture(1))
        file.seek(0)
        done = subprocess.run(
            [client, "-I", "-c", code, service.url, ADMIN_KEY], stdin=file, capture_output=True, text=True, check=True
        )
    assert done.stdout == "a False\n"
    installed = json.loads(call(*PIP, "--python", client, "list", "--format=json"))
    assert {each["name"] for each in installed} - {"pictoglot-client"} <= {*HTTPX}
    more = subprocess.run([client.with_name("pictoglot")], capture_output=True, text=True, check=False)
    assert (more.returncode, more.stderr) == (1, "The command line needs typer: pip install 'pictoglot-client[cli]'.\n")


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
def test_a_bundle_installs_where_there_is_no_network(tmp_path: Path) -> None:
    bundle, home = tmp_path / "bundle", tmp_path / "environment"
    output = call("make", "-C", ROOT, "bundle", f"BUNDLE={bundle}", f"VENV={sys.prefix}")
    (whole,) = re.findall(r"'(pictoglot\[[\w,]+\])'", output)
    call(sys.executable, "-m", "venv", home)
    away = ("unshare", "--net") if os.geteuid() == 0 else ()
    nothing = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    install = (home / "bin/pip", "install", *QUICKLY, "--no-index", "--find-links", bundle, whole)
    call(*away, *install, **nothing)
    assert call(*away, home / "bin/pictoglot", "--version") == f"pictoglot {PROJECT['version']}\n"
    call(*away, home / "bin/pictoglot", "doctor", PICTOGLOT_HOME=str(tmp_path / "home"))
    versions = set(re.findall(r"^([\w.-]+==[^ ;]+)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.M))
    installed = {name.lower() for name in call(home / "bin/pip", "list", "--format=freeze").split()}
    assert {
        version for version in installed if version.partition("==")[0] in {each.partition("==")[0] for each in versions}
    } <= versions


def test_what_was_installed_serves_a_picture_and_stops_on_sigterm(programs: Path, tmp_path: Path) -> None:
    picture, manifest = tmp_path / "apple.png", tmp_path / "list.jsonl"
    Image.new("RGB", (96, 64), "firebrick").save(picture)
    manifest.write_text(json.dumps({"file": "apple.png", "captions": {"en": ["a red apple"]}}))
    address = f"http://127.0.0.1:{(port := find_free_port())}"
    settings = {"PICTOGLOT_HOME": str(tmp_path / "home"), "PICTOGLOT_PORT": str(port), "PICTOGLOT_FREE_BYTES": "0"}
    served = subprocess.Popen([programs / "pictoglot", "serve"], env=OWN | settings, cwd=tmp_path)
    try:
        with httpx.Client(base_url=address, trust_env=False) as waiting:
            wait_until(lambda: answers(waiting, "/readyz") == 200 or served.poll() is not None)
        client = {"PICTOGLOT_URL": address, "PICTOGLOT_KEY": (tmp_path / "home" / "admin.key").read_text().strip()}
        call(programs / "pictoglot", "import", manifest, **client)
        answer = json.loads(call(programs / "pictoglot", "search", "a red apple", "--json", **client))
        assert [item["id"] for item in answer["items"]] == ["apple"]
    finally:
        served.send_signal(signal.SIGTERM)
    assert served.wait(PATIENCE) == 0
