"""Moves to another base or encoding beside what serves: vectors, languages, a comparison, and one release at the end.

Every step may be repeated after any crash, and what an earlier attempt or an earlier move to the same base has made is
not made again. What comes meanwhile is taken in by another pass: a language learned or rolled back always, pictures and
captions if they are more than each process of the service encodes itself as soon as the release is published.
"""

import logging
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import torch

from index.indexer import fill_captions, fill_pictures
from index.janitor import estimate_move_bytes
from model.backend import choose_target_encoding, open_encoder, open_towers
from model.base import Base, open_base
from model.encoder import Encoder, Views
from model.languages import ENGLISH
from store import files
from store.bases import INT8, OPENVINO
from store.errors import (
    BaseMoved,
    BaseServes,
    CheckpointMismatch,
    DatasetInvalid,
    PicturesUnreadable,
    PivotNotServed,
    VersionCorrupt,
    format_count,
)
from store.expansions import Expansion
from store.releases import Release
from store.versions import Version
from worker.attempt import Attempt, TrainingContext
from worker.evaluate import measure
from worker.gate import GateFailed, is_more_than, is_within_budget
from worker.learn import UNTEACHABLE, make_version
from worker.prepare import prepare, read_dataset
from worker.validation import (
    CandidateSet,
    Validation,
    choose_gallery_english,
    choose_validation,
    encode_candidates,
    find_validation,
)

_log = logging.getLogger(__name__)
_PAUSE_SECONDS = 2.0  # seconds until another pass, after something else was in the way
_INT8_BUDGET = 0.002  # of R@1 that int8 may cost a language, where the forgetting budget is not less


def move(attempt: Attempt) -> None:
    """Carry out an expansion of kind `base`.

    Raises `GateFailed` when a language would lose more than the forgetting budget, unless it is forced.
    """
    expansion = attempt.registry.expansions.get(attempt.lease.expansion)
    if expansion.release is not None:  # it died, or the registry went away, after the release was published
        return _conclude(attempt, attempt.registry.releases.get(expansion.release), expansion.report or {})
    with attempt.enter_phase("prepare"):
        context = open_new_context(attempt)
    mover, came = _Mover(context), math.inf
    while True:
        before, change = attempt.registry.releases.get_serving(), attempt.gallery.read_last_change()
        report = mover.run_pass(before)
        earlier, came = came, attempt.gallery.read_last_change() - change
        if attempt.settings.seal_at < came < earlier:  # a pass over fewer is shorter, unless they come too fast
            continue
        with attempt.enter_phase("promote"):
            after = attempt.registry.bases.move(
                attempt.lease,
                expected=before.number,
                base=mover.base,
                encoding=context.encoder.encoding,
                shared=mover.shared,
                languages=mover.languages,
                report=report,
            )
            if after is not None:
                files.pass_fault_point("move.committed")
                return _conclude(attempt, after, report)
        attempt.pause("expansion_in_progress", _PAUSE_SECONDS)
        # a pass reads everything, so only when it may be the last
        while attempt.registry.bases.is_move_hindered(attempt.lease):
            attempt.pause("expansion_in_progress", _PAUSE_SECONDS)


def _conclude(attempt: Attempt, release: Release, report: dict[str, Any]) -> None:
    attempt.registry.expansions.succeed(attempt.lease, release.shared, release.number, report)


