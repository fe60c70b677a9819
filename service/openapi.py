"""Builds the OpenAPI document; adds bodies, errors and keys, which the routes read without FastAPI's help.

Reads no request.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel

from service.auth import guard_of
from service.schemas.common import Problem
from service.schemas.operations import NotReady

VERSION = "1"
_EXTRA: tuple[type[BaseModel], ...] = (Problem, NotReady)  # schemas that FastAPI does not see
_BODIES: dict[str, dict[str, Any]] = {}  # schemas of bodies by name: generated clients name their classes by them
_DESCRIPTION = (
    "A picture search that learns languages. Send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`. "
    "Every error is `application/problem+json`; its `code` is stable. `RateLimit-Limit`, `RateLimit-Remaining` and "
    "`RateLimit-Reset` tell how many requests a key may send at once, how many are left, and in how many seconds all."
)
_PROBLEM = {"schema": {"$ref": "#/components/schemas/Problem"}}
_REFUSED = {"description": "Error", "content": {"application/problem+json": _PROBLEM}}
_KEYS: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]
LATER = {"headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}}
_RETRIED = {"429": "Too many requests", "503": "Too busy, or not ready"}


def taking(
    json: type[BaseModel] | None = None,
    form: type[BaseModel] | None = None,
    file: str | None = None,
    patch: type[BaseModel] | None = None,
    most_files: int = 1,
    required: bool = True,
) -> dict[str, Any]:
    """`openapi_extra` of a route that accepts JSON, a form with one file or several, or both; or a merge patch."""
    content: dict[str, Any] = {}
    if patch is not None:
        content |= {kind: {"schema": _body(patch)} for kind in ("application/merge-patch+json", "application/json")}
    if json is not None:
        content["application/json"] = {"schema": _body(json)}
    if form is not None:
        content["multipart/form-data"] = {"schema": _body(form, file, most_files)}
    return {"requestBody": {"required": required, "content": content}}


def ref(model: type[BaseModel]) -> dict[str, str]:
    """A reference to the schema of `model`, which `_EXTRA` adds to the document."""
    assert model in _EXTRA, f"the document has no schema {model.__name__}"
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def answering(media_type: str, description: str = "The file.") -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that answers with bytes of this media type."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {200: {"description": description, "content": content}}


def install(app: FastAPI) -> None:
    """Make the application serve this document instead of FastAPI's."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title="pictoglot", version=VERSION, description=_DESCRIPTION, routes=app.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(_BODIES)
    for model in _EXTRA:
        schemas.update(_named(model))
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    routes = [(method.lower(), route) for route in routes_of(app) for method in route.methods or ()]
    guards = {(method, route.path): guard_of(route.endpoint) for method, route in routes}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = _REFUSED
            if path == "/metrics":
                operation["security"] = [{}, *_KEYS]  # in `local` without a key
            if path.startswith("/v1"):
                operation["security"] = _KEYS
                operation["x-scope"] = guards[method, path].scope
                for status, description in _RETRIED.items():
                    operation["responses"][status] = {**_REFUSED, **LATER, "description": description}
    return document


def routes_of(app: FastAPI) -> list[APIRoute]:
    """Every API route of the application."""
    routes = [context.route for context in iter_route_contexts(app.routes)]
    return [route for route in routes if isinstance(route, APIRoute)]


def _body(model: type[BaseModel], file: str | None = None, most_files: int = 1) -> dict[str, str]:
    """A reference to the schema of a body; a form's has the file too, or a list of them."""
    named = _named(model)
    if file is not None:
        schema = named[model.__name__]
        sent: dict[str, Any] = {"type": "string", "format": "binary"}
        if most_files > 1:
            sent = {"type": "array", "items": sent, "minItems": 1, "maxItems": most_files}
        schema["properties"] = {file: sent, **schema.get("properties", {})}
        schema["required"] = [file, *schema.get("required", [])]
    assert all(_BODIES.get(name, schema) == schema for name, schema in named.items()), "two bodies of one name"
    _BODIES.update(named)
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _named(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """The schema of `model`, and of the models that it refers to, by name."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs", {}), model.__name__: schema}
