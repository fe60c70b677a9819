"""A small language beside many pictures: promoted and rolled back, with the time that each takes until it serves."""

from benchmarks.scale.material import TEXT, Made, NoEncoder, make_view, name
from benchmarks.scale.measures import measure_call
from index.captions import EncoderId
from index.gallery import Gallery
from index.indexer import fill_captions
from index.live import LiveIndex
from store import files

_TAG, _CAPTIONS = "cy", 500


def measure_moves(live: LiveIndex, made: Made) -> dict[str, float]:
    """Return milliseconds from the release until searches use it: of a promotion, and of its rollback."""
    encoder, gallery, registry = NoEncoder(made.dimension), live.sets.gallery, live.sets.registry
    releases, expansions = registry.releases, registry.expansions
    expansion, _ = expansions.submit(
        kind="learn", language=_TAG, settings={}, dataset_path=None, dataset_sha256=None, dataset_bytes=0, actor="bench"
    )
    lease = expansions.take_lease(expansion.id, "bench", 600)
    assert lease is not None
    folder = f"versions/{expansion.id}"
    with live.sets.root.stage(folder) as staged:
        (staged / "rows.safetensors").write_bytes(b"rows")
        manifest = files.write_manifest(staged, {"language": _TAG})
    version = registry.versions.add(
        expansion=expansion.id, parent=0, language=_TAG, folder=folder, manifest_sha256=manifest, rows=1, bytes=1,
        report={}, fence=lease.fence,
    )  # fmt: skip
    _write_captions(gallery, expansion.id, version.number, made, encoder)
    fill_captions(encoder, make_view(version.number, _TAG), live.sets, _TAG, version.number)

    def promote() -> None:
        releases.promote(expansion=expansion.id, version=version.number, move_shared=False, fence=lease.fence)
        live.refresh()

    def roll_back() -> None:
        releases.roll_back(_TAG, expected=releases.get_serving().number, actor="bench", reason="")
        live.refresh()

    promotion = measure_call(promote)
    expansions.succeed(lease, version.number, releases.get_serving().number, {})
    rollback = measure_call(roll_back)
    assert _TAG not in live.current.views
    return {"promotion_ms": promotion, "rollback_ms": rollback}


def _write_captions(gallery: Gallery, expansion: str, version: int, made: Made, encoder: NoEncoder) -> None:
    """Write captions of the first pictures, with vectors."""
    texts = [(name(number), f"capsiwn {number}") for number in range(_CAPTIONS)]
    gallery.add_captions(expansion, _TAG, texts)
    captions = gallery.find_captions([picture for picture, _ in texts], _TAG)
    vectors = dict(zip((caption.id for caption in captions), made.queries(_CAPTIONS, TEXT), strict=True))
    gallery.put_caption_vectors(EncoderId(version, encoder.text_fingerprint), vectors)
