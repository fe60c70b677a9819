"""The OpenAPI document, with forms, errors and keys, which are read without FastAPI's help."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from service.auth import get_guard
from service.forms import FORMS, Form, list_types
from service.problems import list_routes
from service.requests import JSON, MERGE_PATCH, MULTIPART
from service.schemas import Problem
from service.schemas.admin import NotReady

VERSION = "1"
_EXTRA: tuple[type[BaseModel], ...] = (Problem, NotReady)  # schemas that FastAPI does not see
_FORMS = {  # of routes that take JSON too
    "PictureSearch": "SimilarPictures",
    "CaptionSearch": "CaptionsOfUpload",
    "EmbeddingsRequest": "PictureEmbedding",
}
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


def make_reference(model: type[BaseModel]) -> dict[str, str]:
    """Make a reference to the schema of `model`, which `_EXTRA` adds to the document."""
    assert model in _EXTRA, f"the document has no schema {model.__name__}"
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def describe_file(*media_types: str, description: str = "The file.") -> dict[int | str, dict[str, Any]]:
    """Make the `responses` of a route that answers with bytes of one of these media types."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in media_types}
    return {200: {"description": description, "content": content}}


def install(app: FastAPI) -> None:
    """Make the application serve this document instead of FastAPI's."""

    def get_document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build_document(app)
        return app.openapi_schema

    app.openapi = get_document  # type: ignore[method-assign]


def _build_document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title="pictoglot", version=VERSION, description=_DESCRIPTION, routes=app.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in _EXTRA:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= {**schema.pop("$defs", {}), model.__name__: schema}
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    routes = [(method.lower(), route) for route in list_routes(app) for method in route.methods or ()]
    guards = {(method, route.path): get_guard(route.endpoint) for method, route in routes}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = _REFUSED
            if path == "/metrics":
                operation["security"] = [{}, *_KEYS]  # in `local` without a key
            content = operation.get("requestBody", {}).get("content", {})
            if content and (form := FORMS.get(guards[method, path].body)):
                _describe_form(content, form, schemas)
            if MERGE_PATCH in content:
                content[JSON] = content[MERGE_PATCH]
            if path.startswith("/v1"):
                operation["security"] = _KEYS
                operation["x-scope"] = guards[method, path].scope
                for status, description in _RETRIED.items():
                    operation["responses"][status] = {**_REFUSED, **LATER, "description": description}
    return document


def _describe_form(content: dict[str, Any], form: Form, schemas: dict[str, Any]) -> None:
    """Add the form with the fields of a route's model: beside them its file, in place of what only JSON has."""
    (model,) = (taken["schema"]["$ref"].rpartition("/")[2] for taken in content.values())
    name, schema = _FORMS.get(model, model), schemas[model]
    file: dict[str, Any] = {"type": "string", "format": "binary"}
    if form.most_files > 1:
        file = {"type": "array", "items": file, "minItems": 1, "maxItems": form.most_files}
    fields = {key: value for key, value in schema["properties"].items() if key not in ("input", form.file)}
    for key, field in fields.items():
        if "object" in list_types(field):  # JSON in a text
            described = f"JSON. {field.get('description', '')}".strip()
            fields[key] = {"type": "string", "title": key.capitalize(), "description": described}
    required = [*([] if form.instead else [form.file]), *(key for key in schema.get("required", ()) if key in fields)]
    schemas[name] = {**schema, "title": name, "properties": {form.file: file, **fields}, "required": required}
    content[MULTIPART] = {"schema": {"$ref": f"#/components/schemas/{name}"}}
