"""Chances of hits as a worker measures them: from the vectors in the registry, of what a version did not learn."""

import json
import time
from typing import Any

import numpy as np
import pytest
from model.calibration import between, stored
from numpy.typing import NDArray
from sqlalchemy import update
from worker.calibrate import LEAST_BESIDE, LEAST_CAPTIONS, Calibrator
from worker.calibration import FEW, GROWTH, Calibrating, due

from index.captions import ReadBy
from index.gallery import NewPicture
from index.matching import Matching
from index.vectors import Matrix
from store import files
from store.clock import now
from store.data_root import DataRoot
from store.tables import CalibrationRow
from tests.launcher import PARENT
from tests.patience import PATIENCE
from tests.service.harness import learn
from tests.worker.harness import PICTURES, Site
from worker.settings import WorkerSettings

ENGLISH = ("en", 0)
CURVES = {
    "sharpness": 1.5,
    "trust": 1.0,
    "lead": 1.5,
    "most": 0.98,
    "steepness": 2.0,
    "threshold": 0.5,
    "usual": 0.1,
}


def unit(vectors: NDArray[Any]) -> Matrix:
    unit: Matrix = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return unit


def described(
    site: Site, count: int, *, start: int = 0, tag: str = "en", version: int = 0, text: str = "", noise: float = 0.15
) -> None:
    """Pictures of the site get a caption each in one language, whose vector is near that of the picture."""
    random, by = np.random.default_rng(start), ReadBy(version, site.text_fingerprint)
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


def measure(site: Site, language: str = "en", version: int = 0) -> dict[str, object]:
    Calibrator(site.registry, DataRoot(site.home)).measure(language, version)
    return site.registry.calibrations.of({language: version})[language, version].result


def test_english_is_measured_with_the_captions_of_the_gallery_in_a_child(site: Site) -> None:
    described(site, 80)
    assert due(site.registry) == [ENGLISH]
    assert site.process("worker.calibration", PARENT).wait(PATIENCE) == 0, site.log()[-4_000:]
    record = site.registry.calibrations.of({"en": 0})[ENGLISH]
    assert record.result["captions"] == 80 and record.pictures == record.result["pictures"] == PICTURES + 80
    assert record.change == site.gallery.change() and record.curves is not None
    assert 0 <= record.result["error"] < 0.2 and record.result["kept"] > 0.8
    assert len(record.result["bins"]) == 10 and due(site.registry) == []
    release = site.registry.releases.serving()
    matching = Matching().followed(site.registry, release, site.dimension)
    assert matching.followed(site.registry, release, site.dimension) is matching
    assert set(matching.calibrations) == {ENGLISH}
    calibration = matching.calibrations[ENGLISH]
    assert calibration.sample.shape == (PICTURES + 80, site.dimension)
    assert calibration.holds_at(record.change + record.pictures)
    assert not calibration.holds_at(record.change + record.pictures + 1)


def test_a_worker_has_it_measured_by_itself(site: Site) -> None:
    described(site, 80)
    site.settings = {"CALIBRATE_SECONDS": "0.2"}
    site.start()
    until = time.monotonic() + PATIENCE
    while not site.registry.calibrations.of({"en": 0}):
        assert time.monotonic() < until, site.log()[-4_000:]
        time.sleep(0.05)


def test_it_is_measured_again_when_the_gallery_has_changed_much_or_has_other_vectors(site: Site) -> None:
    described(site, 80)
    registry = site.registry
    measured: Any = {"pictures": 2_000, "result": {}, "change": site.gallery.change()}
    encoding = registry.encodings.current()
    assert encoding is not None
    registry.calibrations.put("en", 0, encoding=encoding.number, **{**measured, "change": measured["change"] - 1_000})
    assert due(registry) == []
    registry.calibrations.put(
        "en", 0, encoding=encoding.number, **{**measured, "change": measured["change"] - int(GROWTH * 2_000) - 1}
    )
    assert due(registry) == [ENGLISH]
    registry.calibrations.put("en", 0, encoding=encoding.number + 1, **measured)
    assert due(registry) == [ENGLISH]


