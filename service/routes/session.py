"""Who uses this browser: signing in with an issuer of OpenID Connect, remembering a key, signing out.

The issuer is spoken to by `authlib`: the code flow with PKCE.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import httpx2
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from service.auth import AppContext
from service.batching import AdmissionLimit
from service.context import Context
from service.people import LOOPBACK_COOKIE, SECURE_COOKIE, Principal, is_subject
from service.problems import InvalidApiKey, MissingApiKey, SignInFailed
from service.schemas import admin as schemas
from service.settings import Settings
from store.audit import CURRENT, Act
from store.errors import InsufficientScope, NotFound, PictoglotError, Unavailable

router = APIRouter(tags=["people"])
_FAILED = "#sign-in-failed"  # where the page says so
_STATE = "signin"  # what a signed cookie is for
_STATE_SECONDS = 600  # for which a person may be at the issuer
_SECONDS = 10.0  # for one answer of the issuer
_NAMES = ("name", "preferred_username", "email", "sub")  # the claims that may name a person, best first
_ASKING = 16  # requests that ask the issuer at once
_FAULTS = (Unavailable, ValueError, LookupError, TypeError, RuntimeError)
_log = logging.getLogger("pictoglot.signin")


@dataclass(frozen=True)
class Person:
    """Who begins a session: `oidc:SUBJECT` with the groups of the issuer, or `key:ID`; called by the `label`."""

    subject: str
    label: str
    groups: tuple[str, ...] = ()


class Provider:
    """The issuer of the settings. It is asked for its addresses and keys when the first person signs in."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._return_to = f"{settings.public_url}/signin/callback"
        self._asking = AdmissionLimit(_ASKING, "people are signing in")  # anybody makes us ask the issuer

    async def begin(self, request: Request) -> tuple[Response, Any]:
        """Return the answer that leads to the issuer, and what the same browser must bring back. Raises SignInFailed.

        The second holds state, nonce and the verifier of PKCE: for a cookie that no script reads.
        """
        request.scope["session"] = {}
        with _explain(self._asking):
            issuer = str((await self._client.load_server_metadata())["issuer"])
            if issuer.rstrip("/") != self._settings.oidc_issuer.rstrip("/"):
                raise ValueError("another issuer answers at PICTOGLOT_OIDC_ISSUER")
            answer: Response = await self._client.authorize_redirect(request, self._return_to)
        return answer, request.session

    async def finish(self, request: Request, brought: Any) -> Person:
        """Return who came back from the issuer, with what this browser `brought`. Raises SignInFailed."""
        request.scope["session"] = brought
        with _explain(self._asking):
            token = await self._client.authorize_access_token(request)  # compares state, nonce, issuer, signature
            claims: dict[str, Any] = {**token["userinfo"]}
            claim, metadata = self._settings.oidc_groups_claim, self._client.server_metadata
            if claim not in claims and "userinfo_endpoint" in metadata:
                more = await self._client.userinfo(token=token)
                claims = {**(more if more.get("sub") == claims["sub"] else {}), **claims}
            groups = claims.get(claim) or []
            label = next(str(claims[name]) for name in _NAMES if is_subject(claims.get(name)))
            if not is_subject(claims["sub"]):
                raise ValueError("the subject is no text, or too long")
        return Person(f"oidc:{claims['sub']}", label, tuple(map(str, [groups] if isinstance(groups, str) else groups)))

    async def find_way_out(self) -> str | None:
        """Return the address where a person signs out with the issuer, too; None where it has none, or is away."""
        try:
            with _explain(self._asking):
                if "end_session_endpoint" not in await self._client.load_server_metadata():
                    return None
                back = {
                    "post_logout_redirect_uri": f"{self._settings.public_url}/",
                    "client_id": self._client.client_id,
                }
                return str((await self._client.create_logout_url(**back))["url"])
        except SignInFailed:
            return None

    @cached_property
    def _client(self) -> Any:
        from authlib.integrations.starlette_client import OAuth  # late: few services need it

        settings = self._settings
        return OAuth().register(
            "oidc",
            client_id=settings.oidc_client_id,
            client_secret=settings.oidc_client_secret or None,
            server_metadata_url=f"{settings.oidc_issuer.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={
                "scope": settings.oidc_scopes,
                "code_challenge_method": "S256",
                "timeout": _SECONDS,
                **({} if settings.oidc_client_secret else {"token_endpoint_auth_method": "none"}),
            },
        )


@contextmanager
def _explain(asking: AdmissionLimit) -> Iterator[None]:
    """Turn what can go wrong between the issuer, the browser and this service into `SignInFailed`; log the reason.

    Also that too many others are `asking` the issuer.
    """
    from authlib.common.errors import AuthlibBaseError
    from joserfc.errors import JoseError

    try:
        with asking.admit():
            yield
    except (AuthlibBaseError, JoseError, httpx2.HTTPError, *_FAULTS) as error:
        _log.warning("signing in failed", extra={"reason": f"{type(error).__name__}: {error}"[:500]})
        raise SignInFailed("signing in did not work") from error


