"""New vectors in another encoding: made beside the old ones, which serve until all are there; attempts go on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import func, select

from index.engine.choice import open_engine
from index.gallery import NewPicture
from index.live import LiveIndex
from index.sets import VectorSets
from index.vectors import Identity
from model.backend import open_encoder, recorded
from model.encoder import Encoder
from model.pictures import Picture, read_rgb
from store.encodings import FIRST, OPENVINO, Encoding
from store.errors import ExpansionFinished, PicturesUnreadable
from store.expansions import Expansion
from store.settings import CommonSettings
from store.tables import PictureVectorRow
from tests.index.conftest import reachable
from tests.patience import PATIENCE
from tests.registries import publish_release
from tests.tiny import write_tiny_base
from tests.worker.harness import Site, attempt_at, pairs, teach
from worker.attempt import Attempt, Stopped
from worker.phases import run

pytest.importorskip("openvino", reason="openvino is not installed")
SHOWN = 70  # more than one shard


@pytest.fixture(autouse=True)
def as_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoding is the data root's, whatever the environment says."""
    monkeypatch.delenv("PICTOGLOT_BACKEND", raising=False)


def other(site: Site) -> Encoding:
    """An encoding that the site does not have."""
    have = recorded(site.registry)
    return Encoding(OPENVINO, "float32") if have == FIRST else FIRST


def show(site: Site) -> dict[str, Image.Image]:
    """Put pictures that have files, with vectors of the site's encoding."""
    random, new = np.random.default_rng(0), list[NewPicture]()
    for number in range(SHOWN):
        rgb = Image.fromarray(random.integers(0, 255, (32, 32, 3), dtype=np.uint8))
        picture = Picture.of(rgb)
        vector = np.full(32, 32**-0.5, dtype=np.float32)
        new.append(NewPicture(f"shown{number:02d}", f"{10**9 + number:064x}", 32, 32, None, vector, picture))
    site.gallery.put(new, site.image_fingerprint)
    return {each.id: read_rgb(each.picture.stored) for each in new if each.picture is not None}


def submit(site: Site, encoding: Encoding, **more: bool) -> str:
    expansion, _ = site.registry.expansions.submit(
        kind="reencode",
        language="mul",
        settings={"backend": encoding.backend, "precision": encoding.precision, **more},
        actor="test",
    )
    return expansion.id


def encoded(site: Site, fingerprint: str) -> int:
    """How many pictures have a vector with this fingerprint."""
    with site.registry.read() as session:
        query = select(func.count()).where(PictureVectorRow.fingerprint == fingerprint)
        return int(session.scalar(query) or 0)


def opened(site: Site) -> Encoder:
    """What a start after that serves with."""
    return open_encoder(CommonSettings(home=site.home, base=site.base), site.registry)


@pytest.fixture
def site(new_site: Callable[..., Site]) -> Site:
    """Without pictures that have no file."""
    return new_site(pictures=0)


def ended(site: Site, expansion: str) -> Expansion:
    return site.registry.expansions.get(expansion)


def test_all_vectors_are_made_anew_and_the_next_start_serves_them(site: Site) -> None:
    pictures = show(site)
    teach(site)
    old, encoding = opened(site), other(site)
    served = site.registry.releases.serving()
    run(attempt_at(site, expansion := submit(site, encoding)))
    report = ended(site, expansion).report
    assert report == {"encoding": str(encoding), "unreadable": 0, "sets": 3, "damaged_versions": []}
    new = opened(site)
    assert new.encoding == encoding and site.registry.releases.serving() == served
    sets = VectorSets(site.gallery)
    for fingerprint in (new.text_fingerprint, old.text_fingerprint):
        assert len(sets.states(Identity("captions", fingerprint, 32, "cy", 1))) == 1
    (written,) = sets.state(Identity("pictures", new.image_fingerprint, 32)).segments
    assert written.rows == SHOWN
    vectors = site.gallery.picture_vectors(list(pictures), new.image_fingerprint)
    assert len(vectors) == SHOWN == len(site.gallery.picture_vectors(list(pictures), old.image_fingerprint))
    np.testing.assert_allclose(np.stack([*vectors.values()]), new.pictures([*pictures.values()]), atol=1e-3)  # halves