def test_after_the_days_of_a_purge_it_is_measured_again_and_what_nobody_reads_is_forgotten(site: Site) -> None:
    """Its sample may have the vector of a picture that was deleted."""
    described(site, 80)
    registry = site.registry
    encoding = registry.encodings.current()
    assert encoding is not None
    measured: Any = {"encoding": encoding.number, "pictures": 2_000, "result": {}, "sample": b"vectors"}
    registry.calibrations.put("en", 0, **measured, curves=CURVES, change=site.gallery.change() - 1)
    with registry.begin() as session:
        session.execute(update(CalibrationRow).values(created_at=now() - 31 * 86_400.0))
    assert due(registry, purge_days=32) == [] and due(registry, purge_days=30) == [ENGLISH]
    registry.calibrations.forget_others([0])
    assert registry.calibrations.of({"en": 0})
    registry.calibrations.forget_others([1])
    assert not registry.calibrations.of({"en": 0})


def test_nothing_is_measured_before_there_is_a_gallery(site: Site) -> None:
    assert PICTURES >= FEW and due(site.registry) == [ENGLISH]
    with site.registry.begin() as session:
        session.connection().exec_driver_sql("DELETE FROM gallery_changes WHERE change > 50")
    assert due(site.registry) == []


def test_few_captions_and_few_pictures_are_told_and_nothing_is_made_up(site: Site) -> None:
    described(site, LEAST_CAPTIONS - 1)
    expected = {"reason": "few_captions", "captions": LEAST_CAPTIONS - 1, "pictures": PICTURES + LEAST_CAPTIONS - 1}
    assert measure(site) == expected
    matching = Matching().followed(site.registry, site.registry.releases.serving(), site.dimension)
    assert matching.calibrations == {}
    for number in range(PICTURES - 60):
        site.gallery.delete(f"p{number}")
    assert measure(site)["reason"] == "few_pictures"


def test_what_could_not_be_told_is_measured_again_after_any_change_but_not_at_once(site: Site) -> None:
    described(site, LEAST_CAPTIONS - 1)
    assert measure(site)["reason"] == "few_captions" and due(site.registry, 0) == []  # nothing has changed
    described(site, 1, start=LEAST_CAPTIONS)
    assert due(site.registry) == [] and due(site.registry, 0) == [ENGLISH]
    assert "reason" not in measure(site)
    described(site, 1, start=LEAST_CAPTIONS + 1)
    assert due(site.registry, 0) == []  # what is told stays until the gallery has grown


def test_without_a_sample_there_are_no_chances_until_there_is_one(site: Site) -> None:
    registry, release = site.registry, site.registry.releases.serving()
    told: Any = {"encoding": 1, "change": 1, "pictures": 9, "result": {}, "curves": CURVES}
    registry.calibrations.put("en", 0, **told)
    matching = Matching().followed(registry, release, site.dimension)
    assert matching.calibrations == {} and {*matching.known} == {ENGLISH}
    registry.calibrations.put("en", 0, **told, sample=stored(np.eye(2, site.dimension, dtype=np.float32)))
    matching = matching.followed(registry, release, site.dimension)
    assert matching.calibrations[ENGLISH].sample.shape == (2, site.dimension)


def held_out(site: Site, language: str, numbers: range, against: str = "pictures") -> int:
    """A version of a language with these captions held out of its dataset."""
    version = learn(site.registry, language)
    validation = {
        "against": against,
        "captions": [f"caption {number}" for number in numbers],
        "targets": [f"d{number}" for number in numbers],
        "others": [],
    }
    folder = site.home / "expansions" / str(version.expansion)
    files.write_bytes(folder / "validation.json", json.dumps(validation).encode())
    return version.number


