"""How the databases find what a filter leaves: by which index, and by keys of 64 bits."""

from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import event, text

from index.filters import parsed
from index.gallery import Gallery, NewPicture
from index.records import Given, Patch
from index.selection import Selection, Wanted
from store.data_root import DataRoot
from store.registry import open_registry
from tests.index.world import content


def test_there_may_be_more_values_than_32_bits_count(postgresql_url: str, tmp_path: Path) -> None:
    with closing(open_registry(postgresql_url)) as registry:
        gallery = Gallery(registry, DataRoot(tmp_path))
        with registry.begin() as session:
            session.execute(text("SELECT setval(pg_get_serial_sequence('picture_values', 'id'), 1::bigint << 31)"))
        gallery.put([NewPicture("p", content(1), 9, 9, given=Given(tags=["bridge"]))], "tower")
        left = Selection(registry).allowed(Wanted(parsed({"must": [{"key": "tags", "match": {"value": "bridge"}}]})))
        assert left is not None and len(left) == 1


def test_after_a_change_only_the_pictures_that_changed_are_looked_at(tmp_path: Path) -> None:
    """Not all that have a value which the filter asks for, at each upload."""
    with closing(open_registry(f"sqlite:///{tmp_path / 'registry.db'}")) as registry:
        gallery, selection = Gallery(registry, DataRoot(tmp_path)), Selection(registry)
        some = {"must": [{"key": "tags", "match": {"value": "red"}}, {"key": "year", "range": {"lt": 2_000}}]}
        wanted = Wanted(parsed({"must": [some], "must_not": [{"key": "tags", "match": {"value": "blue"}}]}))
        gallery.put([NewPicture("p", content(1), 9, 9, given=Given(tags=["red"], metadata={"year": 1950}))], "tower")
        assert selection.allowed(wanted) is not None
        gallery.patch(Patch("p", {"tags": ["red", "green"]}), {})
        asked = list[tuple[str, Any]]()
        event.listen(registry.engine, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
        left = selection.allowed(wanted)
        assert left is not None and len(left) == 1
        with registry.read() as session:
            (query,) = [each for each in asked if "picture_values" in each[0]]
            plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {query[0]}", query[1]).all()
        told = [row[3] for row in plan if "picture_values" in row[3]]
        assert len(told) == 3 and all("ix_picture_values_picture" in each for each in told), plan


def test_a_page_of_a_collection_is_read_in_its_order(tmp_path: Path) -> None:
    """Not the whole collection, to be sorted for each page."""
    with closing(open_registry(f"sqlite:///{tmp_path / 'registry.db'}")) as registry:
        asked = list[tuple[str, Any]]()
        event.listen(registry.engine, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
        wanted = Wanted(within=frozenset({"museum"}), collection="museum")
        for newest_first in (False, True):
            Selection(registry).page(wanted, 10, newest_first=newest_first)
        pages = [each for each in asked if "ORDER BY pictures.created_at" in each[0]]
        assert len(pages) == 2
        with registry.read() as session:
            for statement, values in pages:
                plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
                told = " ".join(row[3] for row in plan)
                assert "ix_pictures_collection_created_at_id" in told and "TEMP B-TREE" not in told, told
