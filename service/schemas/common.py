"""What all schemas share. Strict: unknown fields, wrong types, NaN and infinity are refused."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from index.recall import Recall

Captions = dict[str, list[str]]
Report = dict[str, Any]


class RequestBody(BaseModel):
    """What a body says, in JSON or as a form: exact types, known fields."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Response(BaseModel):
    """The body of a response; NaN in it is a bug of ours and fails here."""

    model_config = ConfigDict(allow_inf_nan=False, from_attributes=True)


def _drop_required(schema: dict[str, Any]) -> None:
    schema.pop("required", None)


class ItemWithFields(Response):
    """An item of which `?fields=` may leave out whatever it likes, so a client may rely on no field."""

    model_config = ConfigDict(json_schema_extra=_drop_required)


class FacetValue(Response):
    """A value, and how many pictures have it."""

    value: str | bool | int | float
    count: int


Facets = dict[str, list[FacetValue]]


class Place(Response):
    location: str
    code: str


Flag = Literal["true", "false"]  # in a form


def make_flag(description: str) -> Any:
    """Make a field of a form that is off unless it is set."""
    return Field("false", description=description)


def _make_rare(description: str) -> Any:
    """Make a field that is left out where it has nothing to say."""
    return Field(None, exclude_if=lambda value: value is None, description=description)


class Problem(Response):
    """The body of every error (RFC 9457). What only some errors have is left out of others."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[Place]
    retry_after_seconds: int | None = _make_rare("With 429 and 503: as `Retry-After`.")
    languages: list[str] | None = _make_rare("With `language_not_found`: the available ones.")
    release: int | None = _make_rare("With `alias_moved`: the release that serves now.")
    expansion: str | None = _make_rare("With `expansion_in_progress`: the id of that expansion.")
    report: Report | None = _make_rare("With refused datasets: counts and lines by kind of fault.")
    count: int | None = _make_rare("With `picture_not_found`: how many pictures are unknown.")
    versions: list[int] | None = _make_rare("With `version_pruned`: the versions whose files are gone.")
    kind: str | None = _make_rare("With `dataset_invalid`: what is wrong with the file as a whole.")


class IndexRecall(Response):
    """The share of the ten nearest pictures that searches found, `of` the gallery's captions or made-up texts."""

    share: float
    queries: int
    of: Literal["captions", "made-up"]
    depth: int | None = Field(
        description="The most that is searched of a part of the index for ten hits, chosen for PICTOGLOT_RECALL: lists "
        "of a segment, or candidates of pgvector's graph; null where all is compared, or Milvus decides."
    )
    unit: Literal["lists", "candidates"] | None = Field(description="What `depth` counts.")

    @classmethod
    def describe(cls, found: Recall | None) -> "IndexRecall | None":
        """Describe what was measured; None where there is nothing."""
        if found is None:
            return None
        of: Literal["captions", "made-up"] = "captions" if found.captions else "made-up"
        return cls(share=found.share, queries=found.queries, of=of, depth=found.depth, unit=found.unit)
