"""Pictures that were deleted lately, as they were: they can be brought back while their files are kept."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON
from sqlalchemy.orm import Mapped, mapped_column

from store.clock import now
from store.tables import RegistryRow


class DeletedPictureRow(RegistryRow):
    """A deleted picture; `captions` are [language, text, expansion] in order. The other columns are `PictureRow`'s."""

    __tablename__ = "deleted_pictures"

    id: Mapped[str] = mapped_column(primary_key=True)
    deleted_at: Mapped[datetime] = mapped_column(default=now())
    content_sha256: Mapped[str]
    collection: Mapped[str]
    width: Mapped[int]
    height: Mapped[int]
    original: Mapped[bool]
    created_at: Mapped[datetime]
    tags: Mapped[list[str]] = mapped_column(JSON)
    facts: Mapped[dict[str, Any]] = mapped_column("metadata", JSON)
    captions: Mapped[list[list[str | None]]] = mapped_column(JSON)
