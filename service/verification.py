"""Verifies on demand what serves: every file of its versions and generations against the registered hashes."""

from collections.abc import Iterator

from index import generation
from model import storage
from model.errors import PictoglotError
from service.context import Context
from service.schemas import Checked, Verified


def verify(context: Context) -> Verified:
    """What was checked of the release that serves in this process, and whether each is as registered."""
    snapshot = context.holder.current
    numbers = {snapshot.release.shared, *snapshot.release.languages.values()}
    checked = [*_versions(context, numbers), *_generations(context)]
    return Verified(ok=all(one.ok for one in checked), release=snapshot.release.number, checked=checked)


def _versions(context: Context, numbers: set[int]) -> Iterator[Checked]:
    """The versions and all that they stand on."""
    lineage = {version.number: version for n in numbers for version in context.registry.versions.lineage(n)}
    for number, version in sorted(lineage.items()):
        if version.folder is not None:
            yield _checked("version", str(number), context.settings.home / version.folder, version.manifest_sha256)


def _generations(context: Context) -> Iterator[Checked]:
    names = context.holder.current.generations
    for kind, name in [("pictures", names.pictures), *(("captions", name) for name in names.captions.values())]:
        folder = generation.path(context.settings.home, name)
        if folder.exists():
            yield _checked(kind, name, folder, None)


def _checked(kind: str, name: str, folder: object, manifest_sha256: str | None) -> Checked:
    try:
        storage.verify(folder, manifest_sha256)  # type: ignore[arg-type]
    except PictoglotError as error:
        return Checked(kind=kind, name=name, ok=False, code=error.code)
    return Checked(kind=kind, name=name, ok=True)
