"""Moves to another base or encoding beside what serves: vectors, languages, a comparison, and one release at the end.

Every step may be repeated after any crash, and what an earlier attempt or an earlier move to the same base has made is
not made again. What comes meanwhile (pictures, captions, a language learned or rolled back) is taken in by another
pass, until a release can be published upon the one that the last pass began with.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import torch

from index.indexer import fill_captions, fill_pictures
from index.janitor import estimate_move_bytes
from model.backend import choose_encoding, open_encoder, open_towers, recorded
from model.base import Base, open_base
from model.dataset.words import counted
from model.encoder import Encoder, Views
from model.languages import ENGLISH
from store import files
from store.errors import (
    BaseMoved,
    BaseServes,
    CaptionsUnreadable,
    CheckpointMismatch,
    DatasetInvalid,
    InvalidInput,
    PicturesUnreadable,
    PivotNotServed,
    TrainingDiverged,
    VersionCorrupt,
)
from store.expansions import Expansion
from store.releases import Release
from store.versions import Version
from worker.attempt import Attempt, TrainingContext
from worker.evaluate import measure
from worker.gate import GateFailed, exceeds, keeps_shared
from worker.learn import make_version
from worker.prepare import prepare, rows_of
from worker.validation import Candidates, Validation, candidates, choose, english_of_gallery, find_kept

_PAUSE = 2.0  # seconds until another pass, after something else was in the way
_UNTEACHABLE = (InvalidInput, CaptionsUnreadable, TrainingDiverged)


def move(attempt: Attempt) -> None:
    """Carry out an expansion of kind `base`.

    Raises `GateFailed` when a language would lose more than the forgetting budget, unless it is forced.
    """
    begun = attempt.registry.expansions.get(attempt.lease.expansion)
    if begun.release is not None:  # it died, or the registry went away, after the release was published
        return _conclude(attempt, attempt.registry.releases.get(begun.release), begun.report or {})
    with attempt.phase("prepare"):
        context = _open(attempt)
    passes = _Move(context)
    while True:
        before = attempt.registry.releases.get_serving()
        report = passes.once(before)
        with attempt.phase("promote"):
            after = attempt.registry.bases.move(
                attempt.lease,
                expected=before.number,
                base=passes.base,
                encoding=context.encoder.encoding,
                shared=passes.shared,
                languages=passes.served,
                report=report,
            )
            if after is not None:
                files.pass_fault_point("move.committed")
                return _conclude(attempt, after, report)
        attempt.pause("expansion_in_progress", _PAUSE)
        # a pass reads everything, so only when it may be the last
        while attempt.registry.bases.is_move_hindered(attempt.lease):
            attempt.pause("expansion_in_progress", _PAUSE)


def _conclude(attempt: Attempt, release: Release, report: dict[str, Any]) -> None:
    attempt.registry.expansions.succeed(attempt.lease, release.shared, release.number, report)


def _open(attempt: Attempt) -> TrainingContext:
    """Open the base that is moved to, registered as a version, in the encoding that is moved to.

    Raises `BaseServes` and, before anything is written, `DiskTooSmall`; also as `choose_encoding`.
    """
    registry, asked, settings = attempt.registry, attempt.expansion.settings, attempt.settings
    made_by, served = recorded(registry), registry.bases.find_serving()
    torch.set_num_threads(settings.threads)
    base = open_base(str(asked["base"]))
    given = {"backend": asked.get("backend"), "precision": asked.get("precision")}
    # once: the fastest is not the same on each machine, nor in each trial
    first = attempt.decided("encoding.json", lambda: asdict(choose_encoding(settings, registry, **given)))
    encoding = choose_encoding(settings, registry, **first)
    teaches = served is None or not served.has_towers(base.image_fingerprint, base.text_fingerprint)
    if served is not None and not teaches and encoding == made_by:
        raise BaseServes(f"Base {served.public_name} serves already, with vectors made by {encoding}.")
    attempt.decided("room.json", lambda: _room(attempt, base, teaches))  # once: afterwards a part of it is used
    towers = open_towers(base, encoding, settings)
    number = registry.bases.add(str(asked["base"]), base.image_fingerprint, base.text_fingerprint, attempt.lease).number
    encoder = Encoder(base, towers, number)
    torch.use_deterministic_algorithms(base.device.type == "cpu")
    views = Views(encoder, registry, attempt.root)
    return TrainingContext(attempt, encoder, attempt.gallery, number, encoder.base_view, views)


def _room(attempt: Attempt, base: Base, teaches: bool) -> int:
    """Return how many bytes of disk the move takes; raises `DiskTooSmall` unless they are there."""
    towers = sum(tensor.nbytes for tensor in base.model.state_dict().values())  # traced, about as much as the weights
    needed = estimate_move_bytes(attempt.registry, base.dimension, towers, teaches=teaches)
    files.require_room(attempt.settings.home, needed)
    return needed


class _Move:
    """The passes of one attempt; after each, `served` and `shared` are what its release will serve."""

    def __init__(self, context: TrainingContext) -> None:
        self.context, self.attempt, self.registry = context, context.attempt, context.attempt.registry
        self.base = self.shared = context.parent
        self._began = self.registry.releases.get_serving().base
        self._is_forced = bool(self.attempt.expansion.settings.get("force"))
        self.served: dict[str, int] = {}
        self._taught = list[Version]()
        self._old: TrainingContext | None = None

    def once(self, release: Release) -> dict[str, Any]:
        """Make everything that this release serves; returns the report.

        Raises `GateFailed`, and `BaseMoved` when it is not for the base that served at the beginning.
        """
        if release.base != self._began:
            raise BaseMoved("Another base serves now than when the move began: start it again.")
        languages = sorted(release.languages.items(), key=lambda pair: pair[1])[1:]  # in the order of learning
        parts = len(languages) + 2
        self.attempt.part = (0, parts)
        with self.attempt.phase("pictures"):
            unreadable = self._encode_pictures()
        self.shared, self.served, left_out = self.base, {"en": self.base}, dict[str, dict[str, str]]()
        if self.base == release.base:  # only the encoding is another one
            self.shared, self.served = release.shared, dict(release.languages)
        else:
            left_out = self._teach(languages, parts)
        self.attempt.part = (parts - 1, parts)
        with self.attempt.phase("encode"):
            self._encode_captions()
        with self.attempt.phase("compare"):
            return self._report(release, left_out, unreadable)

    def _encode_pictures(self) -> int:
        """Encode all pictures; returns how many cannot be read, and so will not be found."""
        encoder, gallery = self.context.encoder, self.context.gallery
        pictures = gallery.list_ids()  # what comes after this is for the next pass
        fill_pictures(encoder, self.attempt.sets, self.attempt.encoding(encoder))
        contents = gallery.find_contents(pictures)
        encoded = gallery.find_content_vectors(sorted(set(contents.values())), encoder.image_fingerprint)
        unreadable = sorted(id for id, content in contents.items() if content not in encoded)
        if unreadable and not self._is_forced:
            raise PicturesUnreadable(
                f"{counted(len(unreadable), 'stored picture')} unreadable on this machine, first: "
                f"{', '.join(unreadable[:10])}",
                report={"unreadable": len(unreadable)},
            )
        return len(unreadable)

    def _encode_captions(self) -> None:
        """Encode the captions of every language and version that the release will name, or a way back from it.

        So that each rollback finds its vectors. A base that reads many languages reads those that are not taught, too.
        """
        attempt, encoder, base = self.attempt, self.context.encoder, self.base
        pruned = self.registry.versions.find_pruned()
        earlier = [
            pair for each in self.registry.releases.list() if each.base == base for pair in each.languages.items()
        ]
        untaught = [(tag, base) for tag in self.context.gallery.list_languages()] if len(encoder.languages) > 1 else []
        named = dict.fromkeys([*self.served.items(), *(pair for pair in earlier if pair[1] not in pruned), *untaught])
        for number, (language, version) in enumerate(named):
            try:
                view = self.context.views.of(version)
            except VersionCorrupt:
                if version in self.served.values():
                    raise
                continue  # of a release long ago: only a rollback to it would miss it
            fill_captions(encoder, view, attempt.sets, language, version, attempt.encoding(encoder, number, len(named)))

    def _teach(self, languages: Iterable[tuple[str, int]], parts: int) -> dict[str, dict[str, str]]:
        """Teach all these languages, with the versions that serve them; returns which were left out, and why.

        One whose pivot is not taught yet waits for it: the pivot may have been taught again after it.
        """
        left_out, self._taught = dict[str, dict[str, str]](), []
        queue, waiting = deque(languages), list[tuple[str, int]]()
        while queue:
            language, version = queue.popleft()
            self.attempt.part = (len({*self.served, *left_out}), parts)
            try:
                made = self._teach_one(language, self.registry.versions.get(version).dataset_expansions)
            except _UNTEACHABLE as error:
                left_out[language] = {"left_out": error.code, "detail": error.detail}
                if isinstance(error, PivotNotServed):
                    waiting.append((language, version))
                continue
            self._taught.append(made)
            self.served[language] = made.number
            left_out.pop(language, None)
            if made.parent == self.shared and keeps_shared(made.report, self.attempt.settings.forgetting_budget):
                self.shared = made.number
            queue.extend(waiting)
            waiting.clear()
        return left_out

    def _teach_one(self, language: str, sources: Sequence[str]) -> Version:
        """Teach a language on the new base, from all datasets that its version stands on, unless that was done already.

        What an earlier move has made upon another version than is shared by now is of no use to the shared table.
        """
        made, own = self.registry.versions.list_made_for(self.base), self.attempt.expansion.id
        learned, taught = tuple(sources), map(self.registry.expansions.get, sources)
        for version in reversed(made):
            same = (version.language, version.dataset_expansions) == (language, learned)
            if same and (version.parent == self.shared or version.expansion == own):
                return version
        if any((version.language, version.expansion) == (language, own) for version in made):
            raise CheckpointMismatch(f"{language} was rolled back to other datasets meanwhile: start the move again.")
        with self.attempt.phase("prepare"):
            data = prepare(replace(self.context, made=dict(self.served)), *taught)
        # not before: a language that waits for its pivot is taught upon what comes in between
        parent = int(self.attempt.decided(f"parent-{language}.json", lambda: self.shared))
        context = replace(self.context, parent=parent, view=self.context.views.of(parent), made=dict(self.served))
        return make_version(context, data)[1]

    def _report(self, release: Release, left_out: dict[str, dict[str, str]], unreadable: int) -> dict[str, Any]:
        versions, expansions = self.registry.versions, self.registry.expansions
        sources = {
            tag: [*map(expansions.get, versions.get(number).dataset_expansions)]
            for tag, number in release.languages.items()
        }
        sources[ENGLISH] = [each for learned in sources.values() for each in learned]
        figures: dict[str, Any] = {}
        for done, (tag, number) in enumerate(self.served.items()):
            self.attempt.check()
            self.attempt.done(done, len(self.served))
            figures[tag] = self._compare(tag, release.languages[tag], number, sources[tag])
        names = {base.number: base.public_name for base in self.registry.bases.list()}
        in_shared = {version.language for version in versions.trace_lineage(self.shared)}
        report = {
            "from": names[release.base],
            "to": names[self.base],
            "encoding": str(self.context.encoder.encoding),
            "languages": figures | left_out,
            "shared_lacks": sorted({version.language for version in self._taught} - in_shared),
            "without_gain": self._without_gain(),
            "unreadable": unreadable,
            "forced": False,
        }
        lost = losses(report, self.attempt.settings.forgetting_budget)
        if lost and not self._is_forced:
            raise GateFailed(f"{'; '.join(lost)}. Base {names[release.base]} goes on serving.", report=report)
        return {**report, "forced": bool(lost), "lost": lost}

    def _compare(self, tag: str, old: int, new: int, sources: Sequence[Expansion]) -> dict[str, Any]:
        """Measure a language by both versions, once for this pair; empty where nothing held out is left to measure."""
        new_context = replace(self.context, made=dict(self.served))

        def measured() -> dict[str, Any] | None:
            learned = [each.id for each in sources]
            kept = None if tag == ENGLISH else find_kept(self.attempt.root, learned)
            validation = english_to_compare(new_context, sources) if tag == ENGLISH else kept
            if validation is None or not validation.captions:
                return None
            return compare((self._open_old(), old), (new_context, new), validation)

        return self.attempt.computed(f"comparison/{tag}-{old}-{new}.json", measured) or {}

    def _without_gain(self) -> list[str]:
        """Return a sentence for each language that the new base reads as well untaught; it is served all the same."""
        gains = (version.report["gain"] for version in self._taught if "gain" in version.report)
        return [f"{gain['sentence']}." for gain in gains if gain["mean"] <= gain["error"]]

    def _open_old(self) -> TrainingContext:
        """Open the base that serves, for reading alone."""
        attempt = self.attempt
        if self._old is None:
            encoder = open_encoder(attempt.settings, self.registry)
            view, views = encoder.base_view, Views(encoder, self.registry, attempt.root)
            self._old = replace(self.context, encoder=encoder, parent=view.version, view=view, views=views)
        return self._old


def compare(
    old: tuple[TrainingContext, int], new: tuple[TrainingContext, int], validation: Validation
) -> dict[str, Any] | None:
    """Measure two versions, each with its base, on the same captions among the same candidates; None without any.

    The candidates are those that both have, in one order: a picture may have been deleted, or be readable for one.
    """
    both = [candidates(context, None, validation) for context, _ in (old, new)]
    names = [name for name in both[0].places if name in both[1].places]
    places = {name: place for place, name in enumerate(names)}
    sides = []
    for (context, number), each in zip((old, new), both, strict=True):
        among = Candidates(places, each.vectors[[each.places[name] for name in names]])
        sides.append(measure(context, context.views.of(number), validation, among))
    before, after = sides
    if before is None or after is None:
        return None
    return {
        "before": {way: before.figures[way] for way in ("t2i", "i2t")},
        "after": {way: after.figures[way] for way in ("t2i", "i2t")},
        "pairs": len(before.ranks),
        "candidates": len(places),
        "against": validation.against,
    }


def english_to_compare(context: TrainingContext, sources: Iterable[Expansion]) -> Validation:
    """Choose English captions of the gallery or, without any, of held-out rows of these datasets with a picture."""
    found = english_of_gallery(context)
    if found.captions:
        return found
    pictured = []
    for source in sources:
        with suppress(DatasetInvalid, CheckpointMismatch):  # what is left of it is no measure
            held_out = (row for row in rows_of(context.attempt, source).rows if row.split == "val")
            pictured += [(row.english, row.picture) for row in held_out if row.english and row.picture]
    return choose("pictures", pictured, context.gallery.list_ids())


def losses(report: Mapping[str, Any], budget: float) -> list[str]:
    """Say why a move costs more than it may, a sentence for each language that lost too much, or cannot be compared.

    English alone may be unmeasured, where nothing is in English.
    """
    sentences = []
    for tag, figures in report["languages"].items():
        if "left_out" in figures:
            sentences.append(f"{tag} could not be taught again ({figures['left_out']})")
        elif figures.get("before") is None:
            if tag != ENGLISH:
                sentences.append(f"{tag} has no held-out captions left to compare")
        else:
            before, after = (figures[side]["t2i"]["R@1"] for side in ("before", "after"))
            if exceeds(before - after, budget):
                sentences.append(f"{tag} would go from t2i R@1 {before:.3f} to {after:.3f}")
    return sentences
