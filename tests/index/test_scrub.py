"""F4: the scrub finds what changed by itself, mends what it can, and tells of the rest until that is mended."""

import errno
import hashlib
import json
import logging
import os
import socket
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import select, text
from typer.testing import CliRunner

from client.commands import app
from index import scrub_report, stored_items
from index.picture_tables import unpack_vector
from index.scrub import Scrub
from index.scrub_report import NAMED, Damage, ScrubReport
from index.vectors import Identity
from model.processes import name_owner
from store import files
from store.leases import SEALING
from store.settings import MISCONFIGURED
from store.tables import CaptionVectorRow, PictureVectorRow, VersionRow
from tests.bitrot import flip
from tests.index.world import Machines, World, ask, digest, draw, fail_with, interrupt, put

pytestmark = pytest.mark.row("F4")


def run_scrub(world: World, **options: Any) -> list[Damage]:
    return [*Scrub(world.sets, **options).run().damaged]


def fill_world(world: World) -> None:
    live = put(world.serve(), *range(6))
    world.seal(live)


def find_english(world: World) -> Identity:
    return next(each for each in world.sets.list_newest() if each.kind == "captions")


def test_a_damaged_segment_is_made_again_and_served_by_who_had_it_open(world: World) -> None:
    """Nothing opens it meanwhile, and the one before was verified: only a reading of all finds it."""
    fill_world(world)
    live = world.serve()
    before = ask(live)
    for folder in world.list_segments():
        size = (folder / "rows.safetensors").stat().st_size
        flip(folder / "rows.safetensors", 4 * size, world.home)
    found = run_scrub(world)
    assert [(each.kind, each.mended) for each in found] == [("segment", "from the registry")] * 2
    assert run_scrub(world) == [] and live.verify() == []
    live.refresh()
    assert ask(live) == ask(world.serve()) == before


def test_a_reading_that_mends_nothing_tells_the_same(world: World) -> None:
    fill_world(world)
    flip(world.list_segments("pictures")[0] / "index.faiss", 99, world.home)
    found = run_scrub(world, mend=False)
    assert found == run_scrub(world, mend=False) and found[0].mended == ""
    assert scrub_report.list_unmended(world.root) == found


def test_it_waits_for_whoever_seals_and_tells_if_that_lasts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_world(world)
    flip(world.list_segments("pictures")[0] / "index.faiss", 99, world.home)
    monkeypatch.setattr(stored_items, "_PATIENCE", 0.0)
    with world.registry.duties.hold(SEALING, "another", 600):
        assert [each.mended for each in run_scrub(world)] == [""]
    assert [each.mended for each in run_scrub(world)] == ["from the registry"]


