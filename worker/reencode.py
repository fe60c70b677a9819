"""Makes all vectors anew in another encoding, beside those that serve; then later starts serve the new ones.

Pictures are encoded from their stored files, captions by every version of the base that a release names, so that each
rollback still finds its vectors. What is stored is not encoded again: an attempt goes on where the last one ended.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from index.gallery import Gallery
from index.indexer import fill_captions, fill_pictures
from model.backend import open_towers, served_base, wanted
from model.dataset.words import counted
from model.encoder import Encoder, Views
from store.encodings import Encoding
from store.errors import PicturesUnreadable, VersionCorrupt
from worker.attempt import Attempt

_PASSES = 5  # over everything: the later ones only take what came meanwhile


def reencode(attempt: Attempt) -> None:
    """Carry out an expansion of kind `reencode`. Raises `PicturesUnreadable` unless it shall go on without these."""
    given = dict(attempt.expansion.settings)
    skip_unreadable = bool(given.pop("skip_unreadable", False))
    asked, registry = attempt.settings.model_copy(update=given), attempt.registry
    with attempt.phase("prepare"):
        torch.set_num_threads(asked.threads)
        base, version = served_base(asked, registry)
        encoding = wanted(asked, base.device, None)
        towers = open_towers(base, encoding, asked)
        encoder = Encoder(base.without_towers(encoding.backend == "openvino"), towers, version)
    with attempt.phase("encode"):
        report = _encode_all(attempt, encoder, skip_unreadable)
    with attempt.phase("promote"):
        _serve_from_now_on(attempt, encoding, report)


def _serve_from_now_on(attempt: Attempt, encoding: Encoding, report: dict[str, Any]) -> None:
    serving = attempt.registry.releases.serving()
    attempt.registry.encodings.change(encoding.backend, encoding.precision, attempt.lease, serving.number)
    attempt.registry.expansions.succeed(
        attempt.lease, serving.shared, serving.number, {"encoding": str(encoding), **report}
    )


def _encode_all(attempt: Attempt, encoder: Encoder, skip_unreadable: bool) -> dict[str, Any]:
    """Encode and write every vector set, again as long as something new comes; returns what was left out, and why."""
    report: dict[str, Any] = {}
    for _ in range(_PASSES):
        before = encoder.encoded
        report = _encode_once(attempt, encoder, skip_unreadable)
        if encoder.encoded == before:
            break
    return report


def _encode_once(attempt: Attempt, encoder: Encoder, skip_unreadable: bool) -> dict[str, Any]:
    registry, gallery = attempt.registry, attempt.gallery
    serving = set(registry.releases.serving().languages.items())
    sets = list(_named(gallery, untaught=len(encoder.languages) > 1))
    parts = 1 + len(sets)
    pictures = gallery.ids()  # what comes after this is for the next pass
    fill_pictures(encoder, attempt.sets, attempt.encoding(encoder, 0, parts))
    missing = unreadable(gallery, encoder, pictures)
    if not skip_unreadable:
        refuse_unreadable(missing)
    views, damaged = Views(encoder, registry, attempt.root), []
    for number, (language, version) in enumerate(sets, start=1):
        try:
            view = views.of(version)
        except VersionCorrupt:
            if (language, version) in serving:
                raise
            damaged.append(version)  # of a release long ago: only a rollback to it would miss it
            continue
        on_progress = attempt.encoding(encoder, number, parts)
        fill_captions(encoder, view, attempt.sets, language, version, on_progress)
    return {"unreadable": len(missing), "sets": parts - len(damaged), "damaged_versions": damaged}


def _named(gallery: Gallery, *, untaught: bool) -> Iterator[tuple[str, int]]:
    """Every language and version that a release of the base that serves names, those that serve now first.

    Not those that were pruned. With `untaught`, also the languages that captions are in with the base, which reads
    those that are not taught, and that a rollback may lead back to.
    """
    registry = gallery.registry
    serving, pruned = registry.releases.serving(), registry.versions.pruned()
    releases = [serving, *(release for release in registry.releases.list() if release.base == serving.base)]
    named = dict.fromkeys(pair for release in releases for pair in release.languages.items())
    if untaught:
        named |= dict.fromkeys((tag, serving.base) for tag in gallery.languages())
    yield from (pair for pair in named if pair[1] not in pruned)


def unreadable(gallery: Gallery, encoder: Encoder, pictures: Sequence[str]) -> list[str]:
    """Those of these pictures that still have no vector of this encoder."""
    contents = gallery.contents(pictures)
    encoded = gallery.content_vectors(sorted(set(contents.values())), encoder.image_fingerprint)
    return sorted(id for id, content in contents.items() if content not in encoded)


def refuse_unreadable(pictures: Sequence[str]) -> None:
    """Raises `PicturesUnreadable` if there are any."""
    if pictures:
        raise PicturesUnreadable(
            f"{counted(len(pictures), 'stored picture')} unreadable on this machine, first: {', '.join(pictures[:10])}",
            report={"unreadable": len(pictures)},
        )
