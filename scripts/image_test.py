"""`make image-test`: docker-compose.yml with the real image on a plain Debian 13, from the first picture to a restore.

As root. The images of others that it names are made of Debian's packages under the same names (deploy/test), so nothing
comes from a registry of images. PREVIOUS names the revision that is upgraded; without it, that is the same source under
another tag. Images and volumes are in a folder that is removed after a success, and used again after a failure;
containers run in a network of their own, without a way out, and disturb nothing on this machine.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

from scripts.image import OUT, ROOT, VERSION, build_image, measure_image, sign_files

HOME = ROOT / "build" / "image-test"
BASE = "python:3.13-slim"  # as the Dockerfile names it
SUITE, SUITE_BEFORE = "trixie", "bookworm"
# The Python alone comes from the suite before: of its libraries, there would be two of some
OLDER_PYTHON = f"""\
Package: *
Pin: release n={SUITE_BEFORE}
Pin-Priority: 100

Package: python3* libpython3*
Pin: release n={SUITE_BEFORE}
Pin-Priority: 990
"""
PACKAGES = (
    *("podman", "crun", "netavark", "aardvark-dns", "nftables", "iproute2", "catatonit", "debootstrap"),
    *("docker-compose", "cosign", "util-linux", "python3-venv"),
)
OTHERS = {"postgres": "pgvector/pgvector:pg17", "redis": "redis:8-alpine"}
TAGS = {"before": "pictoglot:before", "after": f"pictoglot:{VERSION}"}
URL, KEY = "http://127.0.0.1:8321", "k" * 32
TEXTS = {"en": ("a red apple", "two dogs", "house", "the sun behind a cloud"), "de": ("Apfel", "zwei Hunde", "Haus")}
Answers = dict[str, Any]


# --- the machine ------------------------------------------------------------------------------------------------------


def prepare_machine() -> None:
    """Install what is missing, and say to podman how it works without systemd and beside images of somebody's own."""
    if missing := [name for name in PACKAGES if not _is_installed(name)]:
        _log(f"Installing {' '.join(missing)}")
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(
            install, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, stdout=subprocess.DEVNULL
        )
    groups = Path("/sys/fs/cgroup")
    if not (groups / "cgroup.controllers").exists():  # version 1: ours is seen in this mount namespace alone
        subprocess.run(["mount", "-t", "cgroup2", "none", groups], check=True)
    HOME.mkdir(parents=True, exist_ok=True)
    (HOME / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{HOME}/storage"\nrunroot = "{HOME}/run"\n'
    )
    files = min(65_536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    # What this machine cannot bound is not bound; all else is as the compose file has it
    bounded = (groups / "cgroup.controllers").read_text().split()
    (HOME / "containers.conf").write_text(
        f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc=4096:4096"]\nlog_driver = "k8s-file"\n'
        f"pids_limit = {2048 if 'pids' in bounded else 0}\n"
        '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\ncompat_api_enforce_docker_hub = false\n'
        '[network]\nfirewall_driver = "nftables"\n'
    )
    controls = {"mem_limit": "memory", "pids_limit": "pids", "cpus": "cpu"}
    limits = [f"{name}: !reset null" for name, by in controls.items() if by not in bounded]
    others = "{" + ", ".join(limits) + "}"
    ours = "{" + ", ".join([*limits, f"ulimits: {{nofile: {files}}}", "image: '${IMAGE}'"]) + "}"
    services = {"api": ours, "worker": ours, "postgres": others, "redis": others}
    lines = [f"  {name}: {changes}\n" for name, changes in services.items()]
    (HOME / "override.yml").write_text("".join(["services:\n", *lines]))


def _is_installed(package: str) -> bool:
    asked = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout == "installed"


def make_base() -> None:
    """Make the image that the Dockerfile starts from of Debian's packages, with the Python that PYTHON names."""
    if subprocess.run(["podman", "image", "exists", BASE], check=False).returncode == 0:
        return
    root, python = HOME / "root", os.environ["PYTHON"]
    shutil.rmtree(root, ignore_errors=True)
    words = ["debootstrap", "--variant=minbase", "--include=ca-certificates"]
    subprocess.run([*words, SUITE, root], check=True, stdout=subprocess.DEVNULL)
    sources = root / "etc/apt/sources.list"
    if python != "python3":
        (sources.parent / "sources.list.d/before.list").write_text(sources.read_text().replace(SUITE, SUITE_BEFORE))
        (sources.parent / "preferences.d/before").write_text(OLDER_PYTHON)
    install = f"apt-get update -qq; apt-get install -y -qq --no-install-recommends {python}-venv; apt-get clean"
    tidy = "rm -rf /etc/apt/sources.list.d/* /etc/apt/preferences.d/* /var/lib/apt/lists/*"
    tidy += " /usr/share/doc/* /usr/share/locale/* /usr/share/man/*"
    subprocess.run(["chroot", root, "sh", "-ec", f"{install}; {tidy}"], check=True, stdout=subprocess.DEVNULL)
    with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(["podman", "import", "--quiet", "-", BASE], stdin=tar.stdout, check=True)
    shutil.rmtree(root)


def make_images() -> dict[str, float]:
    """Make all images; return seconds and bytes."""
    seconds: dict[str, float] = {}
    with _measure("base image", seconds):
        make_base()
    context = ROOT
    if revision := os.environ.get("PREVIOUS"):
        context = HOME / "before"
        context.mkdir(exist_ok=True)
        with subprocess.Popen(["git", "archive", revision], cwd=ROOT, stdout=subprocess.PIPE) as archive:
            subprocess.run(["tar", "-x", "-C", context], stdin=archive.stdout, check=True)
    with _measure("build", seconds):
        build_image(TAGS["before"], context)
    with _measure("second build", seconds):
        build_image(TAGS["after"])
    for target, tag in OTHERS.items():
        words = ["podman", "build", "--quiet", "--network=host", f"--target={target}", f"--tag={tag}", "deploy/test"]
        subprocess.run(words, cwd=ROOT, check=True)
    return seconds | {"bytes": measure_image("podman", TAGS["after"])}


# --- the services -----------------------------------------------------------------------------------------------------


@contextmanager
def serve_engine() -> Iterator[None]:
    """Run podman's engine for compose, and health checks where no systemd does; stop all containers at the end."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    socket = HOME / "podman.sock"
    socket.unlink(missing_ok=True)
    engine = subprocess.Popen(["podman", "system", "service", "--time=0", os.environ["DOCKER_HOST"]])
    _wait(socket.exists)
    stop = Event()
    checks = Thread(target=_check_health, args=(stop,))
    checks.start()
    try:
        yield
    finally:
        with suppress(subprocess.CalledProcessError):
            compose("down", "--volumes", "--timeout=30")
        stop.set()
        checks.join()
        engine.terminate()
        engine.wait()


def _check_health(stop: Event) -> None:
    while not stop.wait(3):
        for name in _call("podman", "ps", "--filter=health=starting", "--format={{.Names}}").split():
            subprocess.run(["podman", "healthcheck", "run", name], capture_output=True, check=False)


def compose(*words: str, tag: str = "after") -> str:
    """Run docker-compose on the file of the repository, with an image of ours."""
    files = ["--file", str(ROOT / "docker-compose.yml"), "--file", str(HOME / "override.yml")]
    os.environ["IMAGE"] = TAGS[tag]
    return _call(
        "docker-compose", "--progress=quiet", "--project-name=pictoglot", "--env-file=/dev/null", *files, *words
    )


def run_command(*words: str) -> str:
    """Run pictoglot beside the API, as an operator does."""
    variables = (f"--env=PICTOGLOT_KEY={KEY}", f"--env=PICTOGLOT_URL={URL}")
    return _call("podman", "exec", *variables, "pictoglot-api-1", "pictoglot", *words)


def search_all() -> Answers:
    """Return what each text finds: the version that read it, ids and scores."""
    found = {}
    for language, texts in TEXTS.items():
        for text in texts:
            body = json.dumps({"text": text, "language": language, "limit": 20}).encode()
            headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
            with urllib.request.urlopen(
                urllib.request.Request(f"{URL}/v1/search/pictures", body, headers), timeout=60
            ) as answer:
                content = json.load(answer)
            hits = [[hit["id"], round(hit["score"], 5)] for hit in content["items"]]
            found[f"{language}: {text}"] = [content["language"], *hits]
    return found


def kill(service: str) -> None:
    """Kill the first process of a container, as a lack of memory does, and wait until the engine started it again."""
    ask = ("podman", "inspect", f"pictoglot-{service}-1", "--format={{.State.Pid}} {{.State.Status}}")
    pid = _call(*ask).split()[0]
    os.kill(int(pid), signal.SIGKILL)
    _wait(lambda: _call(*ask).split()[0] not in (pid, "0"))


def run_drill() -> dict[str, float]:
    """Fill, teach, kill, restart, upgrade, back up, lose and restore, and compare the answers after each."""
    seconds: dict[str, float] = {}
    with serve_engine():
        with _measure("start", seconds):
            compose("up", "--detach", "--no-build", "--wait", tag="before")
        check_hardening()
        with _measure("fill", seconds):
            run_command("demo", "fill")
        with _measure("learn", seconds):
            run_command("demo", "dataset", "de", "--out", "/tmp/de.jsonl")
            run_command("learn", "de", "/tmp/de.jsonl", "--watch", "--yes")
        before = search_all()
        _log(f"{before['de: Apfel'][0]}")
        with _measure("kill API and worker", seconds):
            kill("api")
            kill("worker")
            _compare(before)
        with _measure("restart", seconds):
            compose("restart", tag="before")
            _compare(before)
        with _measure("upgrade", seconds):
            compose("up", "--detach", "--no-build", "--wait")
            assert TAGS["after"] in _call("podman", "inspect", "pictoglot-api-1", "--format={{.ImageName}}")
            _compare(before)
        with _measure("backup", seconds):
            run_command("backup", "/backups")
        with _measure("verify", seconds):
            run_command("backup", "verify", "/backups")
        with _measure("loss and restore", seconds):
            compose("down")
            _call("podman", "volume", "rm", *(f"pictoglot_{name}" for name in ("data", "postgres", "redis")))
            compose("up", "--detach", "--wait", "postgres", "redis")
            compose("run", "--rm", "--no-deps", "-T", "api", "restore", "/backups")
            compose("up", "--detach", "--no-build", "--wait")
            _compare(before)
    return seconds


def check_hardening() -> None:
    """Assert that containers can write nowhere but to their data, and the API has no capability and is not root."""
    places = {
        "api": {"/data": 0, "/tmp": 0, "/": 1, "/app": 1},
        "postgres": {"/usr": 1},
        "redis": {"/data": 0, "/usr": 1},
    }
    for service, place, status in ((name, *each) for name, tried in places.items() for each in tried.items()):
        touch = ["podman", "exec", f"pictoglot-{service}-1", "touch", f"{place}/probe"]
        done = subprocess.run(touch, capture_output=True, check=False)
        assert done.returncode == status, (service, place, done.stderr)
    lines = _call("podman", "exec", "pictoglot-api-1", "cat", "/proc/1/status").split("\n")
    assert {"CapBnd:\t0000000000000000", "NoNewPrivs:\t1"} <= {*lines}
    assert _call("podman", "exec", "pictoglot-api-1", "id", "-u").strip() == "10001"


def check_papers() -> None:
    """Assert that the image has a list of its parts, and that a signature holds, for this very file alone."""
    read = ("podman", "run", "--rm", "--network=none", "--entrypoint=cat", TAGS["after"])
    names = {part["name"] for part in json.loads(_call(*read, "/usr/share/doc/pictoglot/sbom.json"))["components"]}
    assert {"torch", "fastapi", "pictoglot"} <= names, names
    os.environ["COSIGN_PASSWORD"] = KEY
    for key in HOME.glob("cosign.*"):  # of a run that failed: cosign would ask whether to write over it
        key.unlink()
    _call("cosign", "generate-key-pair", f"--output-key-prefix={HOME}/cosign")
    OUT.mkdir(parents=True, exist_ok=True)
    sign_files(f"{HOME}/cosign.key", TAGS["after"])
    for file in OUT.glob("*.tar"):
        check = (
            "cosign",
            "verify-blob",
            "--private-infrastructure",
            f"--key={HOME}/cosign.pub",
            f"--signature={file}.sig",
        )
        _call(*check, str(file))
        with file.open("ab") as other:
            other.write(b"\0")
        assert subprocess.run([*check, file], capture_output=True, check=False).returncode != 0
    shutil.rmtree(OUT)


# --- helpers ----------------------------------------------------------------------------------------------------------


@contextmanager
def _measure(what: str, seconds: dict[str, float]) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[what] = round(time.monotonic() - began, 1)
    _log(f"{what}: {seconds[what]} s")


def _compare(before: Answers) -> None:
    _wait(_is_ready)
    now = search_all()
    assert now == before, {text: (hits, now[text]) for text, hits in before.items() if hits != now[text]}


def _is_ready() -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{URL}/readyz", timeout=10) as answer:
        return bool(answer.status == 200)
    return False


def _wait(is_done: Any) -> None:
    until = time.monotonic() + 300
    while not is_done():
        if time.monotonic() > until:
            raise TimeoutError("five minutes are over")
        time.sleep(0.5)


def _call(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        _log(f"{' '.join(words)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
        done.check_returncode()
    return done.stdout


def _log(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Run all in order; the second half in a network of its own."""
    os.environ.setdefault("PYTHON", "python3")
    os.environ |= {
        "ENGINE": "podman",
        "CONTAINERS_STORAGE_CONF": f"{HOME}/storage.conf", "CONTAINERS_CONF": f"{HOME}/containers.conf",
        "DOCKER_HOST": f"unix://{HOME}/podman.sock", "POSTGRES_PASSWORD": "p" * 32, "REDIS_PASSWORD": "r" * 32,
        "PICTOGLOT_ADMIN_KEY": KEY,
    }  # fmt: skip
    if not Path("/run/systemd/system").exists():
        os.environ["DISABLE_HC_SYSTEMD"] = "true"
    if sys.argv[1:] == ["drill"]:
        _log(json.dumps(run_drill()))
        return
    began = time.monotonic()
    prepare_machine()
    figures = make_images()
    check_papers()
    subprocess.run(["unshare", "--net", sys.executable, "-m", "scripts.image_test", "drill"], cwd=ROOT, check=True)
    shutil.rmtree(HOME)
    _log(json.dumps(figures | {"all": round(time.monotonic() - began)}))


if __name__ == "__main__":
    main()