@pytest.mark.parametrize("sealed", [True, False], ids=["from a segment", "computed again"])
def test_a_damaged_vector_of_the_registry_is_never_sealed_and_is_mended(
    world: World, sealed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    live = put(world.serve(), *range(6))
    if sealed:
        world.seal(live)
    before, good = ask(live), read_vectors(world)
    with world.registry.begin() as session:
        rows: list[Any] = [*session.scalars(select(PictureVectorRow)), *session.scalars(select(CaptionVectorRow))]
        for stored in rows:
            stored.vector = bytes([stored.vector[0] ^ 1]) + stored.vector[1:]
    assert all(vector is None for vector in read_vectors(world).values())
    caplog.set_level(logging.INFO)
    if not sealed:
        assert world.seal() == 0, "a damaged vector counts as none"
        assert "are damaged" in caplog.text
    found = run_scrub(world)
    assert {(each.kind, each.mended) for each in found} == {
        ("vector", "from a segment" if sealed else "by forgetting it, so that it is computed again")
    }
    live.refresh()
    mended = read_vectors(world)
    same = {key for key in good if (mended[key] == good[key]).all()}
    assert same == {key for key in good if sealed or isinstance(key, int)}, "pictures are read from their stored form"
    world.seal()
    assert run_scrub(world) == [] and live.verify() == []
    assert ask(world.serve())[1] == before[1] and (not sealed or ask(world.serve()) == before)


def read_vectors(world: World) -> dict[Any, Any]:
    with world.registry.read() as session:
        pictures = session.execute(select(PictureVectorRow.content_sha256, PictureVectorRow.vector)).all()
        captions = session.execute(select(CaptionVectorRow.caption_id, CaptionVectorRow.vector)).all()
    return {key: unpack_vector(stored) for key, stored in (*pictures, *captions)}


def test_a_version_and_a_picture_come_back_from_the_store(machines: Machines) -> None:
    here = machines.here
    here.put("a", 1)
    here.teach("cy", {"a": "ci"})
    flip(here.get_folder(1) / "rows.safetensors", 5)
    flip(here.gallery.files.locate(digest(1)), 50)
    flip(here.gallery.files.locate(digest(1), thumbnail=True), 50)
    found = run_scrub(here)
    assert [(each.kind, each.mended) for each in found] == [
        ("version", "from the store"),
        *[("picture", "from the store")] * 2,
    ]
    assert run_scrub(here) == [] and run_scrub(machines.there) == []
    assert here.gallery.files.read(digest(1)) == draw(1).stored


def test_a_damaged_copy_of_a_picture_is_fetched_anew_when_it_is_shown(machines: Machines) -> None:
    machines.here.put("a", 1)
    flip(machines.here.gallery.files.locate(digest(1)), 50)
    assert machines.here.gallery.files.read(digest(1)) == draw(1).stored and run_scrub(machines.here) == []


def test_what_cannot_be_mended_is_told_until_it_is(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A thumbnail can be made of the picture, the picture of nothing; putting it again replaces it."""
    fill_world(world)
    world.teach("cy", {"p1": "ci"})
    flip(world.gallery.files.locate(digest(2), thumbnail=True), 50)
    flip(world.gallery.files.locate(digest(1)), 50)
    world.gallery.files.locate(digest(3)).unlink()
    flip(world.get_folder(1) / "rows.safetensors", 5)
    found = {each.kind: each.mended for each in run_scrub(world) if ".thumb" not in each.name}
    assert found == {"version": "", "picture": ""}
    assert f"damaged: {digest(1)}.jpg, NOT mended" in caplog.text
    assert f"damaged: {digest(2)}.thumb.jpg, mended from the stored picture" in caplog.text
    left = {each.name for each in scrub_report.list_unmended(world.root)}
    assert left == {"version 1 of cy", f"{digest(1)}.jpg", f"{digest(3)}.jpg"}
    live = world.serve()
    assert {f"Damaged: {name}." for name in left} <= {*live.verify()}
    put(live, 1, 3)
    assert {each.kind for each in run_scrub(world)} == {"version"}


def test_chances_that_changed_count_as_none_and_are_fitted_again(world: World) -> None:
    versions = world.registry.versions
    for damaged in (b'"curves"', b"{"):  # another name, no JSON at all
        versions.set_calibration(0, {"curves": None, "encoding": 1, "change": 0})
        assert 0 in versions.read_calibrations([0])
        with world.registry.begin() as session:
            row = session.scalars(select(VersionRow).where(VersionRow.number == 0)).one()
            assert row.match is not None
            row.match = row.match.replace(damaged, damaged.swapcase().replace(b"{", b"z"))
        assert versions.read_calibrations([0]) == {} and versions.get(0).number == 0


def submit_dataset(world: World) -> str:
    """Submit an expansion whose dataset is in the data root, and in the store if there is one."""
    data, name = b"captions" * 9, "expansions/given/dataset"
    files.write_bytes(world.root.locate(name), data)
    if world.root.has_store:
        world.root.commit(name)
    given: Any = {"dataset_path": name, "dataset_sha256": hashlib.sha256(data).hexdigest()}
    return world.registry.expansions.submit(kind="learn", language="cy", settings={}, actor="t", **given)[0].id


def test_a_dataset_that_changed_or_is_gone_is_told_until_its_expansion_has_ended(world: World) -> None:
    fill_world(world)
    expansion, path = submit_dataset(world), world.root.locate("expansions/given/dataset")
    assert run_scrub(world) == []
    flip(path, 5)
    found = run_scrub(world)
    assert found == [Damage("dataset", f"dataset of expansion {expansion} of cy")]
    path.unlink()
    assert run_scrub(world) == found
    world.registry.expansions.cancel(expansion)
    assert run_scrub(world) == [], "its files may be removed by hand"


def test_a_dataset_comes_back_from_the_store(machines: Machines) -> None:
    submit_dataset(machines.here)
    flip(machines.here.root.locate("expansions/given/dataset"), 5)
    assert [(each.kind, each.mended) for each in run_scrub(machines.here)] == [("dataset", "from the store")]
    assert run_scrub(machines.here) == []


def flip_in_first_page(world: World, name: str, byte: int) -> None:
    """Flip a bit of a byte in the first page of a table or an index of the registry; -1 is the last byte."""
    world.registry.truncate_log()  # all that was written is in the file itself
    file = world.home / "registry.db"
    with closing(sqlite3.connect(file)) as registry:
        (size,) = registry.execute("PRAGMA page_size").fetchone()
        (page,) = registry.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [name]).fetchone()
    world.registry.close()  # nobody has the page in memory
    flip(file, 8 * (size * (page - 1) + byte % size) + 1)


def test_an_index_of_the_registry_that_changed_is_told(world: World) -> None:
    """No checksum tells it, and no row is another one."""
    fill_world(world)
    flip_in_first_page(world, "ix_captions_change", -1)
    found = run_scrub(world)
    assert {(each.kind, each.mended) for each in found} == {("registry", "")}
    assert all("ix_captions_change" in each.name for each in found)


def test_a_report_that_is_damaged_itself_counts_as_none(world: World) -> None:
    fill_world(world)
    run_scrub(world)
    report = scrub_report.load_report(world.root)
    assert report is not None and report.files > 10 and report.bytes > 10_000
    for data in (b"", b"{}", json.dumps({"damaged": [{}]}).encode(), b"\xff"):
        files.write_bytes(world.root.locate("scrub.json"), data)
        assert scrub_report.load_report(world.root) is None and scrub_report.list_unmended(world.root) == []


def test_a_report_names_some_and_counts_all(world: World) -> None:
    report = ScrubReport(1.0, 2.0, 3, 4)
    for number in range(250):
        report.add(Damage("picture", f"{number}", "from the store" if number % 2 else ""))
        report.add(Damage("vector", f"{number}"))
    scrub_report.save_report(world.root, report)
    assert scrub_report.load_report(world.root) == report and len(report.damaged) == NAMED + NAMED
    assert report.found == {"picture": 250, "vector": 250} and report.unmended == {"picture": 125, "vector": 250}
    sentences = scrub_report.describe_unmended(world.root)
    assert len(sentences) == NAMED + 1 and sentences[-1] == f"Damaged: {375 - NAMED} more."


def run_verify(world: World, *options: str, **environment: str) -> Any:
    return CliRunner().invoke(app, ["verify", *options], env={"PICTOGLOT_HOME": str(world.home), **environment})


def test_the_command_says_what_is_wrong_with_settings_and_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_world(world)
    ran = run_verify(world, PICTOGLOT_INDEX="milvus+http://127.0.0.1:9")
    assert ran.exit_code == MISCONFIGURED and "pictoglot reindex" in ran.stderr
    owners = list[str]()
    interrupt(monkeypatch, files, "write_json", lambda: owners.append(read_owner(world)))
    assert run_verify(world).exit_code == 0 and owners == [f"{socket.gethostname()}:{os.getpid()}"] == [name_owner()]
    world.root.locate("scrub.id").unlink()
    monkeypatch.setattr(files, "write_once", fail_with(OSError(errno.EROFS, os.strerror(errno.EROFS))))
    ran = run_verify(world)
    assert ran.exit_code == 1 and "Read-only file system" in ran.stderr and isinstance(ran.exception, SystemExit)


def read_owner(world: World) -> str:
    with world.registry.read() as session:
        said: str = session.execute(text("SELECT owner FROM duties WHERE name LIKE 'scrub %'")).scalar_one()
    return said


def test_a_report_that_cannot_be_kept_is_still_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_world(world)
    monkeypatch.setattr(files, "write_json", fail_with(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    assert Scrub(world.sets).run().files > 10