def open_new_context(attempt: Attempt) -> TrainingContext:
    """Open the new base in the new encoding, and register it as a version.

    Raises `BaseServes` and, before anything is written, `DiskTooSmall`, and what `choose_target_encoding` raises.
    """
    registry, settings, machine = attempt.registry, attempt.expansion.settings, attempt.settings
    old_encoding, old_base = registry.encodings.find_current(), registry.bases.find_serving()
    torch.set_num_threads(machine.threads)
    base = open_base(str(settings["base"]))
    wanted = {"backend": settings.get("backend"), "precision": settings.get("precision")}
    # once: the fastest is not the same on each machine, nor in each trial
    choose = partial(choose_target_encoding, machine, registry)
    first = attempt.decide_once("encoding.json", lambda: choose(**wanted).get_settings())
    encoding = choose(**first)
    fingerprints = base.image_fingerprint, base.text_fingerprint
    teaches = old_base is None or not old_base.has_towers(*fingerprints)
    if old_base is not None and not teaches and encoding == old_encoding:
        raise BaseServes(f"Base {old_base.public_name} serves already, with vectors made by {encoding}.")
    attempt.decide_once("room.json", lambda: _require_room(attempt, base, teaches))  # once: then a part of it is used
    towers = open_towers(base, encoding, machine)
    number = registry.bases.add(str(settings["base"]), *fingerprints, attempt.lease).number
    if not teaches:
        base = base.copy_without_towers(encoding.backend == OPENVINO)
    encoder = Encoder(base, towers, number)
    torch.use_deterministic_algorithms(base.device.type == "cpu")
    views = Views(encoder, registry, attempt.root)
    return TrainingContext(attempt, encoder, attempt.gallery, number, encoder.base_view, views)


def _require_room(attempt: Attempt, base: Base, teaches: bool) -> int:
    """Require the disk that the move takes, and return how many bytes; raises `DiskTooSmall`."""
    towers = sum(tensor.nbytes for tensor in base.model.state_dict().values())  # traced, about as much as the weights
    needed = estimate_move_bytes(attempt.registry, base.dimension, towers, teaches=teaches)
    files.require_room(attempt.settings.home, needed)
    return needed


