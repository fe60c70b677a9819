"""Bit rot: one bit at a time of every kind of file, size and times kept, is noticed before an answer has it, or by the
scrub. `make bitrot FLIPS=500` flips as many of each kind.

A flip is looked for by `pictoglot verify --dry-run`, which reads what the daily scrub reads; where something is given
out or opened, by asking for that as well. After it the bit is flipped back, and at the end everything must be whole.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from client.commands import app
from index import segment
from index.indexer import Indexer
from index.scrub import Scrub
from index.sets import VectorSets
from model import checkpoint
from model.checkpoint import TokenRows, VersionContent
from store.errors import IndexFileCorrupt, VersionCorrupt
from tests.bitrot import choose_bits, flip
from tests.service.harness import Service, assert_problem, picture, running
from tests.store import steps

pytestmark = [pytest.mark.row("F4"), pytest.mark.row("I2")]
FLIPS = int(os.environ.get("FLIPS", "3"))  # of each kind
PICTURES = 12
_BY_COMMAND = 25


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Twelve pictures with originals and captions, sealed; a version; a dataset; chances of hits."""
    with running(tmp_path_factory.mktemp("home"), keep_originals=True) as service:
        for number in range(PICTURES):
            assert service.put(f"p{number}", picture(number), en=[f"picture {number}"]).status_code == 201
        registry, live = service.context.registry, service.context.live
        Indexer(VectorSets(service.context.gallery), seal_at=1).run()
        live.refresh()
        teach(service)
        registry.versions.set_calibration(
            0, {"curves": {"lead": 0.25}, "encoding": 1, "change": 9, "result": {"error": 0.5}}
        )
        registry.expansions.submit(
            kind="learn",
            language="cy",
            settings={},
            actor="t",
            dataset_path="expansions/given/dataset",
            dataset_sha256=sha256(dataset()).hexdigest(),
        )
        service.home.joinpath("expansions/given").mkdir(parents=True)
        service.home.joinpath("expansions/given/dataset").write_bytes(dataset())
        assert verified(service.home) == []
        yield service
        assert verified(service.home) == [], "what was flipped back is whole"


def dataset() -> bytes:
    return b"".join(json.dumps({"caption": f"afal {n}", "english": f"apple {n}"}).encode() + b"\n" for n in range(40))


def teach(service: Service) -> None:
    rows = TokenRows(np.arange(7, dtype=np.int64), torch.randn(7, 16, generator=torch.Generator().manual_seed(0)))
    learned = VersionContent((("a", "b"),), ("ab",), rows, "0" * 64, {"ab": 3, "c": 1})
    folder = service.home / "versions/real"
    checkpoint.write_version(folder, learned, {"language": "de"})
    manifest = sha256((folder / "manifest.json").read_bytes()).hexdigest()
    made = steps.learn(service.context.registry, "de", folder="versions/real", manifest_sha256=manifest)
    assert made.expansion is not None
    service.context.registry.retention.note_dataset_removed(made.expansion)


def verified(home: Path, *options: str) -> list[dict[str, Any]]:
    """What `pictoglot verify` finds damaged, mending nothing."""
    ran = CliRunner().invoke(app, ["verify", "--dry-run", "--json", *options], env={"PICTOGLOT_HOME": str(home)})
    found: list[dict[str, Any]] = json.loads(ran.stdout)["damaged"]
    assert ran.exit_code == (1 if found else 0)
    return found


def files(home: Path, pattern: str) -> list[Path]:
    found = sorted(home.glob(pattern))
    assert found, pattern
    return found


def noticed(service: Service, parts: str, number: int) -> list[dict[str, Any]]:
    """What the command finds; of many flips, most are looked for by the parts of it that read this kind."""
    if number % _BY_COMMAND == 0:
        return verified(service.home)
    scrub = Scrub(service.context.live.sets, mend=False)
    return [asdict(each) for part in parts.split() for each in scrub.examine(part)]


