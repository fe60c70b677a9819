"""Many searches in one request, and pictures that are nearly the same."""

from pydantic import Field, SkipValidation

from service.schemas.common import Problem, RequestBody, Response
from service.schemas.search import PictureHits, PictureSearch
from service.values import Finite

MOST_SEARCHES = 100


class Searches(RequestBody):
    """Searches, each as `POST /v1/search/pictures` takes it as JSON; each is answered or refused on its own."""

    # not read here: one that is wrong must not refuse the others
    searches: list[SkipValidation[PictureSearch]] = Field(min_length=1, max_length=MOST_SEARCHES)


class SearchAnswer(Response):
    """What `POST /v1/search/pictures` would answer: one of `answer` and `problem` is null."""

    status: int
    answer: PictureHits | None
    problem: Problem | None


class SearchAnswers(Response):
    """In the order of the searches, all of one release and one state of the vectors."""

    items: list[SearchAnswer]
    release: int
    timing_ms: Finite


class NearPicture(Response):
    id: str
    score: Finite = Field(description="To the first picture of the group; 1 for that one.")
    url: str


class DuplicateGroup(Response):
    pictures: list[NearPicture]
    more: bool = Field(description="Whether more than 100 pictures are near the first one, of which these are nearest.")


class Duplicates(Response):
    items: list[DuplicateGroup]
    examined: int = Field(description="How many pictures were looked at for this page.")
    release: int
    generation: str
    next_cursor: str | None
    timing_ms: Finite
