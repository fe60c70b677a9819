"""Chances of hits as a worker measures them: from the vectors in the registry, of what a version did not learn."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from index.captions import EncoderId
from index.gallery import NewPicture
from index.loader import Calibrations
from model import checkpoint
from model.checkpoint import TokenRows, VersionContent
from model.dataset.rows import Pivot, Row
from model.match import SAMPLE, Curves, blend_deviations, take_first
from store import files, leases
from store.data_root import DataRoot
from store.leases import PURGING
from tests.doubles import Vectors
from tests.launcher import PARENT
from tests.patience import PATIENCE
from tests.store import steps
from tests.worker.harness import PICTURES, Site, attempt_at, pairs
from worker import upkeep
from worker.attempt import open_context
from worker.child import run
from worker.match import LEAST_CAPTIONS_BESIDE, MatchFitter
from worker.settings import WorkerSettings
from worker.upkeep import REFIT_CHANGES, IndexingChore, list_languages_to_fit
from worker.validation import HELD_OUT, LEAST_CAPTIONS, Glosser, HeldOut, choose_gallery_english

ENGLISH = ("en", 0)
CURVES = {
    **{"sharpness": 1.5, "trust": 1.0, "lead": 1.5, "most": 0.98},
    **{"steepness": 2.0, "threshold": 0.5, "usual": 0.1},
}


def unit(vectors: NDArray[Any]) -> Vectors:
    unit: Vectors = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return unit


def described(
    site: Site, count: int, *, start: int = 0, tag: str = "en", version: int = 0, text: str = "", noise: float = 0.15
) -> None:
    """Pictures of the site get a caption each in one language, whose vector is near that of the picture."""
    random, by = np.random.default_rng(start), EncoderId(version, site.text_fingerprint)
    pictures = []
    for number in range(start, start + count):
        own = unit(random.standard_normal(site.dimension))
        caption = text or f"caption {number}"
        near = unit(own + noise * random.standard_normal(site.dimension))
        pictures.append(
            NewPicture(
                f"d{number}", f"{10_000 + number:064x}", 64, 64, {tag: [caption]}, own, None, {(tag, caption, by): near}
            )
        )
    site.gallery.put(pictures, site.image_fingerprint)


def measure(site: Site, language: str = "en", version: int = 0) -> dict[str, Any]:
    MatchFitter(site.registry, DataRoot(site.home)).fit(language, version)
    match = site.registry.versions.read_calibrations([version])[version]
    result: dict[str, Any] = match["result"]
    return result


def followed(site: Site, before: Calibrations | None = None) -> Calibrations:
    release, change = site.registry.releases.get_serving(), site.gallery.read_last_change()
    return (before or Calibrations()).refresh(site.gallery, site.image_fingerprint, release, change)


def test_english_is_measured_with_the_captions_of_the_gallery_in_a_child(site: Site) -> None:
    described(site, 80)
    assert list_languages_to_fit(site.registry) == [ENGLISH]
    assert site.process("worker.upkeep", "fit", PARENT).wait(PATIENCE) == 0, site.log()[-4_000:]
    match = site.registry.versions.read_calibrations([0])[0]
    assert match["curves"] is not None
    result, change, pictures = match["result"], site.gallery.read_last_change(), PICTURES + 80
    assert result["captions"] == 80 and match["pictures"] == result["pictures"] == pictures
    assert match["change"] == change and list_languages_to_fit(site.registry) == []
    assert 0 <= result["error"] < 0.2 and result["kept"] > 0.8 and len(result["bins"]) == 10
    calibrations = followed(site)
    assert followed(site, calibrations) is calibrations and set(calibrations.by_version) == {0}
    calibration = calibrations.by_version[0]
    assert calibration.sample.shape == (pictures, site.dimension)
    assert calibration.is_valid_at(change + pictures) and not calibration.is_valid_at(change + pictures + 1)
    assert calibration.is_valid_among(pictures // 2) and not calibration.is_valid_among(pictures // 2 - 1)
    described(site, SAMPLE + 1, start=80)
    assert followed(site, calibrations).by_version[0].sample.shape == (SAMPLE, site.dimension)


def test_a_deleted_picture_leaves_the_sample_and_every_process_has_the_same(site: Site) -> None:
    described(site, 3)
    fit = {"curves": CURVES, "pictures": 100, "tower": site.image_fingerprint, "change": 0}
    site.registry.versions.set_calibration(0, fit)
    (own,) = site.gallery.find_picture_vectors(["d1"], site.image_fingerprint).values()
    before = followed(site)
    assert (before.by_version[0].sample == own).all(axis=1).any() and followed(site, before) is before
    site.gallery.delete("d1")
    after = followed(site, before)
    assert not (after.by_version[0].sample == own).all(axis=1).any()
    assert (after.by_version[0].sample == followed(site).by_version[0].sample).all()


@pytest.mark.parametrize(
    ("curves", "pictures", "behind", "tower", "is_due"),
    [
        (CURVES, 200, 100, "", False),
        (CURVES, 200, 101, "", True),  # the gallery has changed by half
        (CURVES, 10, 100, "", False),  # or by a hundred
        (CURVES, 200, 0, "of other vectors", True),
        (None, 200, 10, "", False),  # what could not be measured is looked at again after few changes
        (None, 200, 11, "", True),
    ],
)
def test_it_is_fitted_again_when_the_gallery_has_changed_much_or_has_other_vectors(
    site: Site, curves: object, pictures: int, behind: int, tower: str, is_due: bool
) -> None:
    change, tower = site.gallery.read_last_change() - behind, tower or site.image_fingerprint
    site.registry.versions.set_calibration(
        0, {"curves": curves, "pictures": pictures, "tower": tower, "change": change}
    )
    assert list_languages_to_fit(site.registry) == ([ENGLISH] if is_due else [])
    assert bool(followed(site).by_version) == (curves is not None and tower == site.image_fingerprint)


def test_the_curves_of_a_base_tell_nothing_of_a_gallery_that_has_become_small(site: Site) -> None:
    release, curves = site.registry.releases.get_serving(), Curves(**CURVES)

    def follow(before: Calibrations, change: int, pictures: int) -> Calibrations:
        return before.refresh(site.gallery, site.image_fingerprint, release, change, curves, pictures)

    figures = follow(Calibrations(), 1, 50)
    assert figures.by_version and follow(figures, 1, 50) is figures
    nothing = follow(figures, 2, 49)
    assert nothing.by_version == {} and follow(nothing, 3, 49) is nothing


def test_few_captions_and_few_pictures_are_told_and_nothing_is_made_up(site: Site) -> None:
    described(site, LEAST_CAPTIONS - 1)
    expected = {"reason": "few_captions", "captions": LEAST_CAPTIONS - 1, "pictures": PICTURES + LEAST_CAPTIONS - 1}
    assert measure(site).items() >= expected.items()
    assert followed(site).by_version == {}
    few_texts = held_out(site, "cy", texts=LEAST_CAPTIONS - 1)
    assert measure(site, "cy", few_texts).items() >= {"reason": "few_captions", "captions": 0}.items()
    for number in range(PICTURES - 60):
        site.gallery.delete(f"p{number}")
    assert measure(site)["reason"] == "few_pictures"


def held_out(site: Site, language: str, numbers: range = range(0), texts: int = 0, noise: float = 0.15) -> int:
    """A version of a language whose proof reads captions of these pictures, and others beside English texts."""
    random, ids = np.random.default_rng(9), [f"d{number}" for number in numbers]
    own = site.gallery.find_picture_vectors(ids, site.image_fingerprint)
    meanings = unit(random.standard_normal((texts, site.dimension)))
    near = [unit(own[id] + noise * random.standard_normal(site.dimension)) for id in ids]
    kept = HeldOut(
        [(id, f"caption {id[1:]}") for id in ids],
        np.array(near, dtype=np.float32).reshape(-1, site.dimension),
        unit(meanings + noise * random.standard_normal(meanings.shape)),
        meanings,
    )
    nothing = TokenRows(np.empty(0, dtype=np.int64), torch.empty((0, 32)))
    folder = site.home / "versions" / language
    checkpoint.write_version(folder, VersionContent((), (), nothing, "0" * 64), {}, None, {HELD_OUT: kept.dump()})
    manifest = files.hash_file(folder / files.MANIFEST)
    return steps.learn(site.registry, language, folder=f"versions/{language}", manifest_sha256=manifest).number


def test_a_taught_language_is_measured_with_what_was_held_out_and_leans_on_english(site: Site) -> None:
    described(site, 100)
    version = held_out(site, "cy", range(60, 60 + LEAST_CAPTIONS_BESIDE))
    result = measure(site, "cy", version)
    assert result["reason"] == "few_captions", "without English there are too few"
    measure(site)
    result = measure(site, "cy", version)
    assert (result["captions"], result["near"], result["texts"]) == (LEAST_CAPTIONS_BESIDE, "en", 0)


def test_of_a_language_taught_without_pictures_chances_are_told_from_english_and_from_how_it_reads_texts(
    site: Site,
) -> None:
    described(site, 200)
    version = held_out(site, "cy", texts=100, noise=0.6)
    assert measure(site, "cy", version)["reason"] == "few_captions", "English is not measured yet"
    english = measure(site)
    figures = measure(site, "cy", version)
    assert (figures["captions"], figures["near"], figures["texts"]) == (200, "en", 100) and "reason" not in figures
    # they are what its captions with pictures would tell, which are read as badly
    measured = measure(site, "br", held_out(site, "br", range(200), noise=0.6))
    assert measured["texts"] == 0
    right = [result["found"] for result in (english, figures, measured)]
    assert right[1] == pytest.approx(right[2], abs=0.1) and right[0] > right[1] + 0.15


def test_of_a_language_that_a_dictionary_taught_chances_are_told_from_captions_rendered_word_by_word(
    site: Site,
) -> None:
    described(site, 60)
    measure(site)
    entries = [{"word": row["caption"].replace(" ", ""), "glosses": [row["english"]]} for row in pairs("cy")]
    expansion = site.submit(entries, pivot="en", epochs=5)
    run(attempt_at(site, expansion))
    figures = measure(site, "cy", 1)
    assert (figures["captions"], figures["near"], figures["texts"]) == (60, "en", 60) and "reason" not in figures


def test_captions_are_rendered_by_the_longest_entry_and_by_an_unknown_word_where_there_is_none() -> None:
    entries = {"red apple": "afal coch", "apple": "afal", "box": "blwch", "jump": "neidio"}
    rows = [Row(0, caption, Pivot("en", english), None, None) for english, caption in entries.items()]
    glosser = Glosser([*rows, Row(0, "pomme", Pivot("fr", "pomme"), None, None)], ["dieithr"])
    rendered = glosser.render(["A red apple of two apples", "Jumped in the boxes, hedgehog", "pomme", "of the"])
    assert rendered == ["afal coch afal", "neidio blwch dieithr", "dieithr", ""]
    assert Glosser(rows[4:], ["dieithr"]).render(["hedgehog"]) == [""], "without an entry nothing is said"


def test_captions_of_a_script_without_spaces_are_rendered_without_them() -> None:
    rows = [Row(0, "赤い", Pivot("en", "red"), None, None), Row(1, "りんご", Pivot("en", "apple"), None, None)]
    assert Glosser(rows, ["ねこ"]).render(["a red apple", "red hedgehog"]) == ["赤いりんご", "赤いねこ"]


def test_english_of_a_large_gallery_is_not_that_of_the_beginning_of_the_alphabet(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    described(site, 100)
    context = open_context(attempt_at(site, site.submit(pairs("cy"))))
    monkeypatch.setattr("worker.validation.MAX_CAPTIONS", 15)
    chosen = choose_gallery_english(context)
    assert len({*chosen.targets}) == 15 and max(chosen.targets) > sorted(f"d{number}" for number in range(100))[60]


def test_every_picture_with_the_same_caption_is_right(site: Site) -> None:
    """If one of the forty alone counted, hardly more than half of the first hits would be right."""
    described(site, 60, noise=0.05)
    described(site, 40, start=60, text="a dog", noise=0.05)
    assert measure(site)["found"] > 0.9


def test_what_a_text_finds_is_what_a_full_scan_finds(site: Site) -> None:
    described(site, 80)
    fitter = MatchFitter(site.registry, DataRoot(site.home))
    texts = fitter.choose_queries("en", 0)
    assert texts is not None
    answers, sample = fitter.search(texts), take_first(fitter.read_vectors())
    ids = site.gallery.list_ids()
    vectors = np.stack([*site.gallery.find_picture_vectors(ids, site.image_fingerprint).values()])
    for row, right, query, own in zip(range(80), texts.right, texts.vectors, texts.picture_vectors, strict=True):
        scores = vectors @ query
        z = (scores - (sample @ query).mean()) / blend_deviations((sample @ query).std(), answers.usual)
        assert answers.z[row] == pytest.approx(np.sort(z)[::-1][:10], abs=1e-3)
        assert answers.right[row, 0] == (ids[int(scores.argmax())] in right)
        like = np.quantile(vectors @ own, 1 - 0.025)
        left = [each for each, near, id in zip(z, vectors @ own, ids, strict=True) if near < like and id not in right]
        assert answers.absent[row] == pytest.approx(np.sort(left)[::-1][:10], abs=1e-3)


def test_the_child_is_started_only_when_something_is_due(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICTOGLOT_HOME", str(site.home))
    monkeypatch.setattr(WorkerSettings, "match_seconds", 0.0)
    site.registry.duties.note_done(PURGING)
    described(site, 80)
    measure(site)
    settings = WorkerSettings(home=site.home, base=site.base)
    indexing, fitting = IndexingChore(settings), upkeep.FittingChore(settings)
    fitting.tick(site.registry)
    assert not fitting.is_running
    described(site, 2 * REFIT_CHANGES, start=80)
    indexing.tick(site.registry)
    fitting.tick(site.registry)
    assert fitting.is_running and not indexing.is_running, "this worker can seal meanwhile"
    fitting.stop()
    assert site.registry.duties.take(leases.FITTING, "another", 600)
