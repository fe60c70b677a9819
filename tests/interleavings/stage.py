"""A data root and a registry that are the same at the beginning of each run, and a clock that only a run moves."""

import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.pool import StaticPool

from index.captions import EncoderId
from index.gallery import NewPicture
from store.leases import Lease
from tests.doubles import make_text_vector
from tests.index.world import World, make_picture
from tests.interleavings.schedule import CLOCK, get_step

EPOCH = 2_440_587.5  # 1970 as a Julian day
STEP = 0.001  # seconds that a step takes
LEFT_OVER, DISCARDED = 9, 8  # the picture whose files a crash has left behind, and one deleted two days ago
DE = "de"  # the language that is being taught when a run begins


def make_captioned(world: World, id: str, seed: int) -> NewPicture:
    """Make a picture with an English caption, both encoded: an indexer has no model."""
    caption = f"picture {seed}"
    read = {("en", caption, EncoderId(0, world.encoder.text_fingerprint)): make_text_vector(0, caption)}
    return NewPicture(**{**vars(make_picture(id, seed, {"en": [caption]})), "caption_vectors": read})


def put(world: World, id: str, seed: int) -> None:
    """Put a picture, as a live index would."""
    world.gallery.put([make_captioned(world, id, seed)], world.encoder.image_fingerprint)


class Stage:
    """Two worlds, as two processes have them, and a third one to look at what they left. The registry is SQLite."""

    def __init__(self, folder: Path) -> None:
        self.home, self._saved = folder / "home", folder / "saved"
        self.worlds: Sequence[World] = ()
        self.lease, self.waiting = Lease("", "", 0), ""  # of what is being taught, and the expansion that waits
        self._now = self._began = time.time()

    @contextmanager
    def open(self) -> Iterator["Stage"]:
        """Build what each run begins with; close it after the block."""
        event.listen(Engine, "connect", self._give_clock)
        try:
            self.worlds = [World(self.home, self._url()) for _ in range(3)]
            self._build(self.world)
            self._save()
            yield self
        finally:
            for world in self.worlds:
                world.close()
            event.remove(Engine, "connect", self._give_clock)

    @property
    def world(self) -> World:
        """The third one."""
        return self.worlds[-1]

    def restore(self) -> None:
        """Make everything as it was when the first run began."""
        self._close()
        shutil.rmtree(self.home)
        shutil.copytree(self._saved, self.home)
        self._set_clock(self._began)

    def advance(self) -> None:
        """Let the time of a step pass."""
        self._set_clock(self._now + STEP)

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass for everybody, as a step of an actor."""
        get_step("tick").writes.add(CLOCK)
        self._set_clock(self._now + seconds)

    def _save(self) -> None:
        self._began = self._now
        self._close()
        shutil.copytree(self.home, self._saved)

    def _close(self) -> None:
        for world in self.worlds:
            world.registry.close()  # SQLite's log goes into its file

    def _url(self) -> str | None:
        return None

    def _set_clock(self, now: float) -> None:
        self._now = now

    def _give_clock(self, connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):  # our function is asked before its own
            connection.create_function("julianday", 1, lambda _: EPOCH + self._now / 86_400)

    def _build(self, world: World) -> None:
        """Build three sealed pictures, one that is not, files of two more; five versions, one out of reach."""
        put(world, "discarded", DISCARDED)
        world.gallery.delete("discarded")
        self._set_clock(self._now + 2 * 86_400)
        for seed in range(3):
            put(world, f"p{seed}", seed)
            world.sets.ensure_registered(world.pictures())
            world.sets.ensure_registered(world.captions("en", 0))
            self._seal(world)
        for language in ("cy", "br"):
            world.teach(language, {f"p{seed}": f"{language} {seed}" for seed in range(3)})
        world.registry.releases.roll_back("br", actor="test", reason="")
        for language in ("cy", "fr"):
            world.teach(language, {f"p{seed}": f"{language} again {seed}" for seed in range(3)})
        self._seal(world)
        self.lease, version = world.add_version(DE, {"p0": "ein Bild", "p1": "zwei Bilder"})
        world.encode(DE, version.number)
        waiting, _ = world.registry.expansions.submit(kind="learn", language="it", settings={}, actor="test")
        self.waiting = waiting.id
        put(world, "p3", 3)
        left = make_picture("left over", LEFT_OVER)
        assert left.picture is not None
        world.gallery.files.write([(left.content_sha256, left.picture)])
        world.age()

    def _seal(self, world: World) -> None:
        world.seal()
        self._set_clock(self._now + 1)


class PostgreSQLStage(Stage):
    """The same with the registry in an empty schema of a PostgreSQL."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder)
        address = make_url(url)
        self._schema = str(address.query["options"]).partition("=")[2]
        # what is in our schema is found before what is built in
        own = address.update_query_dict({"options": f"-csearch_path={self._schema},pg_catalog"})
        self._address = own.render_as_string(hide_password=False)
        self._admin = create_engine(own, isolation_level="AUTOCOMMIT", poolclass=StaticPool)
        self._tables, self._sequences = list[str](), dict[str, int]()
        # a sequence is in no transaction: what it says by now, a transaction that began before sees
        self._do(
            "CREATE SEQUENCE virtual_clock",
            "CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS"
            " 'SELECT to_timestamp(last_value / 1000.0) FROM virtual_clock'",
        )
        self._set_clock(self._now)

    @contextmanager
    def open(self) -> Iterator["Stage"]:
        with super().open():
            yield self
        self._admin.dispose()

    def restore(self) -> None:
        super().restore()
        copies = (f"INSERT INTO {table} SELECT * FROM saved_{table}" for table in self._tables)  # noqa: S608 - our own names
        numbers = (f"SELECT setval('{name}', {last})" for name, last in self._sequences.items())
        self._do(f"TRUNCATE {', '.join(self._tables)}", *copies, *numbers)

    def _save(self) -> None:
        super()._save()
        names = inspect(self._admin).get_table_names(self._schema)
        self._tables = [name for name in names if name != "alembic_version"]
        self._do(
            "SET session_replication_role = replica",  # in whatever order tables are filled
            *(f"CREATE TABLE saved_{table} AS TABLE {table}" for table in self._tables),
        )
        names = inspect(self._admin).get_sequence_names(self._schema)
        self._sequences = {name: self._read_last(name) for name in names}
        del self._sequences["virtual_clock"]

    def _read_last(self, sequence: str) -> int:
        with self._admin.connect() as connection:
            return int(connection.execute(text(f"SELECT last_value FROM {sequence}")).scalar_one())  # noqa: S608

    def _do(self, *statements: str) -> None:
        with self._admin.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def _url(self) -> str:
        return self._address

    def _set_clock(self, now: float) -> None:
        super()._set_clock(now)
        self._do(f"SELECT setval('virtual_clock', {round(now * 1000)})")
