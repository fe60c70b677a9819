"""Moving to another base: everything anew beside what serves, compared, flipped by one release, and taken back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from client.commands import app
from index.captions import EncoderId
from index.live import LiveIndex
from index.sets import VectorSets
from index.vectors import Identity
from model.backend import open_encoder
from model.encoder import Encoder, Views
from store.data_root import DataRoot
from store.errors import BaseMismatch, BaseNotFound, BaseServes, DiskTooSmall, ExpansionInProgress, PicturesUnreadable
from store.registry import Registry
from store.settings import CommonSettings
from tests.doubles import Vectors
from tests.patience import PATIENCE
from tests.tiny import write_tiny_base
from tests.worker.harness import Site, attempt_at, pairs, report_of, teach
from tests.worker.moving import OTHER, move, serving, show, submit_move
from worker.attempt import Attempt
from worker.child import run
from worker.gate import GateFailed
from worker.settings import WorkerSettings

SHOWN = 101


@pytest.fixture
def site(new_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> Site:
    """With pictures that have files, the last one with captions of its own; computed by torch, which opens sooner."""
    monkeypatch.setenv("PICTOGLOT_BACKEND", "torch")
    site = new_site(pictures=0)
    show(site, SHOWN - 1)
    show(site, 1, first=SHOWN - 1, en=["an old ship"], cy=["hen long"])
    return site


def vectors_of(site: Site, encoder: Encoder) -> dict[str, Vectors]:
    """What answers come from, as a base has it: every caption's vector, by the language's version; the pictures'."""
    registry, gallery = site.registry, site.gallery
    ids = gallery.list_ids()
    found = {"pictures": np.stack([*gallery.find_picture_vectors(ids, encoder.image_fingerprint).values()])}
    for tag, version in registry.releases.get_serving().languages.items():
        visible = registry.releases.find_visible(tag, version)
        captions = [each for each in gallery.find_captions(ids, tag) if each.expansion in {None, *visible}]
        encoder_id = EncoderId(version, encoder.text_fingerprint)
        stored = gallery.find_caption_vectors([each.id for each in captions], encoder_id)
        assert len(stored) == len(captions), tag
        found[tag] = np.stack([stored[each.id] for each in captions])
    return found


def rows_of(site: Site, encoder: Encoder, tag: str, version: int) -> int:
    sets = VectorSets(site.gallery)
    of = Identity("captions", encoder.text_fingerprint, encoder.dimension, tag, version)
    return sum(written.rows for written in sets.read_state(of).segments)


def read(site: Site, encoder: Encoder, tag: str, text: str) -> Vectors:
    """A query in a language, as the version that serves it reads it."""
    view = Views(encoder, site.registry, DataRoot(site.home)).open(site.registry.releases.get_serving().languages[tag])
    return encoder.encode_texts([(view, text)], alone=True).vectors


def test_everything_is_made_anew_served_by_one_release_and_taken_back_bit_for_bit(site: Site, other_base: str) -> None:
    teach(site, "cy", "br", picture=True)
    old, before = serving(site), site.registry.releases.get_serving()
    answers, query = vectors_of(site, old), read(site, old, "cy", "afal der")
    done = move(site, other_base)

    after, new = site.registry.releases.get_serving(), serving(site)
    assert (done.state, done.release, done.version) == ("succeeded", after.number, after.shared)
    assert new.base_view.version == after.base == 3 and new.dimension == 48
    assert after.languages == {"en": 3, "cy": 4, "br": 5} and after.shared == 5
    assert site.registry.versions.get(4).dataset_expansions == site.registry.versions.get(1).dataset_expansions
    moved = vectors_of(site, new)
    assert {tag: len(each) for tag, each in moved.items()} == {tag: len(each) for tag, each in answers.items()}
    assert (
        rows_of(site, new, "cy", 4) == 101 and rows_of(site, new, "br", 5) == 100 and rows_of(site, new, "en", 3) == 1
    )
    report = done.report or {}
    assert (report["from"], report["to"], report["forced"]) == ("pictoglot-tiny", OTHER, False)
    for tag in ("cy", "br"):
        figures = report["languages"][tag]
        learned = site.registry.versions.get(before.languages[tag]).report
        assert (figures["pairs"], figures["candidates"]) == (learned["pairs"], learned["candidates"])
        assert figures["before"]["t2i"] == pytest.approx(learned["t2i"])
        assert figures["after"]["t2i"] == pytest.approx(site.registry.versions.get(after.languages[tag]).report["t2i"])
    assert report["languages"]["en"]["pairs"] == 1  # the gallery's

    # rolling back stays on the new base; a language learned there is named as lost by the way back
    assert site.registry.releases.roll_back("br", actor="t", reason="").to_version is None
    undone = site.registry.bases.undo(actor="t", reason="")
    assert (undone.lost, undone.returned, undone.changed) == ([], ["br"], ["cy"])
    again = serving(site)
    assert site.registry.releases.get_serving().languages == before.languages
    assert again.text_fingerprint == old.text_fingerprint
    for tag, vectors in vectors_of(site, again).items():
        np.testing.assert_array_equal(vectors, answers[tag])
    np.testing.assert_array_equal(read(site, again, "cy", "afal der"), query)