def test_captions_that_the_base_reads_untaught_are_made_anew_too(tiny_base: str, tmp_path: Path) -> None:
    (folder := tmp_path / "base").mkdir()
    (folder / "compiled").symlink_to(Path(tiny_base.partition("@")[2]).parent / "compiled")  # the same towers
    site = Site(tmp_path / "home", write_tiny_base(folder, languages=["eu"]), pictures=0)
    site.gallery.put(
        [NewPicture("a", "0" * 64, 32, 32, {"eu": ["itsasontzia"]}, np.ones(32, dtype=np.float32))],
        site.image_fingerprint,
    )
    run(attempt_at(site, submit(site, other(site), skip_unreadable=True)))
    new = opened(site)
    identity = Identity("captions", new.text_fingerprint, 32, "eu", 0)
    assert sum(written.rows for written in VectorSets(site.gallery).state(identity).segments) == 1
    site.close()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["pgvector", "milvus"])
def test_with_an_engine_they_are_made_there(
    new_site: Callable[..., Site], engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    settings = {"DATABASE_URL": request.getfixturevalue("postgresql_url")} if engine == "pgvector" else {}
    with reachable(engine, tmp_path) as index:
        site = new_site(pictures=0, INDEX=index, **settings)
        given = {"index": index, **{name.lower(): value for name, value in settings.items()}}
        pictures = list(show(site))
        captions = [{**row, "picture": picture} for row, picture in zip(pairs("cy"), pictures * 2, strict=False)]
        run(attempt_at(site, site.submit(captions), **given))
        expansion, encoding = submit(site, other(site)), other(site)
        run(attempt_at(site, expansion, **given))
        assert ended(site, expansion).state == "succeeded"
        new = opened(site)
        assert new.encoding == encoding
        live = LiveIndex(new, VectorSets(site.gallery, open_engine(index, site.registry)))
        assert live.start() and live.current.degraded == () and live.verify() == []
        served = live.current
        assert {identity.fingerprint for identity in served.sets} == {new.image_fingerprint, new.text_fingerprint}
        assert (served.pictures.count, served.captions["cy"].count, new.encoded) == (SHOWN, 100, 0)
        assert all(each.remote and each.tail.count == 0 for each in served.sets.values())
        for id in pictures[:5]:
            assert served.search_pictures(served.picture_vector(id), 1)[0].picture == id
        assert not list((site.home / "segments").glob("*"))
        live.close()


class StopsEncoding(Attempt):
    """Asked to stop after the first shard."""

    def saved(self) -> None:
        super().saved()
        self.stop.set()


def test_an_attempt_goes_on_where_the_last_one_stopped(site: Site) -> None:
    show(site)
    expansion, encoding = submit(site, other(site)), other(site)
    before = recorded(site.registry)
    first = attempt_at(site, expansion, kind=StopsEncoding)
    with pytest.raises(Stopped):
        run(first)
    fingerprint = encoding.fingerprint(opened(site).base.image_fingerprint)
    done = encoded(site, fingerprint)
    assert 0 < done < SHOWN and recorded(site.registry) == before
    site.registry.expansions.release_lease(first.lease)
    run(attempt_at(site, expansion))
    assert encoded(site, fingerprint) == SHOWN and recorded(site.registry) == encoding


@pytest.mark.faults
def test_killed_while_encoding_the_old_vectors_serve_until_another_attempt_is_done(site: Site) -> None:
    show(site)
    encoding, before = other(site), recorded(site.registry)
    expansion = submit(site, encoding)
    killed = site.attempt(expansion, FAULT_POINT="build.shard:1")
    assert killed.wait(PATIENCE) == -9
    assert recorded(site.registry) == before == opened(site).encoding
    site.abandon(expansion)
    assert site.attempt(expansion).wait(PATIENCE) == 0
    assert ended(site, expansion).state == "succeeded" and recorded(site.registry) == encoding


def test_a_second_attempt_after_the_change_only_ends_it(site: Site) -> None:
    expansion, encoding = submit(site, other(site)), other(site)
    lease = site.registry.expansions.lease(expansion, "test:1", 600)
    assert lease is not None
    site.registry.encodings.change(encoding.backend, encoding.precision, lease, 1)
    with pytest.raises(ExpansionFinished):
        site.registry.expansions.cancel(expansion)
    site.registry.expansions.release_lease(lease)
    run(attempt_at(site, expansion))
    assert ended(site, expansion).state == "succeeded" and recorded(site.registry) == encoding


def test_what_the_workers_machine_lacks_ends_it_and_changes_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = recorded(site.registry)
    expansion = submit(site, Encoding(OPENVINO, "bfloat16"))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert site.attempt(expansion, ONEDNN_MAX_CPU_ISA="AVX512_CORE").wait(PATIENCE) == 0
    assert (error := ended(site, expansion).error) is not None and error.code == "backend_not_available"
    assert recorded(site.registry) == before


def test_pictures_that_cannot_be_read_end_it_unless_it_shall_go_on_without_them(site: Site) -> None:
    show(site)
    site.gallery.files.content_path(f"{10**9 + 3:064x}").unlink()
    before, encoding = recorded(site.registry), other(site)
    with pytest.raises(PicturesUnreadable, match=r"1 stored picture .*shown03"):
        run(attempt := attempt_at(site, submit(site, encoding)))
    attempt.fail(PicturesUnreadable())
    assert recorded(site.registry) == before
    run(attempt_at(site, expansion := submit(site, encoding, skip_unreadable=True)))
    report = ended(site, expansion).report
    assert report is not None and report["unreadable"] == 1 and recorded(site.registry) == encoding


def test_a_version_that_serves_no_longer_and_is_damaged_or_pruned_is_left_out(site: Site) -> None:
    teach(site)
    site.registry.releases.roll_back("cy", actor="test", reason="")
    (rows,) = site.home.glob("versions/*/rows.safetensors")
    rows.write_bytes(b"damaged")
    run(attempt_at(site, expansion := submit(site, other(site))))
    report = ended(site, expansion).report
    assert report is not None and report["damaged_versions"] == [1]
    for number in (3, 4):
        publish_release(site.registry, expected=number, shared=0, languages={})
    assert [version.number for version in site.registry.retention.prune(2).versions] == [1]
    run(attempt_at(site, expansion := submit(site, other(site))))
    report = ended(site, expansion).report
    assert report is not None and (report["sets"], report["damaged_versions"]) == (2, [])


def test_what_comes_meanwhile_is_encoded_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the next start would have to do it before it serves."""
    show(site)
    encoding = other(site)

    class Meanwhile(Attempt):
        def saved(self) -> None:
            super().saved()
            if not site.gallery.known(["late"]):
                rgb = Image.new("RGB", (32, 32), "red")
                picture = Picture.of(rgb)
                vector = np.full(32, 32**-0.5, dtype=np.float32)
                site.gallery.put([NewPicture("late", "f" * 64, 32, 32, None, vector, picture)], site.image_fingerprint)

    run(attempt_at(site, submit(site, encoding), kind=Meanwhile))
    fingerprint = encoding.fingerprint(opened(site).base.image_fingerprint)
    assert list(site.gallery.picture_vectors(["late"], fingerprint)) == ["late"]


def test_a_language_learns_from_pictures_that_only_have_the_old_vectors(site: Site) -> None:
    pictures = list(show(site))
    encoding = other(site)
    lease = site.registry.expansions.lease(submit(site, encoding), "test:1", 600)
    assert lease is not None
    site.registry.encodings.change(encoding.backend, encoding.precision, lease, 1)
    site.registry.expansions.succeed(lease, 0, 1, {})
    rows = [{**row, "picture": picture} for row, picture in zip(pairs("cy"), pictures * 2, strict=False)]
    run(attempt_at(site, expansion := site.submit(rows)))
    assert ended(site, expansion).state == "succeeded"
