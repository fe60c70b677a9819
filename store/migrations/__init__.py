"""Brings the tables of a registry up to date, from any working directory; the steps are in `versions/`."""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from store.errors import RegistryOutdated, RegistryUnavailable

_HERE = Path(__file__).parent
_STEPS = sorted(path.name[1:5] for path in _HERE.glob("versions/r*.py"))  # r0017_registry.py is the revision 0017
OLDEST, NEWEST = _STEPS[0], _STEPS[-1]


def upgrade(connection: Connection) -> str | None:
    """Apply the missing steps in the connection's transaction; returns the revision before, None of a new registry.

    Raises RegistryUnavailable when its tables are newer, and as `revision`.
    """
    before = revision(connection)
    if before == NEWEST:
        return before
    from alembic import command  # a quarter of a second, and most starts find nothing to do
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise RegistryUnavailable("The registry was created by a newer release of pictoglot.") from error
    return before


def revision(connection: Connection) -> str | None:
    """The last step that was applied, None when there are no tables yet.

    Raises RegistryOutdated for one that is older than all steps.
    """
    if not inspect(connection).has_table("alembic_version"):
        return None
    applied: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if applied is not None and applied < OLDEST:
        raise RegistryOutdated(
            f"An earlier release wrote this registry (r{applied}), and this one cannot migrate it: save its content "
            "with `pictoglot export` of the release that wrote it, and import that into another PICTOGLOT_HOME."
        )
    return applied
