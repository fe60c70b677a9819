"""Moving to another encoding: all vectors anew beside those that serve, compared, flipped, and taken back."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from index.live import LiveIndex
from index.set_states import open_engine
from index.sets import VectorSets
from index.vectors import Identity
from store.bases import FIRST_ENCODING, OPENVINO, Encoding
from store.errors import BackendNotAvailable, BaseMoved, BaseServes, EncodingMismatch
from store.expansions import Expansion
from tests.index.conftest import reachable
from tests.patience import PATIENCE
from tests.store.steps import move_encoding
from tests.worker.harness import Site, attempt_at, carry_out, pairs, teach
from tests.worker.moving import move, serving, show, submit_move
from worker.attempt import open_context
from worker.child import run
from worker.gate import GateFailed

pytest.importorskip("openvino", reason="openvino is not installed")
SHOWN = 70  # more than one shard


@pytest.fixture
def site(new_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> Site:
    """Without pictures that have no file; the encoding is the data root's, whatever the environment says."""
    monkeypatch.delenv("PICTOGLOT_BACKEND", raising=False)
    return new_site(pictures=0)


def other(site: Site) -> Encoding:
    """An encoding that the site does not have."""
    return Encoding(OPENVINO, "float32") if site.registry.encodings.find_current() == FIRST_ENCODING else FIRST_ENCODING


def to(site: Site, encoding: Encoding) -> Expansion:
    """A move to an encoding, from its submission to its end."""
    forced = encoding.precision == "int8"  # of so few captions two may be lost by chance
    return move(site, site.base, backend=encoding.backend, precision=encoding.precision, force=forced)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_all_vectors_are_made_anew_served_by_a_release_and_taken_back(site: Site, precision: str) -> None:
    show(site, SHOWN, en=["a thing"])
    teach(site)
    old, first = serving(site), site.registry.encodings.find_current()
    encoding = Encoding(OPENVINO, precision) if precision == "int8" else other(site)
    before = site.registry.releases.get_serving()
    with pytest.raises(BaseServes):
        run(attempt := attempt_at(site, submit_move(site.registry, site.base)))
    attempt.fail(BaseServes())
    try:
        report = to(site, encoding).report
    except BackendNotAvailable:
        pytest.skip("this processor does not multiply bytes")
    after, new = site.registry.releases.get_serving(), serving(site)
    assert report is not None and (report["from"], report["encoding"]) == (report["to"], str(encoding))
    for figures in (report["languages"][tag] for tag in ("en", "cy")):
        for way in ("t2i", "i2t"):  # both give nearly the same vectors
            assert figures["before"][way] == pytest.approx(
                figures["after"][way], abs=0.05 if precision == "int8" else 0
            )
        assert figures["pairs"] > 5
    assert new.encoding == encoding and (after.number, after.languages) == (before.number + 1, before.languages)
    sets, pictures = VectorSets(site.gallery), site.gallery.list_ids()
    for fingerprint in (new.text_fingerprint, old.text_fingerprint):
        assert len(sets.list_states(Identity("captions", fingerprint, 32, "cy", 1))) == 1
    (written,) = sets.read_state(Identity("pictures", new.image_fingerprint, 32)).segments
    assert written.rows == SHOWN
    had, has = (site.gallery.find_picture_vectors(pictures, each.image_fingerprint) for each in (old, new))
    assert len(had) == len(has) == SHOWN
    np.testing.assert_allclose(np.stack([*has.values()]), np.stack([*had.values()]), atol=0.02)  # 8 bits, or halves
    assert site.registry.bases.undo(actor="t", reason="").encoding == str(first)
    assert serving(site).encoding == site.registry.encodings.find_current() == first
    assert site.registry.bases.undo(actor="t", reason="").encoding == str(encoding)


