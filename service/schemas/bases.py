"""Which base serves, moving to another one, and back."""

from pydantic import Field

from service.schemas.common import RequestBody, Response
from service.schemas.languages import ExpansionItem
from service.values import Expected, Note


class BaseMove(RequestBody):
    base: str = Field(min_length=1, max_length=1_000, description="As in `PICTOGLOT_BASE`.")
    force: bool = Field(False, description="Move even if a language would lose more than the forgetting budget.")
    dry_run: bool = False


class BaseUndo(RequestBody):
    reason: Note = Field("", max_length=1_000)
    expected: Expected = None
    dry_run: bool = False


class MoveSubmitted(Response):
    """What a move takes, in bytes of disk; without `expansion` it was not queued."""

    base: str
    languages: list[str] = Field(description="Those that are taught again.")
    needed: int
    free: int
    expansion: ExpansionItem | None
    dry_run: bool


class BaseUndone(Response):
    """The way back to the base before; `lost` are served now and not there, `changed` by another version there."""

    release: int = Field(description="The new release; with `dry_run` the one that serves.")
    restored: int
    from_base: str
    to_base: str
    lost: list[str]
    returned: list[str]
    changed: list[str]
    dry_run: bool


class OpenBase(Response):
    """What this process has open. After a move it opens the other base beside, and serves this one until then."""

    base: str
    version: int
    release: int | None


class BaseStatus(Response):
    """`move` is the newest move; `undo` what the way back would do now, if there is one."""

    base: str
    version: int
    release: int
    open: OpenBase
    move: ExpansionItem | None
    undo: BaseUndone | None
