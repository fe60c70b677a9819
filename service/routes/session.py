"""Who uses this browser: signing in with an issuer, remembering a key, signing out."""

from dataclasses import replace

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from service.auth import AppContext
from service.context import Context
from service.oidc import STATE_SECONDS, Person
from service.people import LOOPBACK_COOKIE, SECURE_COOKIE, Principal
from service.problems import InvalidApiKey, MissingApiKey, SignInFailed
from service.schemas import admin as schemas
from store.audit import CURRENT, Act
from store.errors import InsufficientScope, NotFound, PictoglotError

router = APIRouter(tags=["people"])
_FAILED = "#sign-in-failed"  # where the page says so


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
    if context.provider is None:
        raise NotFound("no such path")
    try:
        answer, state = await context.provider.begin(request)
    except SignInFailed:
        return _lead(context, _FAILED)
    _set_cookie(answer, _name_state(request, context), state, STATE_SECONDS)
    return answer


@router.get("/signin/callback", include_in_schema=False)
async def finish_sign_in(request: Request, context: AppContext) -> Response:
    """Take who comes back from the issuer, and begin the session."""
    if context.provider is None:
        raise NotFound("no such path")
    name = _name_state(request, context)
    try:
        person, answer = await context.provider.finish(request, request.cookies.get(name, "")), _lead(context)
        await _begin(request, answer, context, person, context.settings.session_seconds)
    except PictoglotError:
        answer = _lead(context, _FAILED)
    _set_cookie(answer, name, "", 0)
    return answer


@router.get("/signout", include_in_schema=False)
async def leave(context: AppContext) -> Response:
    """Lead a person who has signed out here to where that is done with the issuer, or back to the page."""
    away = await context.provider.find_way_out() if context.provider else None
    return RedirectResponse(away, 303) if away else _lead(context)


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
    return f"{context.settings.public_url}/signin" if context.provider else None


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