def test_int8_may_cost_less_than_other_moves(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    show(site, SHOWN)
    teach(site)
    monkeypatch.setattr("worker.move._INT8_BUDGET", -1.0)  # so that what is equal is a loss
    with pytest.raises((GateFailed, BackendNotAvailable), match=r"cy would go from|VNNI"):
        run(attempt_at(site, submit_move(site.registry, site.base, backend=OPENVINO, precision="int8")))


def test_the_first_attempt_decides_what_auto_means(site: Site) -> None:
    attempt, encoding = attempt_at(site, submit_move(site.registry, site.base, backend="auto")), other(site)
    attempt.decide_once("encoding.json", encoding.get_settings)  # by a machine where this one is the fastest
    run(attempt)
    assert serving(site).encoding == encoding


def test_a_move_that_the_settings_of_the_worker_refuse_changes_nothing(site: Site) -> None:
    first, encoding = site.registry.encodings.find_current(), other(site)
    assert first is not None
    expansion = submit_move(site.registry, site.base, backend=encoding.backend)
    with pytest.raises(EncodingMismatch, match=f"PICTOGLOT_BACKEND is {first.backend} here"):
        run(attempt_at(site, expansion, backend=first.backend))
    assert site.registry.encodings.find_current() == first


def test_what_was_begun_in_another_encoding_must_begin_anew(site: Site) -> None:
    encoding = other(site)
    move_encoding(site.registry, encoding)
    open_context(attempt := attempt_at(site, site.submit(pairs("cy"))))
    first = site.registry.bases.undo(actor="t", reason="").encoding
    with pytest.raises(BaseMoved, match=f"{first} makes the vectors now, not {encoding}"):
        open_context(attempt)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["pgvector", "milvus"])
def test_with_an_engine_they_are_made_there(
    new_site: Callable[..., Site], engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    settings = {"DATABASE_URL": request.getfixturevalue("postgresql_url")} if engine == "pgvector" else {}
    with reachable(engine, tmp_path) as index:
        site = new_site(pictures=0, INDEX=index, **settings)
        given = {"index": index, **{name.lower(): value for name, value in settings.items()}}
        show(site, SHOWN)
        pictures = site.gallery.list_ids()
        captions = [{**row, "picture": picture} for row, picture in zip(pairs("cy"), pictures * 2, strict=False)]
        run(attempt_at(site, site.submit(captions), **given))
        encoding = other(site)
        wanted = {"backend": encoding.backend, "precision": encoding.precision}
        run(attempt_at(site, submit_move(site.registry, site.base, **wanted), **given))
        new = serving(site)
        assert new.encoding == encoding
        live = LiveIndex(new, VectorSets(site.gallery, open_engine(index, site.registry)))
        assert live.start() and live.current.degraded == () and live.verify() == []
        served = live.current
        assert {identity.fingerprint for identity in served.sets} == {new.image_fingerprint, new.text_fingerprint}
        assert (served.picture_set.count, served.captions["cy"].count, new.encoded_count) == (SHOWN, 100, 0)
        assert all(each.remote and each.tail.count == 0 for each in served.sets.values())
        for id in pictures[:5]:
            assert served.search_pictures(served.find_picture_vector(id), 1)[0].picture == id
        assert not list((site.home / "segments").glob("*"))
        live.close()


def test_what_the_workers_machine_lacks_ends_it_and_changes_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = site.registry.encodings.find_current()
    expansion = submit_move(site.registry, site.base, backend=OPENVINO, precision="bfloat16")
    assert site.attempt(expansion, ONEDNN_MAX_CPU_ISA="AVX512_CORE").wait(PATIENCE) == 0
    error = site.registry.expansions.get(expansion).error
    assert error is not None and error.code == "backend_not_available"
    assert site.registry.encodings.find_current() == before


def test_a_version_that_serves_no_longer_and_is_damaged_is_left_out_and_told(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    teach(site, "br", "cy")
    site.registry.releases.roll_back("cy", actor="test", reason="")
    (site.home / str(site.registry.versions.get(2).folder) / "rows.safetensors").write_bytes(b"damaged")
    attempt = attempt_at(site, submit_move(site.registry, site.base, **(encoding := other(site)).get_settings()))
    run(attempt)
    report = site.registry.expansions.get(attempt.expansion.id).report
    assert (
        site.registry.encodings.find_current() == encoding and report is not None and report["damaged_versions"] == [2]
    )
    assert "damaged versions are left out, which serve no longer: [2]" in caplog.text
    assert attempt.part == (1, 2), "no language is taught"


def test_a_language_learns_from_pictures_that_only_have_the_old_vectors(site: Site) -> None:
    to(site, other(site))
    show(site, SHOWN)
    site.registry.bases.undo(actor="t", reason="")
    rows = [{**row, "picture": picture} for row, picture in zip(pairs("cy"), site.gallery.list_ids() * 2, strict=False)]
    expansion = carry_out(site, rows).id
    assert site.registry.expansions.get(expansion).state == "succeeded"
