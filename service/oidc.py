"""People sign in with an issuer of OpenID Connect: the code flow with PKCE, as `authlib` speaks it. Keeps nothing."""

import base64
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx2
from fastapi import Request, Response

from service.people import is_subject
from service.problems import SignInFailed
from service.settings import Settings

STATE_SECONDS = 600  # for which a person may be at the issuer
_SECONDS = 10.0  # for one answer of the issuer
_NAMES = ("name", "preferred_username", "email", "sub")  # the claims that may name a person, best first
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

    async def begin(self, request: Request) -> tuple[Response, str]:
        """Return the answer that leads to the issuer, and what the same browser must bring back. Raises SignInFailed.

        The second holds state, nonce and the verifier of PKCE: for a cookie that no script reads.
        """
        request.scope["session"] = {}
        with _explain():
            issuer = str((await self._client.load_server_metadata())["issuer"])
            if issuer.rstrip("/") != self._settings.oidc_issuer.rstrip("/"):
                raise ValueError("another issuer answers at PICTOGLOT_OIDC_ISSUER")
            answer: Response = await self._client.authorize_redirect(request, self._return_to)
        return answer, base64.urlsafe_b64encode(json.dumps(request.session).encode()).decode()

    async def finish(self, request: Request, brought: str) -> Person:
        """Return who came back from the issuer, with what this browser `brought`. Raises SignInFailed."""
        with _explain():
            request.scope["session"] = json.loads(base64.urlsafe_b64decode(brought) or b"{}")
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
            with _explain():
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
def _explain() -> Iterator[None]:
    """Turn what can go wrong between the issuer, the browser and this service into `SignInFailed`; log the reason."""
    from authlib.common.errors import AuthlibBaseError
    from joserfc.errors import JoseError

    try:
        yield
    except (AuthlibBaseError, JoseError, httpx2.HTTPError, ValueError, LookupError, TypeError, RuntimeError) as error:
        _log.warning("signing in failed", extra={"reason": f"{type(error).__name__}: {error}"[:500]})
        raise SignInFailed("signing in did not work") from error
