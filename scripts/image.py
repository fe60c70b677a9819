"""`python -m scripts.image build` makes the image, with podman, docker or buildah; `sign KEY` signs it and the wheel.

Needs nothing but Python, so that it runs before anything is installed.
"""

import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
OUT = ROOT / "build" / "dist"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
ENGINES = ("podman", "docker", "buildah")
ARGUMENTS = ("PYTHON", "TORCH_INDEX", "FIND_LINKS")  # of the Dockerfile
# What a company's proxy may need: its certificates, and settings of pip
_OF_THIS_MACHINE = ("/etc/ssl/certs", "/etc/pip.conf")


def find_engine() -> str:
    """Return the program that builds images here, or the one in ENGINE."""
    engine = os.environ.get("ENGINE") or next(filter(shutil.which, ENGINES), "")
    return engine or sys.exit("Building an image needs one of these: " + ", ".join(ENGINES) + ".")


def build_image(tag: str, context: Path = ROOT) -> None:
    """Build the Dockerfile under a tag, with the arguments in the environment; say the seconds and the size.

    `FIND_LINKS` may be a folder of wheels, where the engine can mount one.
    """
    engine, began = find_engine(), time.monotonic()
    arguments = {name: value for name in ARGUMENTS if (value := os.environ.get(name))}
    mounts = [place for place in _OF_THIS_MACHINE if os.path.exists(place)]
    if os.path.isdir(wheels := arguments.get("FIND_LINKS", "")):
        if engine == "docker":
            sys.exit("docker mounts no folder while it builds: give FIND_LINKS an address, or build with podman.")
        arguments["FIND_LINKS"] = os.path.abspath(wheels)
        mounts.append(arguments["FIND_LINKS"])
    options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    if engine != "docker":
        options += ["--network=host", *(f"--volume={place}:{place}:ro" for place in mounts)]
    subprocess.run([engine, "build", "--tag", tag, *options, "."], cwd=context, check=True)
    sys.stdout.write(f"{tag}: {measure_image(engine, tag):,} bytes, built in {time.monotonic() - began:.0f} s\n")


def measure_image(engine: str, tag: str) -> int:
    """Return the bytes of all files of an image."""
    if engine == "buildah":  # it rounds
        engine = shutil.which("podman") or sys.exit(f"{tag} is built; podman would tell its size.")
    result = subprocess.run([engine, "image", "inspect", "--format={{.Size}}", tag], capture_output=True, check=True)
    return int(result.stdout)


def sign_files(key: str, tag: str) -> None:
    """Write the image into build/dist too, and beside each file a signature of cosign; no public log hears of it."""
    archive = OUT / f"{tag.replace(':', '-')}.tar"
    subprocess.run([find_engine(), "save", "--output", archive, tag], check=True)
    for file in sorted(OUT.iterdir()):
        sign = [
            "cosign",
            "sign-blob",
            "--yes",
            "--tlog-upload=false",
            "--key",
            key,
            "--output-signature",
            f"{file}.sig",
        ]
        subprocess.run([*sign, file], check=True, stdout=subprocess.DEVNULL)
        sys.stdout.write(f"{file.relative_to(ROOT)}: {file.stat().st_size:,} bytes, signed\n")


if __name__ == "__main__":
    act, *words = sys.argv[1:]
    image = f"pictoglot:{VERSION}"
    sign_files(words[0], image) if act == "sign" else build_image(image)
