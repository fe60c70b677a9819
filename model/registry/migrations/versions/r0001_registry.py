"""The tables of the registry and of the gallery."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
_ACTIVE = sa.text("state IN ('queued', 'running')")


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    _keys_and_expansions()
    _pictures()
    _captions_and_versions()
    _releases_and_the_rest()


def _keys_and_expansions() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
    )
    op.create_table(
        "expansions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("dataset_path", sa.String(), nullable=True),
        sa.Column("dataset_sha256", sa.String(), nullable=True),
        sa.Column("dataset_bytes", sa.BigInteger(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("phase", sa.String(), nullable=True),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("eta_seconds", sa.Double(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("release", sa.Integer(), nullable=True),
        sa.Column("report", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("error_detail", sa.String(), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("stalled", sa.Integer(), nullable=False),
        sa.Column("cause", sa.String(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_expires", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_expansions"),
    )
    op.create_index("ix_expansions_created_at_id", "expansions", ["created_at", "id"], unique=False)
    op.create_index(
        "uq_expansions_active",
        "expansions",
        ["language"],
        unique=True,
        sqlite_where=_ACTIVE,
        postgresql_where=_ACTIVE,
    )


def _pictures() -> None:
    op.create_table(
        "gallery_changes",
        sa.Column("change", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("picture_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("change", name="pk_gallery_changes"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "generations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("language", sa.String(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("folder", sa.String(), nullable=False),
        sa.Column("manifest_sha256", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("upto_change", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_generations"),
    )
    op.create_table(
        "picture_vectors",
        sa.Column("content_sha256", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("content_sha256", "fingerprint", name="pk_picture_vectors"),
    )
    op.create_table(
        "pictures",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("content_sha256", sa.String(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("change", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_pictures"),
    )
    op.create_index("ix_pictures_content_sha256", "pictures", ["content_sha256"], unique=False)


def _captions_and_versions() -> None:
    op.create_table(
        "captions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("picture_id", sa.String(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("expansion", sa.String(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("change", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["picture_id"], ["pictures.id"], name="fk_captions_picture_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_captions"),
        sa.UniqueConstraint("picture_id", "language", "digest", name="uq_captions_picture_id_language_digest"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_captions_change", "captions", ["change"], unique=False)
    op.create_index("ix_captions_language_expansion", "captions", ["language", "expansion"], unique=False)
    op.create_table(
        "idempotency_keys",
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("body_sha256", sa.String(), nullable=False),
        sa.Column("expansion", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["expansion"], ["expansions.id"], name="fk_idempotency_keys_expansion"),
        sa.PrimaryKeyConstraint("actor", "key", name="pk_idempotency_keys"),
    )
    op.create_table(
        "versions",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("parent", sa.Integer(), nullable=True),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("expansion", sa.String(), nullable=True),
        sa.Column("folder", sa.String(), nullable=True),
        sa.Column("manifest_sha256", sa.String(), nullable=True),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["expansion"], ["expansions.id"], name="fk_versions_expansion"),
        sa.ForeignKeyConstraint(["parent"], ["versions.number"], name="fk_versions_parent"),
        sa.PrimaryKeyConstraint("number", name="pk_versions"),
        sa.UniqueConstraint("expansion", "language", name="uq_versions_expansion_language"),
    )
    op.create_index("ix_versions_language", "versions", ["language"], unique=False)


def _releases_and_the_rest() -> None:
    op.create_table(
        "caption_vectors",
        sa.Column("caption_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["caption_id"], ["captions.id"], name="fk_caption_vectors_caption_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("caption_id", "version", name="pk_caption_vectors"),
    )
    op.create_table(
        "releases",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("shared", sa.Integer(), nullable=False),
        sa.Column("languages", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("change", sa.JSON(), nullable=False),
        sa.Column("expansion", sa.String(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["expansion"], ["expansions.id"], name="fk_releases_expansion"),
        sa.ForeignKeyConstraint(["shared"], ["versions.number"], name="fk_releases_shared"),
        sa.PrimaryKeyConstraint("number", name="pk_releases"),
        sa.UniqueConstraint("expansion", "version", name="uq_releases_expansion_version"),
    )
    op.create_table(
        "aliases",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("release", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["release"], ["releases.number"], name="fk_aliases_release"),
        sa.PrimaryKeyConstraint("name", name="pk_aliases"),
    )