def test_a_taught_language_is_measured_with_what_was_held_out_and_leans_on_english(site: Site) -> None:
    described(site, 60)
    version = held_out(site, "cy", range(60, 60 + LEAST_BESIDE))
    described(site, 40, start=60, tag="cy", version=version)  # the others were learned from
    result = measure(site, "cy", version)
    assert result["reason"] == "few_captions", "without English there are too few"
    measure(site)
    result = measure(site, "cy", version)
    assert (result["captions"], result["near"]) == (LEAST_BESIDE, "en")


def test_a_language_that_was_taught_without_pictures_has_no_chances(site: Site) -> None:
    described(site, 60)
    measure(site)
    version = held_out(site, "cy", range(60), against="english")
    assert measure(site, "cy", version) == {"reason": "few_captions", "captions": 0, "pictures": PICTURES + 60}


def test_every_picture_with_the_same_caption_is_right(site: Site) -> None:
    described(site, 60)
    described(site, 40, start=60, text="a dog")
    calibrator = Calibrator(site.registry, DataRoot(site.home))
    texts = calibrator.texts("en", 0)
    assert texts is not None
    dogs = {f"d{number}" for number in range(60, 100)}
    assert {len(right) for right in texts.right} == {1, 40}
    answers, sample = calibrator.answers(texts)
    row = next(number for number, (_, text) in enumerate(texts.pairs) if text == "a dog")
    assert texts.right[row] == dogs and len(sample) == PICTURES + 100
    own = site.gallery.picture_vectors([*dogs], site.image_fingerprint)
    best = sorted((float(vector @ texts.vectors[row]) for vector in own.values()), reverse=True)
    assert answers.right[row].sum() == sum(score >= best[answers.right[row].sum() - 1] for score in best)
    others = [number for number, right in enumerate(texts.right) if len(right) == 1]
    assert answers.right[others].sum(axis=1).max() == 1
    assert answers.absent[row].max() < answers.z[row].max()


def test_what_a_text_finds_is_what_a_full_scan_finds(site: Site) -> None:
    described(site, 80)
    calibrator = Calibrator(site.registry, DataRoot(site.home))
    texts = calibrator.texts("en", 0)
    assert texts is not None
    answers, sample = calibrator.answers(texts)
    ids = site.gallery.ids()
    vectors = np.stack([*site.gallery.picture_vectors(ids, site.image_fingerprint).values()])
    for row, right, query, own in zip(range(80), texts.right, texts.vectors, texts.own, strict=True):
        scores = vectors @ query
        z = (scores - (sample @ query).mean()) / between((sample @ query).std(), answers.usual)
        assert answers.z[row] == pytest.approx(np.sort(z)[::-1][:10], abs=1e-3)
        assert answers.right[row, 0] == (ids[int(scores.argmax())] in right)
        like = np.quantile(vectors @ own, 1 - 0.025)
        left = [each for each, near, id in zip(z, vectors @ own, ids, strict=True) if near < like and id not in right]
        assert answers.absent[row] == pytest.approx(np.sort(left)[::-1][:10], abs=1e-3)


def test_only_one_process_measures_at_a_time(site: Site) -> None:
    described(site, 80)
    assert site.registry.duties.take("calibration", "another", 600)
    assert site.process("worker.calibration", PARENT).wait(PATIENCE) == 0
    assert not site.registry.calibrations.of({"en": 0})


def test_the_child_is_started_only_when_something_is_due(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICTOGLOT_HOME", str(site.home))
    described(site, 80)
    measure(site)
    calibrating = Calibrating(WorkerSettings(home=site.home, base=site.base, calibrate_seconds=0.01))
    time.sleep(0.02)
    calibrating.tick(site.registry)
    assert not calibrating.is_running
    described(site, 2 * FEW, start=80)
    time.sleep(0.02)
    calibrating.tick(site.registry)
    assert calibrating.is_running
    calibrating.stop()
