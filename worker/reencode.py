"""Makes all vectors anew in another encoding, beside those that serve; then later starts serve the new ones.

Pictures are encoded from their stored files, captions by every version that a release names, so that each rollback
still finds its vectors. What is stored is not encoded again: an attempt goes on where the last one ended.
"""

from collections.abc import Callable, Iterator

import torch

from index.build import build_captions, build_pictures
from index.gallery import Gallery
from model.backends.choice import open_towers, wanted
from model.base import open_base
from model.encoder import Encoder, VersionFolder
from model.registry import Registry
from worker.attempt import Attempt

_FINE = 1000  # parts of one vector set, for the progress


def reencode(attempt: Attempt) -> None:
    """Carry out an expansion of kind `reencode`."""
    asked = attempt.settings.model_copy(update=attempt.expansion.settings)
    registry = attempt.registry
    with attempt.phase("prepare"):
        torch.set_num_threads(asked.threads)
        base = open_base(asked.base, asked.device or None)
        serving = registry.initialise(base.text_fingerprint, {})
        encoding = wanted(asked, base.device, None)
        encoder = Encoder(base.without_towers(), open_towers(base, encoding, asked))
    with attempt.phase("encode"):
        counts = _encode_all(attempt, encoder)
    with attempt.phase("promote"):
        registry.encodings.change(encoding.backend, encoding.precision, attempt.lease)
        report = {"encoding": str(encoding), **counts}
        registry.expansions.succeed(attempt.lease, serving.shared, serving.number, report)


def _encode_all(attempt: Attempt, encoder: Encoder) -> dict[str, int]:
    """Encode and write every vector set; returns how many pictures and sets there are, and what could not be read."""
    registry, root, gallery = attempt.registry, attempt.root, Gallery(attempt.registry, attempt.root)
    served = list(_served(registry))
    sets = 1 + len(served)

    def progress(number: int) -> Callable[[int, int], None]:
        def on_progress(done: int, of: int) -> None:
            attempt.done(number * _FINE + round(_FINE * done / of), sets * _FINE)
            if encoder.encoded > encoded[0]:  # not only read again
                encoded[0] = encoder.encoded
                attempt.saved()
            attempt.check()

        return on_progress

    encoded = [0]
    pictures = build_pictures(encoder, gallery, registry, root, progress(0)).count
    views = {0: encoder.base_view}
    for number, (language, version) in enumerate(served, start=1):
        for step in reversed(registry.versions.lineage(version)):
            if step.number not in views:
                folder = VersionFolder.of(step, root)
                views[step.number] = encoder.open([folder], onto=views[step.parent or 0])
        build_captions(encoder, views[version], gallery, registry, language, version, root, progress(number))
    return {"pictures": pictures, "unreadable": len(gallery.ids()) - pictures, "sets": sets}


def _served(registry: Registry) -> Iterator[tuple[str, int]]:
    """Every language and version that a release names, those that serve now first."""
    releases = [registry.releases.serving(), *registry.releases.list()]
    yield from dict.fromkeys(pair for release in releases for pair in release.languages.items())
