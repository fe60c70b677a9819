"""Pictures and their captions."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from service.schemas.common import Captions, FormFields, RequestBody, Response


class PictureForm(FormFields):
    """Fields sent with the file `picture`; `captions` is JSON: `{TAG: [text, ...]}`."""

    captions: str | None = Field(None, description="If left out, existing captions stay.")


class CaptionsOfPicture(RequestBody):
    """The JSON of `captions`."""

    captions: dict[str, Annotated[list[str], Field(max_length=100)]] = Field(max_length=100)


class PictureItem(Response):
    id: str
    captions: Captions
    url: str
    width: int
    height: int
    created_at: datetime


class PicturePage(Response):
    items: list[PictureItem]
    next_cursor: str | None