class _Mover:
    """The passes of one attempt; after each, `languages` and `shared` are what its release will serve."""

    def __init__(self, context: TrainingContext) -> None:
        self.context, self.attempt, self.registry = context, context.attempt, context.attempt.registry
        self.base = self.shared = context.parent
        self._first_base = self.registry.releases.get_serving().base
        self._is_forced = bool(self.attempt.expansion.settings.get("force"))
        self.languages: dict[str, int] = {}
        self._new_versions = list[Version]()

    def run_pass(self, release: Release) -> dict[str, Any]:
        """Make everything that this release serves; returns the report.

        Raises `GateFailed`, and `BaseMoved` when another base serves than at the beginning.
        """
        if release.base != self._first_base:
            raise BaseMoved("Another base serves now than when the move began: start it again.")
        keeps_base = self.base == release.base  # only the encoding is another one
        # in the order of learning
        languages = [] if keeps_base else sorted(release.languages.items(), key=lambda pair: pair[1])[1:]
        parts = len(languages) + 2
        self.attempt.part = (0, parts)
        with self.attempt.enter_phase("pictures"):
            unreadable = self._encode_pictures()
        self.shared, self.languages = self.base, {ENGLISH: self.base}
        left_out = self._teach(languages, parts)
        if keeps_base:
            self.shared, self.languages = release.shared, dict(release.languages)
        self.attempt.part = (parts - 1, parts)
        with self.attempt.enter_phase("encode"):
            damaged = self._encode_captions()
        with self.attempt.enter_phase("compare"):
            return self._make_report(release, {"unreadable": unreadable, "damaged_versions": damaged}, left_out)

    def _encode_pictures(self) -> int:
        """Encode all pictures; returns how many cannot be read, and so will not be found."""
        encoder, gallery = self.context.encoder, self.context.gallery
        pictures = gallery.list_ids()  # what comes after this may have no vector yet
        fill_pictures(encoder, self.attempt.sets, self.attempt.make_progress_callback(encoder))
        contents = gallery.find_contents(pictures)
        encoded = gallery.find_content_vectors(sorted(set(contents.values())), encoder.image_fingerprint)
        unreadable = sorted(id for id, content in contents.items() if content not in encoded)
        if unreadable and not self._is_forced:
            raise PicturesUnreadable(
                f"{format_count(len(unreadable), 'stored picture')} unreadable on this machine, first: "
                f"{', '.join(unreadable[:10])}",
                report={"unreadable": len(unreadable)},
            )
        return len(unreadable)

    def _encode_captions(self) -> list[int]:
        """Encode the captions for every language and version that the release will name, or a rollback from it.

        Returns the damaged versions, whose captions a rollback to them would miss.
        """
        attempt, encoder, base = self.attempt, self.context.encoder, self.base
        pruned = self.registry.versions.find_pruned()
        earlier = [pair for old in self.registry.releases.list() if old.base == base for pair in old.languages.items()]
        names = [*self.languages.items(), *(pair for pair in earlier if pair[1] not in pruned)]
        pairs, damaged = [*dict.fromkeys(names)], set[int]()
        for number, (language, version) in enumerate(pairs):
            try:
                view = self.context.views.open(version)
            except VersionCorrupt:
                if version in self.languages.values():
                    raise
                damaged.add(version)
                continue
            on_progress = attempt.make_progress_callback(encoder, number, len(pairs))
            fill_captions(encoder, view, attempt.sets, language, version, on_progress)
        if damaged:
            _log.warning("damaged versions are left out, which serve no longer: %s", sorted(damaged))
        return sorted(damaged)

    def _teach(self, languages: Iterable[tuple[str, int]], parts: int) -> dict[str, dict[str, str]]:
        """Teach these languages, given with the versions that serve them; returns which were left out, and why.

        A language whose pivot is not taught yet waits for it: the pivot may have been taught again after it.
        """
        left_out, self._new_versions = dict[str, dict[str, str]](), []
        queue, waiting = deque(languages), list[tuple[str, int]]()
        while queue:
            language, version = queue.popleft()
            self.attempt.part = (len({*self.languages, *left_out}), parts)
            try:
                made = self._teach_one(language, self.registry.versions.get(version).dataset_expansions)
            except UNTEACHABLE as error:
                left_out[language] = {"left_out": error.code, "detail": error.detail}
                if isinstance(error, PivotNotServed):
                    waiting.append((language, version))
                continue
            self._new_versions.append(made)
            self.languages[language] = made.number
            left_out.pop(language, None)
            if made.parent == self.shared and is_within_budget(made.report, self.attempt.settings.forgetting_budget):
                self.shared = made.number
            queue.extend(waiting)
            waiting.clear()
        return left_out

    def _teach_one(self, language: str, sources: Sequence[str]) -> Version:
        """Teach a language on the new base, from all datasets that its version stands on, unless that was done already.

        A version that an earlier move made upon another shared version is of no use to the shared table.
        """
        versions, own = self.registry.versions.list_made_for(self.base), self.attempt.expansion.id
        for version in reversed(versions):
            same = (version.language, version.dataset_expansions) == (language, tuple(sources))
            if same and (version.parent == self.shared or version.expansion == own):
                return version
        if any((version.language, version.expansion) == (language, own) for version in versions):
            raise CheckpointMismatch(f"{language} was rolled back to other datasets meanwhile: start the move again.")
        context = replace(self.context, moved_versions=dict(self.languages))
        with self.attempt.enter_phase("prepare"):
            data = prepare(context, *map(self.registry.expansions.get, sources))
        # not before: a language that waits for its pivot is taught upon what comes in between
        parent = int(self.attempt.decide_once(f"parent-{language}.json", lambda: self.shared))
        return make_version(replace(context, parent=parent, view=self.context.views.open(parent)), data)[1]

    def _make_report(
        self, release: Release, damage: dict[str, Any], left_out: dict[str, dict[str, str]]
    ) -> dict[str, Any]:
        versions, expansions = self.registry.versions, self.registry.expansions
        sources = {
            tag: [*map(expansions.get, versions.get(number).dataset_expansions)]
            for tag, number in release.languages.items()
        }
        sources[ENGLISH] = [each for taught_from in sources.values() for each in taught_from]
        figures: dict[str, Any] = {}
        for done, (tag, number) in enumerate(self.languages.items()):
            self.attempt.check_stop()
            self.attempt.report_progress(done, len(self.languages))
            figures[tag] = self._compare(tag, release.languages[tag], number, sources[tag])
        names = {base.number: base.public_name for base in self.registry.bases.list()}
        in_shared = {version.language for version in versions.trace_lineage(self.shared)}
        gains = (version.report["gain"] for version in self._new_versions if "gain" in version.report)
        report = {
            "from": names[release.base],
            "to": names[self.base],
            "encoding": str(self.context.encoder.encoding),
            "languages": figures | left_out,
            "shared_lacks": sorted({version.language for version in self._new_versions} - in_shared),
            # the new base reads these as well untaught; they are served all the same
            "without_gain": [f"{gain['sentence']}." for gain in gains if gain["mean"] <= gain["error"]],
            **damage,
            "forced": False,
        }
        budget, is_int8 = self.attempt.settings.forgetting_budget, self.context.encoder.encoding.precision == INT8
        # of few captions one that changes its place is more than the budget, and chance
        losses = describe_losses(report, min(budget, _INT8_BUDGET), 1) if is_int8 else describe_losses(report, budget)
        if losses and not self._is_forced:
            raise GateFailed(f"{'; '.join(losses)}. Base {names[release.base]} goes on serving.", report=report)
        return {**report, "forced": bool(losses), "lost": losses}

    def _compare(self, tag: str, old: int, new: int, sources: Sequence[Expansion]) -> dict[str, Any]:
        """Measure a language by both versions, once for this pair; empty where nothing held out is left to measure."""
        new_context = replace(self.context, moved_versions=dict(self.languages))

        def measure_both() -> dict[str, Any] | None:
            kept = find_validation(self.attempt.root, [each.id for each in sources])
            validation = choose_english_to_compare(new_context, sources) if tag == ENGLISH else kept
            if validation is None or not validation.captions:
                return None
            return compare_versions((self._old_context, old), (new_context, new), validation)

        return self.attempt.compute_once(f"comparison/{tag}-{old}-{new}.json", measure_both) or {}

    @cached_property
    def _old_context(self) -> TrainingContext:
        """Return the base that serves, opened for reading alone."""
        encoder = open_encoder(self.attempt.settings, self.registry)
        view, views = encoder.base_view, Views(encoder, self.registry, self.attempt.root)
        return replace(self.context, encoder=encoder, parent=view.version, view=view, views=views)