@router.get("/session", name="describe_caller")
async def describe_caller(request: Request, response: Response, context: AppContext) -> schemas.CallerStatus:
    """Tell who sends this: by a key, a proxy or a session, and what that allows. Needs no key."""
    response.headers["Cache-Control"] = "no-store"
    try:
        return _describe(await context.people.find(request), context)
    except (InvalidApiKey, InsufficientScope) as error:
        return schemas.CallerStatus(refused=error.code, sign_in=_find_way_in(context))


@router.post("/session", name="remember_key")
async def remember_key(request: Request, response: Response, context: AppContext) -> schemas.CallerStatus:
    """Let this browser remember the key that comes with this, in a cookie that no script can read."""
    caller = await context.people.identify(request)
    if caller.by != "key":
        raise MissingApiKey("send the key that this browser is to remember")
    context.people.require_own_page(request)
    context.rate.take(caller.id)
    context.sign_ins.take(caller.id)
    await _begin(
        request, response, context, Person(f"key:{caller.id}", caller.label), context.settings.remembered_seconds
    )
    return _describe(replace(caller, by="session"), context)


@router.delete("/session", status_code=204, response_class=Response, name="sign_out")
async def sign_out(request: Request, response: Response, context: AppContext) -> None:
    """End the session of this browser; without one, nothing happens."""
    if (session := await context.people.find_session(request)) is not None:
        CURRENT.set(_make_act(request, session.subject, session.label))
        await run_in_threadpool(context.registry.sessions.end, session.id)
        context.people.keyring.revoke(session.id)
    for name in (SECURE_COOKIE, LOOPBACK_COOKIE):
        _set_cookie(response, name, "", 0)


@router.get("/signin", include_in_schema=False)
async def begin_sign_in(request: Request, context: AppContext) -> Response:
    """Lead a person to the issuer."""
    try:
        answer, state = await _require_provider(request).begin(request)
    except SignInFailed:
        return _lead(context, _FAILED)
    signed = context.cursors.write_place(_STATE, state)  # otherwise anybody could make one
    _set_cookie(answer, _name_state(request, context), signed, _STATE_SECONDS)
    return answer


@router.get("/signin/callback", include_in_schema=False)
async def finish_sign_in(request: Request, context: AppContext) -> Response:
    """Take who comes back from the issuer, and begin the session."""
    provider, name = _require_provider(request), _name_state(request, context)
    try:
        brought = context.cursors.read_place(_STATE, request.cookies.get(name, ""))
        person, answer = await provider.finish(request, brought), _lead(context)
        await _begin(request, answer, context, person, context.settings.session_seconds)
    except PictoglotError:
        answer = _lead(context, _FAILED)
    _set_cookie(answer, name, "", 0)
    return answer


@router.get("/signout", include_in_schema=False)
async def leave(request: Request, context: AppContext) -> Response:
    """Lead a person who has signed out here to where that is done with the issuer, or back to the page."""
    provider: Provider | None = request.app.state.provider
    away = await provider.find_way_out() if provider else None
    return RedirectResponse(away, 303) if away else _lead(context)


def _require_provider(request: Request) -> Provider:
    if (provider := request.app.state.provider) is None:
        raise NotFound("no such path")
    return provider  # type: ignore[no-any-return]


async def _begin(request: Request, answer: Response, context: Context, person: Person, seconds: float) -> None:
    CURRENT.set(_make_act(request, person.subject, person.label))
    begin, salt = context.registry.sessions.begin, context.people.salt(person.subject)
    plain = await run_in_threadpool(begin, person.subject, person.label, person.groups, seconds, salt)
    _set_cookie(answer, context.people.choose_cookie(request), plain, int(seconds))


def _describe(caller: Principal, context: Context) -> schemas.CallerStatus:
    bound = None if caller.collections is None else sorted(caller.collections)
    who = {name: getattr(caller, name) for name in ("by", "id", "label", "scope")}
    return schemas.CallerStatus(**who, collections=bound, sign_in=_find_way_in(context))


def _find_way_in(context: Context) -> str | None:
    return f"{context.settings.public_url}/signin" if context.settings.oidc_issuer else None


def _make_act(request: Request, subject: str, label: str) -> Act:
    act = f"{request.method} {request.scope['route'].path}"
    return Act(subject.removeprefix("key:"), act, label, request.state.request_id)


def _set_cookie(answer: Response, name: str, value: str, seconds: int) -> None:
    """Set a cookie that no script and no other site's form gets; one of no seconds is taken away."""
    is_secure = name.startswith("__Host-")
    answer.set_cookie(name, value, max_age=seconds, secure=is_secure, httponly=True, samesite="lax")
    answer.headers["Cache-Control"] = "no-store"


def _name_state(request: Request, context: Context) -> str:
    return f"{context.people.choose_cookie(request)}-signin"


def _lead(context: Context, part: str = "") -> Response:
    return RedirectResponse(f"{context.settings.public_url}/{part}", 303)