def test_a_language_that_cannot_be_measured_keeps_the_old_base_unless_forced(site: Site, other_base: str) -> None:
    teach(site, "cy", picture=True)
    served = site.registry.releases.get_serving()
    attempt = attempt_at(site, submit_move(site.registry, other_base), forgetting_budget=0.0)
    with pytest.raises(GateFailed, match="goes on serving") as caught:
        _worsen(attempt)
        run(attempt)
    attempt.fail(caught.value)
    failed = site.registry.expansions.get(attempt.expansion.id)
    assert failed.error is not None and failed.error.code == "gate_failed"
    assert failed.report is not None and {"en", "cy"} <= set(failed.report["languages"])
    assert site.registry.releases.get_serving() == served and serving(site).base_view.version == 0
    versions = len(site.registry.versions.list())
    site.gallery.delete(f"p{SHOWN - 1}")  # all that is in English, and what the dataset has no longer counts
    (source,) = site.registry.versions.get(1).dataset_expansions
    dataset = site.home / "expansions" / source / "dataset"
    dataset.write_bytes(dataset.read_bytes() + b"\n")
    done = move(site, other_base, budget=0.0, force=True)
    assert len(site.registry.versions.list()) == versions  # what was learned on this base is not learned again
    assert done.report is not None and site.registry.releases.get_serving().base == 2
    assert done.report["languages"] == {"en": {}, "cy": {}}


def _worsen(attempt: Attempt) -> None:
    """The held-out captions of Welsh are lost, so that nobody can say what it would lose."""
    (source,) = attempt.registry.versions.get(1).dataset_expansions
    (attempt.settings.home / "expansions" / str(source) / "validation.json").unlink()


def test_what_comes_meanwhile_is_taken_in_by_another_pass(site: Site, other_base: str) -> None:
    teach(site, "cy", "br", picture=True)
    expansion = submit_move(site.registry, other_base)
    with pytest.raises(ExpansionInProgress):
        site.submit(pairs("cy"), "cy")

    class Meanwhile(Attempt):
        """When old and new are compared, a picture comes and a language is rolled back."""

        happened = False

        @contextmanager
        def enter_phase(self, name: str) -> Iterator[None]:
            with super().enter_phase(name):
                yield
            if name == "compare" and not self.happened:
                self.happened = True
                show(site, 1, first=SHOWN, br=["llong newydd"])
                self.registry.releases.roll_back("cy", actor="test", reason="")

    run(attempt_at(site, expansion, kind=Meanwhile))
    after, new = site.registry.releases.get_serving(), serving(site)
    assert (after.number, after.languages, after.shared) == (5, {"en": 3, "br": 5}, 3)
    report = report_of(site, expansion)
    assert report["shared_lacks"] == ["br"], "it was taught upon Welsh, which is rolled back"
    assert rows_of(site, new, "br", 5) == 101
    assert len(vectors_of(site, new)["pictures"]) == SHOWN + 1


@pytest.mark.parametrize(("more", "passes"), [(2, 1), (3, 2)])
def test_many_pictures_that_come_meanwhile_are_encoded_before_it_serves_unless_as_many_come_again(
    site: Site, other_base: str, monkeypatch: pytest.MonkeyPatch, more: int, passes: int
) -> None:
    monkeypatch.setattr(WorkerSettings, "seal_at", 2)
    compared = list[str]()

    class Filled(Attempt):
        @contextmanager
        def enter_phase(self, name: str) -> Iterator[None]:
            with super().enter_phase(name):
                yield
            if name == "compare":
                show(site, more, first=SHOWN + more * len(compared))
                compared.append(name)

    run(attempt_at(site, submit_move(site.registry, other_base), kind=Filled))
    assert len(compared) == passes
    assert len(vectors_of(site, serving(site))["pictures"]) == SHOWN + more * (passes - 1)


