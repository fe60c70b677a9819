"""Migrations: they make the tables of a new registry, and bring those of an earlier release up to date.

A new registry gets all tables as `store.tables` declares them. Whoever changes them there adds a step in `versions/`
that changes existing registries in the same way; a test compares the hash of the tables that the newest step notes.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from store.errors import RegistryOutdated, RegistryUnavailable
from store.tables import RegistryRow

_HERE = Path(__file__).parent
_STEPS = sorted(path.name[1:5] for path in _HERE.glob("versions/r*.py"))  # r0028_first.py is the revision 0028
OLDEST, NEWEST = _STEPS[0], _STEPS[-1]

# What finds a term in `picture_words`: SQLAlchemy has no class for it.
_FTS5 = (
    "CREATE VIRTUAL TABLE picture_terms USING fts5(terms, content='picture_words', content_rowid='id', "
    "tokenize='ascii', detail='none', columnsize=0)",
    "CREATE TRIGGER picture_words_added AFTER INSERT ON picture_words BEGIN "
    "INSERT INTO picture_terms (rowid, terms) VALUES (new.id, new.terms); END",
    "CREATE TRIGGER picture_words_gone AFTER DELETE ON picture_words BEGIN "
    "INSERT INTO picture_terms (picture_terms, rowid, terms) VALUES ('delete', old.id, old.terms); END",
    "CREATE TRIGGER picture_words_changed AFTER UPDATE OF id, terms ON picture_words BEGIN "
    "INSERT INTO picture_terms (picture_terms, rowid, terms) VALUES ('delete', old.id, old.terms); "
    "INSERT INTO picture_terms (rowid, terms) VALUES (new.id, new.terms); END",
)
_GIN = ("CREATE INDEX picture_terms ON picture_words USING gin (array_to_tsvector(string_to_array(terms, ' ')))",)


def upgrade(connection: Connection) -> str | None:
    """Make the tables, or apply the missing steps, in the connection's transaction; return the revision before.

    Raises what `read_revision` raises.
    """
    before = read_revision(connection)
    if before is None:
        _create_tables(connection)
    if before in (None, NEWEST):
        return before
    from alembic import command  # a quarter of a second, and most starts find nothing to do
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return before


def read_revision(connection: Connection) -> str | None:
    """Return the last step that was applied; None without tables.

    Raises RegistryOutdated before all steps, and RegistryUnavailable after a step of a newer release.
    """
    if not inspect(connection).has_table("alembic_version"):
        return None
    applied: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if applied is not None and applied < OLDEST:
        raise RegistryOutdated(
            f"An earlier release wrote this registry (r{applied}), and this one cannot migrate it: save its content "
            "with `pictoglot export` of the release that wrote it, and import that into another PICTOGLOT_HOME."
        )
    if applied is not None and applied > NEWEST:
        raise RegistryUnavailable(
            f"A newer release of pictoglot migrated this registry (to r{applied}; this one knows r{NEWEST}): start "
            "that release, or restore a backup of before."
        )
    return applied


def _create_tables(connection: Connection) -> None:
    postgresql = connection.dialect.name == "postgresql"
    if not postgresql and not connection.scalar(text("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'")):
        raise RegistryUnavailable("The SQLite of this Python has no FTS5, which searches by words need.")
    RegistryRow.metadata.create_all(connection, checkfirst=False)
    for statement in _GIN if postgresql else _FTS5:
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql("INSERT INTO record_changes (id, last) VALUES (1, 0)")
    connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    connection.execute(text("INSERT INTO alembic_version VALUES (:newest)"), {"newest": NEWEST})
