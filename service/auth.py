"""Scopes; the route class that checks who asks and how often, then reads the body; what endpoints get of it."""

from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic.fields import FieldInfo
from python_multipart.multipart import parse_options_header
from starlette.responses import Response

from service.context import Context
from service.forms import FORMS, BodyKind, read_form
from service.people import Principal
from service.problems import BodyTooLarge, MissingApiKey
from service.requests import JSON, MULTIPART, READING, parse_json
from store.audit import CURRENT, Act
from store.errors import FieldError, InsufficientScope, InvalidInput, UnsupportedMedia
from store.keys import SCOPES, Scope

_LONG_JSON = (BodyKind.SEARCHES, BodyKind.CHANGES)  # of one request: it takes its place before it is read
# bodies of what is answered from a snapshot
_SEARCHES = (BodyKind.PICTURE, BodyKind.PICTURES_IN_JSON, BodyKind.SEARCHES)

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Guard:
    """What an endpoint demands of a request; `allowed` are the scopes that include the declared one.

    Only one that `allows_bound_keys` answers a key that is bound to collections, and shows it nothing of others.
    """

    scope: Scope
    body: BodyKind
    allowed: tuple[Scope, ...]
    allows_bound_keys: bool

    def admit(self, caller: Principal) -> None:
        """Raise `InsufficientScope` unless the caller may use the endpoint; `MissingApiKey` for one without a key."""
        if caller.scope not in self.allowed:
            if caller.by == "open":
                raise MissingApiKey("send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
            raise InsufficientScope(f"this request needs the scope {self.scope}")
        if caller.collections is not None and not self.allows_bound_keys:
            raise InsufficientScope("who is bound to collections may not do this")


def require_scope(scope: Scope, body: BodyKind = BodyKind.JSON, *, allows_bound_keys: bool = False) -> Callable[[F], F]:
    """Declare the scope of an endpoint, its kind of body, and whether keys that are bound to collections may use it."""

    def declare(endpoint: F) -> F:
        endpoint.__guard__ = _make_guard(scope, body, allows_bound_keys)  # type: ignore[attr-defined]
        return endpoint

    return declare


def get_guard(endpoint: Callable[..., Any]) -> Guard:
    """Return the endpoint's declaration; without one, only admins may use it (default deny)."""
    return getattr(endpoint, "__guard__", _make_guard("admin", BodyKind.JSON))


def _make_guard(scope: Scope, body: BodyKind, allows_bound_keys: bool = False) -> Guard:
    return Guard(scope, body, SCOPES[SCOPES.index(scope) :], allows_bound_keys)


ANY_KEY = _make_guard("search", BodyKind.JSON)


class GuardedRoute(APIRoute):
    """A route that checks key, scope, rate and parameters, and then reads the body within its limits for FastAPI.

    It takes a place among requests of this kind first. The files of a form become `request.state.files`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler behind the guard."""
        handler, guard = super().get_route_handler(), get_guard(self.endpoint)
        names = frozenset(field.alias for field in self.dependant.query_params)
        read = None if self.body_field is None else _make_body_reader(self.body_field.field_info, guard.body)

        async def handle_guarded(request: Request) -> Response:
            context: Context = request.app.state.context
            principal = await context.people.identify(request)
            guard.admit(principal)
            request.state.rate = partial(context.rate.list_headers, principal.id)  # as it is when the answer begins
            context.rate.take(principal.id)
            request.state.principal = principal
            request.state.act = _describe_act(request, principal)
            CURRENT.set(request.state.act)  # none, too: a connection's requests may share a context
            _check_query(request, names)
            if read is None:
                request.state.body.allow(*context.body_limits[BodyKind.JSON])
                return await handler(request)
            _check_parameters(request, self.dependant)
            if guard.body in _SEARCHES:
                _ = context.live.current  # raises `IndexUnavailable` while nothing is served
            async with AsyncExitStack() as stack:
                await read(request, context, stack)
                return await handler(request)

        return handle_guarded


def _describe_act(request: Request, principal: Principal) -> Act | None:
    if request.method in READING:
        return None
    act = f"{request.method} {request.scope['route'].path}"
    named = [unquote(value) for value in request.path_params.values()]
    return Act(principal.id, act, principal.label, request.state.request_id, named)


def _make_body_reader(
    body_field: FieldInfo, kind: BodyKind
) -> Callable[[Request, Context, AsyncExitStack], Coroutine[Any, Any, None]]:
    """Make the function that reads a body for FastAPI; its stack gives back the place in the queue, and the file.

    The function raises `UnsupportedMedia`, and what `read_form` and `parse_json` raise.
    """
    media = getattr(body_field, "media_type", JSON)
    schema = body_field.annotation.model_json_schema()  # type: ignore[union-attr]

    async def read(request: Request, context: Context, stack: AsyncExitStack) -> None:
        request.state.files = []
        sent, options = parse_options_header(request.headers.get("content-type"))
        is_form = kind in FORMS and sent == MULTIPART.encode()
        limited = kind if is_form or kind in (*_LONG_JSON, BodyKind.PICTURES_IN_JSON) else BodyKind.JSON
        # pictures in a small body take their place when they are found
        if limited in context.admissions and (
            is_form or kind in _LONG_JSON or not 0 < request.state.body.declared <= context.settings.json_bytes
        ):
            most, *_ = context.body_limits[limited]
            stack.enter_context(context.admissions[limited].admit(min(request.state.body.declared or most, most)))
        request.state.body.allow(*context.body_limits[limited])
        # the results are put where Starlette keeps what it has read, and FastAPI finds it
        if is_form:
            boundary = options.get(b"boundary", b"")
            document = await read_form(request, kind, boundary, schema, context.settings, stack)
            request._body = document  # type: ignore[assignment]
        elif sent or body_field.is_required() or await request.body():
            charset = options.get(b"charset", b"utf-8").lower()
            if media == MULTIPART or sent.decode("latin-1") not in (media, JSON) or charset not in (b"utf-8", b"utf8"):
                kinds = " or ".join(dict.fromkeys((media, JSON)))
                raise UnsupportedMedia(f"send {MULTIPART}" if media == MULTIPART else f"send {kinds} in UTF-8")
            data = await request.body()
            if kind is BodyKind.PICTURES_IN_JSON:
                _refuse_many_values(data, context.settings.json_bytes)
            request._json = parse_json(data)

    return read


def _refuse_many_values(data: bytes, most: int) -> None:
    """Refuse a body with room for pictures that has more values than one without: they would take seconds to parse."""
    if len(data) > most and sum(data.count(mark) for mark in (b"[", b"{", b",")) > most:
        raise BodyTooLarge(f"besides pictures, a body may have at most {most} bytes")


def _check_query(request: Request, known: frozenset[str]) -> None:
    """Raise `InvalidInput` for a parameter not in `known` (without repeating its name) and for a duplicate one."""
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name not in known:
            raise InvalidInput("unknown query parameter", errors=(FieldError("query", "extra_forbidden"),))
        if name in seen:
            place = FieldError(f"query.{name}", "duplicate_key")
            raise InvalidInput(f"parameter `{name}` given more than once", errors=(place,))
        seen.add(name)


def _check_parameters(request: Request, dependant: Dependant) -> None:
    """Raise `RequestValidationError` for what FastAPI would refuse, once it has the body, in path, query, headers.

    A query that is empty is left to FastAPI: none of a request with a body is required.
    """
    groups = [
        (dependant.path_params, request.path_params),
        (dependant.query_params, request.query_params),
        (dependant.header_params, request.headers),
    ]
    faults = [fault for fields, sent in groups if fields and sent for fault in request_params_to_args(fields, sent)[1]]
    if faults:
        raise RequestValidationError(faults)


async def get_context(request: Request) -> Context:
    """Return the context that served when `request` came; async, or FastAPI would take a thread for it."""
    context: Context = request.state.context
    return context


async def get_principal(request: Request) -> Principal:
    """Return who sent the request, as the route's guard identified them."""
    principal: Principal = request.state.principal
    return principal


AppContext = Annotated[Context, Depends(get_context)]
Caller = Annotated[Principal, Depends(get_principal)]