def test_a_move_is_refused_before_it_starts_and_nothing_else_begins_beside_it(
    new_site: Callable[..., Site], other_base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = new_site(pictures=1)
    served, versions = site.registry.releases.get_serving(), site.registry.versions.list()
    learning = site.submit(pairs("cy"), "cy")
    with pytest.raises(ExpansionInProgress):
        submit_move(site.registry, other_base)
    site.registry.expansions.cancel(learning)
    for base, error in (("ViT-B-32/no-such-weights", BaseNotFound), (site.base, BaseServes)):
        with pytest.raises(error):
            run(attempt := attempt_at(site, submit_move(site.registry, base)))
        attempt.fail(error())
    monkeypatch.setattr("index.janitor.BYTES", 10**15)
    with pytest.raises(DiskTooSmall, match=r"needs about [\d,]+ MB of disk, and [\d,]+ MB are free") as caught:
        run(attempt := attempt_at(site, submit_move(site.registry, other_base)))
    assert {"needed", "free"} <= set(caught.value.extra)
    attempt.fail(caught.value)
    assert site.registry.releases.get_serving() == served and site.registry.versions.list() == versions
    assert len(site.registry.bases.list()) == 1


def test_on_a_base_of_many_languages_settings_may_name_the_first_base(
    new_site: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PICTOGLOT_BACKEND", "torch")
    site = new_site(pictures=0)
    show(site, 4, en=["an old ship"], eu=["itsasontzi zaharra"])
    site.gallery.files.locate(f"{10**9 + 3:064x}").unlink()
    many = write_tiny_base(tmp_path, seed=5, name=OTHER, languages=["eu"], dimension=48)
    with pytest.raises(PicturesUnreadable, match=r"1 stored picture .*p3"):
        run(attempt := attempt_at(site, submit_move(site.registry, many)))
    attempt.fail(PicturesUnreadable())
    done = move(site, many, force=True)
    assert done.report is not None and done.report["unreadable"] == 1
    new, base = serving(site), site.registry.releases.get_serving().base
    live = LiveIndex(new, VectorSets(site.gallery))
    assert live.start() and set(live.current.captions) == {"en"} and new.encoded_count == 0
    live.close()

    for name in (site.base, many):
        assert _opened(site.registry, site.home, name).base_view.version == base
    environment = {"PICTOGLOT_HOME": str(site.home), "PICTOGLOT_BASE": site.base}
    result = CliRunner().invoke(app, ["doctor"], env=environment)
    assert f"{OTHER}, 48 dimensions" in result.stdout
    for folder in ("copy", "unknown"):
        (tmp_path / folder).mkdir()
    copy = write_tiny_base(tmp_path / "copy")  # the first base in another place: known by its weights
    assert _opened(site.registry, site.home, copy).base_view.version == base
    with pytest.raises(BaseMismatch, match="pictoglot base move"):
        _opened(site.registry, site.home, write_tiny_base(tmp_path / "unknown", seed=3))


def _opened(registry: Registry, home: Path, base: str) -> Encoder:
    return open_encoder(CommonSettings(home=home, base=base), registry)


POINTS = (
    "build.shard:1", "phase.train:1", "phase.package:1", "phase.encode:1", "build.registered:2", "phase.promote:1",
    "move.committed:1",
)  # fmt: skip


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_killed_at_every_point_it_ends_with_one_release(site: Site, other_base: str) -> None:
    teach(site, "cy", picture=True)
    expansion = submit_move(site.registry, other_base)
    for point in POINTS:
        site.attempt(expansion, FAULT_POINT=point).wait(PATIENCE)
        assert site.registry.expansions.get(expansion).state == "running", f"{point} was never passed\n{site.log()}"
        site.abandon(expansion)
    assert site.attempt(expansion).wait(PATIENCE) == 0
    done, after = site.registry.expansions.get(expansion), site.registry.releases.get_serving()
    assert done.state == "succeeded", f"{done}\n{site.log()[-3000:]}"
    assert done.report is not None and set(done.report["languages"]) == {"en", "cy"}
    assert (after.number, after.base, after.languages) == (3, 2, {"en": 2, "cy": 3})
    assert [version.number for version in site.registry.versions.list()] == [3, 2, 1, 0]
    assert rows_of(site, serving(site), "cy", 3) == 101