def each_flip(home: Path, pattern: str) -> Iterator[tuple[int, Path]]:
    """Bits of these files, one at a time; each is flipped back when the next one is asked for."""
    found = files(home, pattern)
    for number in range(FLIPS):
        file = found[number % len(found)]
        bits = choose_bits(file, FLIPS, seed=number % len(found))
        bit = bits[number // len(found) % len(bits)]
        flip(file, bit, home)
        yield number, file
        flip(file, bit, home)


@pytest.mark.parametrize("file", ["rows.safetensors", "index.faiss", "manifest.json"])
def test_a_segment(service: Service, file: str) -> None:
    """Vectors, ids and names are in the rows, the codes in the index. It was verified before, and is noted so."""
    sets = service.context.live.sets
    named = {written.id: (of, written) for of in sets.list_newest() for written in sets.read_state(of).segments}
    for number, flipped in each_flip(service.home, f"segments/*/{file}"):
        assert [each["kind"] for each in noticed(service, "segments", number)] == ["segment"]
        identity, written = named[flipped.parent.name]
        with pytest.raises(IndexFileCorrupt):
            segment.read(sets.root, written, identity)
    for identity, written in named.values():
        assert segment.read(sets.root, written, identity)


@pytest.mark.parametrize("file", ["rows.safetensors", "tokenizer.json", "ngrams.json.gz", "manifest.json"])
def test_a_version(service: Service, file: str) -> None:
    registered = service.context.registry.versions.get(1).manifest_sha256
    for number, flipped in each_flip(service.home, f"versions/*/{file}"):
        assert [each["kind"] for each in noticed(service, "versions", number)] == ["version"]
        with pytest.raises(VersionCorrupt):
            checkpoint.read_version(flipped.parent, registered)


@pytest.mark.parametrize("path", ["content", "thumbnail", "original"])
def test_a_picture(service: Service, path: str) -> None:
    """It is never shown, and what else is stored of it still is."""
    ends = {"content": f"{'[0-9a-f]' * 64}.jpg", "thumbnail": "*.thumb.jpg", "original": "*.original"}
    ids = {content(number): f"p{number}" for number in range(PICTURES)}
    assert len(files(service.home, f"pictures/*/{ends[path]}")) == PICTURES
    for number, flipped in each_flip(service.home, f"pictures/*/{ends[path]}"):
        (found,) = noticed(service, "pictures", number)
        assert (found["kind"], found["name"]) == ("picture", flipped.name)
        id = ids[flipped.name.partition(".")[0]]
        assert_problem(service.admin.get(f"/v1/pictures/{id}/{path}"), 503, "picture_damaged")
    for id in ids.values():
        assert service.admin.get(f"/v1/pictures/{id}/{path}").status_code == 200


def content(number: int) -> str:
    return sha256(picture(number)).hexdigest()


def test_a_dataset(service: Service) -> None:
    for number, _ in each_flip(service.home, "expansions/*/dataset"):
        assert [each["kind"] for each in noticed(service, "datasets", number)] == ["dataset"]


@pytest.mark.parametrize(
    ("table", "column", "kind"),
    [
        ("picture_halves", "vector", "vector"),
        ("caption_halves", "vector", "vector"),
        ("captions", "text", "caption"),
    ],
)
def test_a_value_of_the_registry(service: Service, table: str, column: str, kind: str) -> None:
    """No other value of it has a checksum. What is damaged counts as none."""
    chance = np.random.default_rng(0)
    with closing(sqlite3.connect(service.home / "registry.db")) as registry:
        registry.text_factory = bytes
        query = f"SELECT rowid, {column}, typeof({column}) FROM {table} WHERE {column} IS NOT NULL"  # noqa: S608 - ours
        rows = registry.execute(query).fetchall()
        for number in range(FLIPS):
            row, good, kept_as = rows[chance.integers(len(rows))]
            bad = bytearray(good)
            bad[chance.integers(len(bad))] ^= 1 << chance.integers(8)
            change = f"UPDATE {table} SET {column} = CAST(? AS {kept_as.decode()}) WHERE rowid = ?"  # noqa: S608
            registry.execute(change, (bytes(bad), row))
            registry.commit()
            found = noticed(service, "vectors captions", number)
            assert kind in [each["kind"] for each in found], (table, row)
            registry.execute(change, (good, row))
            registry.commit()


def test_what_a_training_goes_on_from(tmp_path: Path) -> None:
    """Checkpoints, and what was computed for it before: none of it is used when a bit is another one."""
    tensors, belongs = {"rows": torch.arange(60.0).view(6, 10), "ids": torch.arange(6)}, {"corpus": "c"}
    checkpoint.save_step(tmp_path / "checkpoints", 5, tensors, belongs)
    checkpoint.save_result(tmp_path / "teacher", "key", checkpoint.CachedResult(tensors, {"count": 6}))
    for _ in each_flip(tmp_path, "checkpoints/*/*"):
        assert checkpoint.load_newest(tmp_path / "checkpoints", belongs) is None
    for _ in each_flip(tmp_path, "teacher/*"):
        assert checkpoint.load_result(tmp_path / "teacher", "key") is None
    assert checkpoint.load_newest(tmp_path / "checkpoints", belongs)
    assert checkpoint.load_result(tmp_path / "teacher", "key")
