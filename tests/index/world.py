"""A registry, a gallery and learned languages in a temporary folder, as the worker and the service would make them."""

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import update

from index.gallery import Gallery, NewPicture, PutResult
from index.indexer import Indexer, fill_captions
from index.live import LiveIndex
from index.set_states import SealedState, open_engine
from index.sets import VectorSets
from index.sources import add_lost_rows
from index.vectors import Identity, VectorSet, compute_scores
from model.encoder import EncodedTexts, View
from model.pictures import Picture
from store import files
from store.data_root import DataRoot
from store.errors import CorruptFolder, VersionCorrupt
from store.leases import Lease
from store.reach import DeletedPictureRow
from store.registry import open_registry
from store.releases import Release
from store.tables import DiscardedContentRow
from store.versions import Version
from tests.doubles import WeightlessEncoder, make_picture_vector, make_text_vector, make_view
from tests.forked import Forked, run_source
from tests.patience import PATIENCE, insist
from tests.registries import make_registry


class VerifyingEncoder(WeightlessEncoder):
    """A weightless encoder that verifies version folders as the real one does, and counts what it encodes."""

    def __init__(self) -> None:
        self.texts_encoded = 0
        self.pictures_encoded = 0
        self.opened: list[int] = []

    def open(self, folders: Sequence[Any], onto: View | None = None) -> View:
        for folder in folders:
            try:
                files.verify(folder.path, folder.manifest_sha256)
            except CorruptFolder as error:
                raise VersionCorrupt(error.detail) from error
            self.opened.append(folder.number)
        return super().open(folders, onto)

    def encode_texts(self, items: Sequence[tuple[View, str]], *, alone: bool = False) -> EncodedTexts:
        self.texts_encoded += len(items)
        return super().encode_texts(items, alone=alone)

    def encode_pictures(self, images: Sequence[Image.Image], batch: int = 64) -> Any:
        self.pictures_encoded += len(images)
        return super().encode_pictures(images, batch)


