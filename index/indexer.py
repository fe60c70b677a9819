"""The indexer: seals what changed of a vector set into segments, and merges segments by size. Serves nothing.

It can be killed at any point and run again: a segment is written completely or not at all, a state of a set is
registered in one transaction, and until then what serves is untouched. A row is written again a few times in its life,
each time with a segment some times as large, as in a log-structured merge tree.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from index import segment
from index.sealing import EngineSealer, Sealer, SegmentSealer, extract_state, sample_queries
from index.set_states import SealedState, is_named
from index.sets import VectorSets
from index.sources import (
    FeedPruned,
    PictureSource,
    Source,
    VectorsMissing,
    apply_changes,
    fill_from_tables,
    make_source,
)
from index.vectors import Identity, VectorRows, VectorSet
from store.errors import IndexFileCorrupt, IndexUnavailable, PictoglotError, RegistryUnavailable, StoreUnavailable
from store.files import pass_fault_point
from store.settings import CommonSettings

if TYPE_CHECKING:  # torch takes seconds, and a process that seals needs none
    from model.encoder import Encoder, View

MOST = 131_072  # rows in memory at a time, before they are a segment
SHARD = 512  # pictures whose captions are encoded and stored at a time
PICTURES = 64  # pictures that are encoded and stored at a time
_ATTEMPTS = 3  # to write a set, while other processes write it or remove its files
Progress = Callable[[int, int], None]  # pictures done, pictures in total
_log = logging.getLogger(__name__)


class Indexer:
    """Sealer and merger of `sets`; `sources` says where the rows of each come from."""

    def __init__(
        self,
        sets: VectorSets,
        sources: Callable[[Identity], Source] | None = None,
        *,
        seal_at: int = CommonSettings.seal_at,
        most: int = MOST,
    ) -> None:
        self._sets, self._gallery, engine = sets, sets.gallery, sets.engine
        # the stored vectors alone: the worker's parent process has no model in memory
        self._source_of = sources or (lambda identity: make_source(identity, sets.gallery))
        self._seal_at, self._most = seal_at, most
        self._sealer: Sealer = (
            SegmentSealer(sets.gallery, seal_at, most) if engine is None else EngineSealer(engine, sets.root, most)
        )

    def list_due(self) -> list[Identity]:
        """List the sets of which enough has changed since they were sealed, those that changed most first.

        Of captions, only those that the serving release reads so, or the one before, so that a rollback is quick.
        """
        behind = self._sets.count_unsealed_changes()
        due = (each for each in self._list_in_reach(behind) if behind[each] >= self._seal_at)
        return sorted(due, key=lambda each: -behind[each])

    def run(self, on_set: Callable[[], object] = lambda: None) -> int:
        """Seal each set that is due; return how many were. `on_set` is called before each; it may raise to end this.

        A set with a picture or caption that nobody has encoded yet is left to a later run. A set that cannot be sealed
        does not keep the others from it; its error is raised at the end.
        """
        return self._process_each(self.list_due(), self.seal, on_set)

    def purge(self, on_set: Callable[[], object] = lambda: None) -> None:
        """Write what is sealed anew wherever it has rows that were replaced or deleted. Raises as `run`.

        Sets of the serving release, or the one before, are sealed first, so that the change feed can forget what was
        deleted. Others are not brought up to date: `VectorSets.tidy` is rid of one that missed what the feed has
        forgotten.
        """
        newest = self._sets.list_newest()
        used = {*self._list_in_reach(newest)}

        def seal_and_purge(identity: Identity) -> None:
            if identity in used:
                with suppress(VectorsMissing):
                    self.seal(identity)
            self._drop_dead_rows(identity)

        self._process_each(newest, seal_and_purge, on_set)

    def _list_in_reach(self, sets: Iterable[Identity]) -> list[Identity]:
        """List those of the sets that the serving release names, or the one before."""
        releases = self._sets.registry.releases.list(limit=2)
        return [each for each in sets if is_named(releases, each.kind, each.language, each.version)]

    def _process_each(
        self, sets: Iterable[Identity], work: Callable[[Identity], object], on_set: Callable[[], object]
    ) -> int:
        """Do some work on each of the sets; return on how many it was done. Raises as `run`."""
        done, failed = 0, None
        for identity in sets:
            on_set()
            try:
                work(identity)
                done += 1
            except VectorsMissing:
                _log.info("%s has vectors that are not computed yet; it is sealed later", identity.name)
            except RegistryUnavailable:
                raise
            except (PictoglotError, OSError) as error:
                _log.warning("%s could not be sealed (%s)", identity.name, type(error).__name__)
                failed = failed or error
        if failed is not None:
            raise failed
        return done

    def _drop_dead_rows(self, identity: Identity) -> None:
        """Drop the dead rows in what is sealed of a set, which does not become newer by this.

        Nor has it rows of pictures that changed since: whoever opens it takes these changes in.
        """
        with self._remove_unused_at_end():
            for _ in range(_ATTEMPTS):
                self._sets.retire_states(identity)
                base = self._sets.read_state(identity)
                if not base.segments:
                    return
                opened = self._open_set(self._source_of(identity), base)
                changed = self._gallery.list_changes(base.upto_change)
                none = VectorRows.make_empty(identity.dimension)
                opened = self._sealer.seal_tail(opened.replace_rows(dict.fromkeys(changed, none), base.upto_change))
                try:
                    purged = self._sealer.drop_dead_rows(opened, self._sets.list_states(identity))
                except IndexFileCorrupt as error:
                    _log_damage(identity, error)
                    continue
                pass_fault_point("purge.written")
                if self._sets.replace_kept_states(identity, base, extract_state(purged)):
                    return
        raise IndexFileCorrupt("other processes write this vector set all the time")

    def seal(self, identity: Identity) -> SealedState:
        """Seal everything that changed up to now, make damaged segments again, and merge; return the newest state.

        What is sealed counts before anything is merged, which takes minutes in a large set, or may not fit on the disk.
        """
        source = self._source_of(identity)
        with self._remove_unused_at_end():
            for _ in range(_ATTEMPTS):
                base = self._sets.read_state(identity)
                try:
                    opened = self._open_set(source, base)
                    sealed = self._seal_changes(source, opened)
                except FeedPruned:  # other processes sealed it and more meanwhile: begin with what they have
                    continue
                first = self._register(base, sealed)
                try:
                    if first and (last := self._register(first, self._merge_parts(sealed))):
                        return last
                except IndexFileCorrupt as error:
                    _log_damage(identity, error)
        raise IndexFileCorrupt("other processes write this vector set, or remove its files, all the time")

    def mend(self, identity: Identity) -> None:
        """Make damaged segments of a set again, and have every process open its files anew.

        What changed since it was sealed is not taken in: that may have no vectors yet. Raises `VectorsMissing` where
        the registry lacks one of a damaged segment, which then stays: whoever encodes makes it.
        """
        source = self._source_of(identity)
        with self._remove_unused_at_end():
            for _ in range(_ATTEMPTS):
                base = state = self._sets.read_state(identity)
                if base.upto_change:
                    state = extract_state(self._sealer.seal_tail(self._open_set(source, base)))
                # registered also where it is the same as before: the files are others
                if (last := self._sets.register(identity, base, state)) is not None:
                    with suppress(StoreUnavailable, RegistryUnavailable, IndexUnavailable):
                        # an earlier state may name what was damaged
                        self._sets.replace_kept_states(identity, last, state)
                    return
        raise IndexFileCorrupt("other processes write this vector set, or remove its files, all the time")

    def fill(self, source: Source, shard: int, on_progress: Progress | None = None) -> SealedState:
        """Make a set from the tables, whatever is sealed of it, and register it; what changes meanwhile is not missed.

        `on_progress` is called after each `shard` pictures; an exception that it raises ends this.
        """

        def step(filled: VectorSet, done: int, count: int) -> VectorSet:
            pass_fault_point("build.shard")
            if on_progress is not None:
                on_progress(done, count)
            return self._seal_if_large(filled)

        base = self._sets.read_state(source.identity)
        with self._remove_unused_at_end():
            filled = fill_from_tables(self._make_empty(source.identity), source, shard=shard, step=step)
            filled = self._merge_parts(self._sealer.seal_tail(filled))
            pass_fault_point("build.written")
            registered = self._register(base, filled)
            pass_fault_point("build.registered")
        return registered or self.seal(source.identity)  # another process sealed it meanwhile

    def _register(self, base: SealedState, vector_set: VectorSet) -> SealedState | None:
        """Make what is sealed of a set its newest state; None when another process was first."""
        state = extract_state(vector_set)
        pass_fault_point("indexer.written")
        if base.number and state == base:
            return base
        if (engine := self._sets.engine) is not None:
            engine.build_index(vector_set.identity, sample_queries(self._gallery, vector_set.identity))
        registered = self._sets.register(vector_set.identity, base, state)
        if registered is not None:
            pass_fault_point("indexer.registered")
            with suppress(StoreUnavailable, RegistryUnavailable, IndexUnavailable):  # removed at another time
                self._sets.retire_states(vector_set.identity)
        return registered

    def _open_set(self, source: Source, base: SealedState) -> VectorSet:
        """Open what is sealed of a set; read from the tables what damaged segments had, or all if nothing is sealed.

        Damaged are those that are so here and in the store. They are removed as soon as the tables are known to have
        all that they had: nothing else has it until then.
        """

        def step(filled: VectorSet, *_: int) -> VectorSet:
            return self._seal_if_large(filled)

        shard, none = min(self._most, SHARD), self._make_empty(source.identity)
        if not base.upto_change:
            return fill_from_tables(none, source, shard=shard, step=step)
        opened, lost = self._sets.open_sealed(source.identity, base)
        if lost:
            for record in lost:
                segment.fetch(self._sets.root, record)
            opened, lost = self._sets.open_sealed(source.identity, base)
        for record in lost:  # raises `VectorsMissing` unless the tables have all that it had
            fill_from_tables(none, source, record.first, record.last, shard, lambda *_: none)
        for record in lost:
            segment.renew(self._sets.root, record)
        for record in lost:
            opened = fill_from_tables(opened, source, record.first, record.last, shard, step)
        return opened

    def _make_empty(self, identity: Identity) -> VectorSet:
        """Make a set without rows, to be filled from the tables as they are from now on.

        What changes while they are read may be read already, and is taken in once more: it is not missed.
        """
        return self._sets.open_sealed(identity, SealedState(0, self._gallery.read_last_change()))[0]

    @contextmanager
    def _remove_unused_at_end(self) -> Iterator[None]:
        """Remove at the end what was written and merged again at once, or for nothing, as on a full disk."""
        try:
            yield
        finally:
            unused, self._sealer.new_ids = self._sealer.new_ids, set()
            with suppress(PictoglotError):  # the sweeper removes what is left
                self._sets.remove_unreferenced(unused)

    def _seal_changes(self, source: Source, vector_set: VectorSet) -> VectorSet:
        """Seal every change up to now, in parts that fit into memory; what comes meanwhile is for the next time."""
        identity, upto = source.identity, self._gallery.read_last_change()
        while True:
            step = apply_changes({identity: vector_set}, {identity: source}, self._gallery, min(self._most, SHARD))
            vector_set = self._seal_if_large(step[identity])
            if vector_set.change >= upto:
                return self._sealer.seal_tail(vector_set)

    def _seal_if_large(self, vector_set: VectorSet) -> VectorSet:
        """Seal the tail if it is large: a change may be of many rows, such as captions."""
        return self._sealer.seal_tail(vector_set) if vector_set.tail.count >= self._most else vector_set

    def _merge_parts(self, vector_set: VectorSet) -> VectorSet:
        return self._sealer.merge_parts(vector_set, self._sets.list_states(vector_set.identity))


def _log_damage(identity: Identity, error: IndexFileCorrupt) -> None:
    _log.error("%s: %s; they are made again from the registry before they are merged", identity.name, error.detail)


def fill_pictures(encoder: "Encoder", sets: VectorSets, on_progress: Progress | None = None) -> SealedState:
    """Encode all stored pictures that have no vector of this encoder yet, and seal and register their set.

    `on_progress` is called after each shard; an exception that it raises ends this, and the next call resumes it. A
    picture whose file cannot be read is left out.
    """
    source = PictureSource.create(encoder, sets.gallery)
    return Indexer(sets, lambda _: source).fill(source, PICTURES, on_progress)


def fill_captions(
    encoder: "Encoder",
    view: "View",
    sets: VectorSets,
    language: str,
    version: int,
    on_progress: Progress | None = None,
    shard: int = SHARD,
) -> SealedState:
    """Encode a language's captions with `version`, except those already encoded, and seal and register their set.

    `version` must be in the registry, and its expansion's captions in the gallery. `on_progress` is called after each
    shard; an exception that it raises ends this, and the next call resumes it.
    """
    identity = Identity("captions", encoder.text_fingerprint, encoder.dimension, language, version)
    source = make_source(identity, sets.gallery, encoder, view)
    return Indexer(sets, lambda _: source).fill(source, shard, on_progress)
