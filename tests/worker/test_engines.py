"""A worker whose vector sets go to an engine: an expansion, and what changed in the gallery."""

from collections.abc import Callable
from pathlib import Path

import pytest
from milvus_lite.server_manager import server_manager_instance

from index.engine.milvus import Milvus
from index.sets import VectorSets
from index.vectors import Identity
from tests.worker.harness import PICTURES, Site, pairs


@pytest.mark.slow
def test_a_language_that_is_learned_is_in_the_engine(new_site: Callable[..., Site], tmp_path: Path) -> None:
    file = str(tmp_path / "milvus.db")
    address = str(server_manager_instance.start_and_get_uri(file))
    site = new_site(INDEX=f"milvus+{address}")
    pictures = Identity("pictures", site.image_fingerprint, site.dimension)
    milvus = Milvus(address)
    sets = VectorSets(site.gallery, milvus)
    sets.ensure_registered(pictures)  # as a service does when it opens the set
    site.process("tests.eager_worker", SEAL_AT="1")
    ended = site.finish(site.submit(pairs("cy", picture=True)))
    assert ended.state == "succeeded" and ended.version is not None
    captions = Identity("captions", site.text_fingerprint, site.dimension, "cy", ended.version)
    (part,) = sets.make_engine_parts(captions, sets.read_state(captions))
    assert sum(len(rows.ids) for rows in milvus.read_pages(part.sealed_view)) == 100
    site.wait(ended.id, lambda _: sets.read_state(pictures).upto_change == site.gallery.read_last_change())
    assert sets.make_engine_parts(pictures, sets.read_state(pictures))[0].count == PICTURES
    assert not (site.home / "segments").exists() or not list((site.home / "segments").glob("*"))
    milvus.close()
    server_manager_instance.release_server(file)
