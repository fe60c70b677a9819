"""Releases, versions and expansions as they were seen: what may follow what, and which vectors each version has."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.torture.ledger import Violation

Vectors = tuple[tuple[float, ...], ...]


class Lineage:
    """What was seen of the lists of releases and expansions; each look is compared with the looks before."""

    def __init__(self) -> None:
        self.releases: dict[int, Mapping[str, Any]] = {}
        self.submitted: dict[str, str] = {}  # acknowledged expansions, and their languages
        self._vectors: dict[tuple[str, int], Vectors] = {}
        self._served: dict[str, int] = {}

    @property
    def newest(self) -> int:
        """The number of the newest release that was seen."""
        return max(self.releases, default=1)

    def see_releases(self, listed: Sequence[Mapping[str, Any]]) -> None:
        """Note a listing of all releases; raises Violation if one is missing, has changed, or follows from nothing."""
        kept = ("number", "shared", "languages", "change", "created_at")
        seen = {int(release["number"]): {name: release[name] for name in kept} for release in listed}
        for number, release in self.releases.items():
            if seen.get(number) != release:
                raise Violation("release", f"release {number} was {release} and is {seen.get(number)}")
        if sorted(seen) != list(range(1, len(seen) + 1)):
            raise Violation("release", f"the releases are numbered {sorted(seen)}")
        self.releases = dict(seen)
        for number in sorted(seen)[1:]:
            self._check_step(seen[number - 1], seen[number], seen)

    def _check_step(self, before: Mapping[str, Any], after: Mapping[str, Any], all: Mapping[int, Any]) -> None:
        change, number = after["change"], after["number"]
        if change["kind"] == "restore":
            restored = all[change["restored"]] if "restored" in change else None
            if restored is not None and restored["languages"] != after["languages"]:
                raise Violation("release", f"release {number} restores {restored} and is {after}")
            return
        language = change.get("language")
        others = [{tag: v for tag, v in one["languages"].items() if tag != language} for one in (before, after)]
        if others[0] != others[1]:
            raise Violation(
                "mixed", f"release {number} ({change}) made {others[1]} of the other languages' {others[0]}"
            )

    def see_served(self, process: str, release: int) -> None:
        """Note that a process serves this release; raises Violation if it served a newer one before."""
        if release < self._served.get(process, 0):
            raise Violation("release", f"{process} went back from release {self._served[process]} to {release}")
        self._served[process] = release

    def version(self, release: int, language: str) -> int | None:
        """Return the version that reads a language in a release that was seen; None if none does."""
        if release not in self.releases:
            raise LookupError(release)
        found: int | None = self.releases[release]["languages"].get(language)
        return found

    def see_vectors(self, language: str, version: int, vectors: Vectors) -> None:
        """Note a version's vectors of its language's texts; raises Violation if one bit is another than before."""
        known = self._vectors.setdefault((language, version), vectors)
        if known != vectors:
            raise Violation("mixed", f"the vectors of {language} by version {version} are not those of before")

    def vectors(self, language: str, version: int) -> Vectors | None:
        """Return the vectors that were seen; None before."""
        return self._vectors.get((language, version))

    def see_expansions(self, listed: Sequence[Mapping[str, Any]], versions: Sequence[Mapping[str, Any]]) -> None:
        """Note expansions and versions; raises Violation if an acknowledged one is lost, or one made two versions."""
        ids = [expansion["id"] for expansion in listed]
        for id, language in self.submitted.items():
            if ids.count(id) != 1:
                raise Violation("lost", f"the expansion {id} of {language} is there {ids.count(id)} times")
        made = [version["expansion"] for version in versions if version["expansion"] is not None]
        for expansion in listed:
            expected = 1 if expansion["state"] == "succeeded" and expansion["kind"] == "learn" else None
            if expected is not None and made.count(expansion["id"]) != expected:
                raise Violation("lost", f"{expansion['id']} succeeded with {made.count(expansion['id'])} versions")
        if len(set(made)) != len(made):
            raise Violation("mixed", f"an expansion made two versions: {sorted(made)}")


def has_ended(expansion: Mapping[str, Any]) -> bool:
    """Whether nothing more will happen to an expansion."""
    return expansion["state"] in ("succeeded", "failed", "cancelled")