def compare_versions(
    old: tuple[TrainingContext, int], new: tuple[TrainingContext, int], validation: Validation
) -> dict[str, Any] | None:
    """Measure two versions, each with its base, on the same captions among the same candidates; None without any.

    The candidates are those that both have: a picture may have been deleted, or be readable for one of the two alone.
    """
    both = [encode_candidates(context, None, validation) for context, _ in (old, new)]
    names = [name for name in both[0].places if name in both[1].places]
    places = {name: place for place, name in enumerate(names)}
    sides = []
    for (context, number), each in zip((old, new), both, strict=True):
        among = CandidateSet(places, each.vectors[[each.places[name] for name in names]])
        sides.append(measure(context, context.views.proofs.open(number), validation, among))
    before, after = sides
    if before is None or after is None:
        return None
    recalls = [{way: side.figures[way] for way in ("t2i", "i2t")} for side in (before, after)]
    return {
        "before": recalls[0],
        "after": recalls[1],
        "pairs": len(before.ranks),
        "candidates": len(places),
        "against": validation.against,
    }


def choose_english_to_compare(context: TrainingContext, sources: Iterable[Expansion]) -> Validation:
    """Choose English captions of the gallery or, without any, of held-out rows of these datasets with a picture."""
    validation = choose_gallery_english(context)
    if validation.captions:
        return validation
    pairs = []
    for source in sources:
        with suppress(DatasetInvalid, CheckpointMismatch):  # what is left of it is no measure
            rows = (row for row in read_dataset(context.attempt, source).rows if row.split == "val")
            pairs += [(row.english, row.picture) for row in rows if row.english and row.picture]
    return choose_validation("pictures", pairs, context.gallery.list_ids())


def describe_losses(report: Mapping[str, Any], budget: float, chance: int = 0) -> list[str]:
    """Say in a sentence each which languages a move costs too much, or cannot be compared.

    So many captions beyond the budget may be lost by `chance`. English alone may be unmeasured, where nothing is in
    English.
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
            if is_more_than(before - after, budget + chance / figures["pairs"]):
                sentences.append(f"{tag} would go from t2i R@1 {before:.3f} to {after:.3f}")
    return sentences