def draw(seed: int) -> Picture:
    """Draw a small picture, different for every seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    rgb = Image.fromarray(pixels).resize((32, 32), Image.Resampling.NEAREST)
    return Picture.encode(rgb)


def digest(seed: int) -> str:
    """Return the content hash of `draw(seed)`."""
    return hashlib.sha256(str(seed).encode()).hexdigest()


class World:
    """Everything that a live index needs, and each task of the worker as one call."""

    def __init__(self, home: Path, url: str | None = None, store: str = "", index: str = "faiss") -> None:
        self.home = home
        self.root = DataRoot(home, store)
        self.encoder = VerifyingEncoder()
        self.registry = open_registry(url or make_registry(home / "registry.db"))
        self.registry.initialise(self.encoder.text_fingerprint)
        self.gallery = Gallery(self.registry, self.root)
        self.engine = open_engine(index, self.registry)
        self.sets = VectorSets(self.gallery, self.engine)
        self._indexes: list[LiveIndex] = []

    def make_live(self, **options: Any) -> LiveIndex:
        """Make a live index, as in another process, not yet started."""
        live = LiveIndex(self.encoder, VectorSets(self.gallery, self.engine), **options)
        self._indexes.append(live)
        return live

    def serve(self, **options: Any) -> LiveIndex:
        """Make a live index that serves a snapshot."""
        live = self.make_live(**options)
        assert live.start()
        return live

    def close(self) -> None:
        for live in self._indexes:
            live.close()
        self.registry.close()

    def put(self, id: str, seed: int, captions: Mapping[str, Sequence[str]] | None = None) -> PutResult:
        """Add a picture without telling any live index, as another process would."""
        new = [make_picture(id, seed, captions)]
        (put,) = insist(lambda: self.gallery.put(new, self.encoder.image_fingerprint))
        return put

    def put_many(self, count: int, **captions: str) -> None:
        """Put the pictures p0, p1, ...; `cy="llun"` gives them the Welsh captions "llun 0", "llun 1", ..."""
        for seed in range(count):
            self.put(f"p{seed}", seed, {tag: [f"{word} {seed}"] for tag, word in captions.items()} or None)

    def add_version(self, language: str, captions: Mapping[str, str] | None = None) -> tuple[Lease, Version]:
        """Begin an expansion whose version is on disk and whose captions (by picture) are in the gallery."""
        expansion, _ = self.registry.expansions.submit(kind="learn", language=language, settings={}, actor="test")
        lease = self.registry.expansions.take_lease(expansion.id, "worker")
        assert lease is not None
        folder = f"versions/{expansion.id}"
        with self.root.stage(folder) as staged:
            (staged / "rows.safetensors").write_bytes(expansion.id.encode() * 20)
            manifest_sha256 = files.write_manifest(staged, {"language": language})
        version = self.registry.versions.add(
            expansion=expansion.id,
            parent=self.registry.releases.get_serving().shared,
            language=language,
            folder=folder,
            manifest_sha256=manifest_sha256,
            rows=1,
            bytes=1,
            report={},
            fence=lease.fence,
        )
        self.gallery.add_captions(expansion.id, language, list((captions or {}).items()))
        return lease, version

    def make_indexer(self, **options: Any) -> Indexer:
        """Make the indexer of a worker, which has no model."""
        return Indexer(VectorSets(self.gallery, self.engine), **options)

    def seal(self, *followers: LiveIndex, **options: Any) -> int:
        """Seal as the worker does when it is its turn; by default as soon as anything changed. These take it over."""
        sealed = self.make_indexer(**{"seal_at": 1, **options}).run()
        for live in followers:
            live.refresh()
        return sealed

    def pictures(self) -> Identity:
        return Identity("pictures", self.encoder.image_fingerprint, self.encoder.dimension)

    def captions(self, language: str, version: int) -> Identity:
        """Return the identity of the set of a language's captions as a version encodes them."""
        return Identity("captions", self.encoder.text_fingerprint, self.encoder.dimension, language, version)

    def state(self, identity: Identity | None = None) -> SealedState:
        """Return what is sealed of a set; by default of that of the pictures."""
        return self.sets.read_state(identity or self.pictures())

    def open_set(self, source: Any) -> VectorSet:
        return add_lost_rows(source, *self.sets.open_sealed(source.identity, self.state(source.identity)))

    def encode(self, language: str, version: int, **options: Any) -> SealedState:
        """Fill the set of a version's captions."""
        view = make_view(version, language)
        return fill_captions(self.encoder, view, self.sets, language, version, **options)

    def teach(self, language: str, captions: Mapping[str, str] | None = None, *, shared: bool = True) -> Release:
        """Carry out an expansion, and promote it."""
        lease, version = self.add_version(language, captions)
        self.encode(language, version.number)
        release = self.registry.releases.promote(
            expansion=lease.expansion, version=version.number, move_shared=shared, fence=lease.fence
        )
        self.registry.expansions.succeed(lease, version.number, release.number, {})
        return release

    def get_folder(self, number: int) -> Path:
        folder = self.registry.versions.get(number).folder
        assert folder is not None
        return self.root.locate(folder)

    def list_segments(self, kind: str = "*") -> list[Path]:
        return sorted((self.home / "segments").glob(f"{kind}-*"))

    def age(self, hours: float = 1.1) -> None:
        """Let everything below the data root look as if nobody had changed it, or discarded it, for so long."""
        with self.registry.begin() as session:
            for moment in (DiscardedContentRow.discarded_at, DeletedPictureRow.deleted_at):
                session.execute(update(moment.class_).values({moment: moment - 3_600 * hours}))
        for folder, _, names in os.walk(self.home):
            for path in (Path(folder), *(Path(folder, file) for file in names)):
                with suppress(FileNotFoundError):  # a live index may be sweeping
                    age(path, hours)

    def rank(self, seed: int, limit: int = 99) -> list[tuple[str, float]]:
        """Rank the pictures nearest to `draw(seed)`, with scores, from the tables alone: slow, obvious, exact."""
        ids = self.gallery.list_ids()
        vectors = self.gallery.find_picture_vectors(ids, self.encoder.image_fingerprint)
        if not vectors:
            return []
        values = compute_scores(make_picture_vector(draw(seed).rgb), np.stack(list(vectors.values())))
        return sorted(zip(vectors, values.tolist(), strict=True), key=lambda hit: (-hit[1], hit[0]))[:limit]


_IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from tests.index.world import World
world = World(Path(sys.argv[1]), sys.argv[2], index=sys.argv[3])
"""


def kill_at(world: World, source: str, point: str, index: str = "faiss") -> None:
    """Run a script on this world in a process that dies by SIGKILL at this fault point."""
    database = world.registry.engine.url.render_as_string(hide_password=False)
    log = world.home / "killed.log"
    given = (_IN_ANOTHER_PROCESS + source, str(world.home), database, index)
    ended = Forked(run_source, *given, environment={**os.environ, "FAULT_POINT": point}, log=log).wait(PATIENCE)
    assert ended == -signal.SIGKILL, log.read_text()


def age(path: Path, hours: float) -> Path:
    """Move the last change of a path into the past; return it."""
    then = time.time() - 3_600 * hours
    os.utime(path, (then, then))
    return path


def wait_until(condition: Callable[[], object]) -> None:
    """Wait, at most a minute, for work in the background."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def run_beside(*works: Callable[[Event], object]) -> Iterator[Event]:
    """Run these beside the block, each in a thread, until the event that they are given is set, at the end of it."""
    stop = Event()
    threads = [Thread(target=work, args=(stop,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield stop
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def interrupt(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], object], times: int = 1
) -> None:
    """Run `act` before the next calls of a function, as another process might; it may call the same function."""
    real, left = getattr(owner, name), [act] * times

    def overtaken(*given: Any) -> Any:
        if left:
            left.pop()()
        return real(*given)

    monkeypatch.setattr(owner, name, overtaken)


def fail_with(error: BaseException) -> Callable[..., Any]:
    """Return a function that raises this error, whatever it is given."""

    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def flip(file: Path) -> None:
    """Damage one byte in the middle of a file."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def find_pictures(live: LiveIndex, seed: int, limit: int = 10) -> list[str]:
    """Return the ids of the pictures nearest to `draw(seed)`."""
    return [hit.picture for hit in live.current.search_pictures(make_picture_vector(draw(seed).rgb), limit)]


def make_picture(id: str, seed: int, captions: Mapping[str, Sequence[str]] | None = None) -> NewPicture:
    vector = make_picture_vector(draw(seed).rgb)
    return NewPicture(id, digest(seed), 32, 32, captions, vector, draw(seed))


def put_picture(live: LiveIndex, id: str, seed: int, captions: Mapping[str, Sequence[str]] | None = None) -> PutResult:
    (put,) = insist(lambda: live.put_pictures([make_picture(id, seed, captions)]))
    return put


def put(live: LiveIndex, *seeds: int) -> LiveIndex:
    """Put pictures with two English captions each; return the index."""
    for seed in seeds:
        put_picture(live, f"p{seed}", seed, {"en": [f"picture {seed}", f"drawing {seed}"]})
    return live


def ask(live: LiveIndex) -> tuple[Any, ...]:
    """Return the pictures near eight others, and all captions near a text, with their scores."""
    captions = live.current.search_captions(make_text_vector(0, "picture 5"), ["en"], 99)
    return [score_pictures(live, seed) for seed in range(8)], captions


def score_pictures(live: LiveIndex, seed: int, limit: int = 99) -> list[tuple[str, float]]:
    """Return the pictures nearest to `draw(seed)`, with their scores."""
    hits = live.current.search_pictures(make_picture_vector(draw(seed).rgb), limit)
    return [(hit.picture, hit.score) for hit in hits]


def find_captions(live: LiveIndex, tag: str, version: int, text: str, limit: int = 1) -> list[tuple[str, str]]:
    """Return the captions nearest to a text as a version encodes it, with their pictures."""
    hits = live.current.search_captions(make_text_vector(version, text), [tag], limit)
    return [(hit.caption, hit.picture) for hit in hits]


def list_captions(live: LiveIndex, picture: str) -> dict[str, list[str]]:
    return live.current.list_captions([picture])[picture]


class Machines:
    """One world on this machine, one on another."""

    def __init__(self, folder: Path, url: str) -> None:
        database = f"sqlite:///{folder / 'registry.db'}"
        self.url = url
        self.here, self.there = (World(self._home(folder / name), database, url) for name in ("a", "b"))

    def _home(self, home: Path) -> Path:
        home.mkdir()
        return home

    def close(self) -> None:
        self.here.close()
        self.there.close()
