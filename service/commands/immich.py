"""`immich` answers Immich's machine-learning requests by a running pictoglot; `immich check` compares both services."""

import base64
import io
import json
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import httpx
import typer

from client.api import is_proxied
from client.terminal import (
    FAILED,
    REFUSED,
    JsonCommand,
    answer,
    load_client_settings,
    note,
    note_address_file,
    open_service,
    print_table,
    read_answer,
    say,
    stop,
)

if TYPE_CHECKING:
    from service.immich import AdapterSettings

immich = typer.Typer(
    help="Answer Immich's searches in the languages that were taught, over the vectors that it has already.",
    invoke_without_command=True,
)
LEAST_COSINE = 0.999
_LISTEN = "127.0.0.1:3003"
_IDLE_SECONDS = 75  # for which a connection stays open; clients, which close theirs after 4 s, may be held up
_SECONDS = 600.0  # Immich's service loads a model first, and may fetch it
_TEXTS = (
    *("a dog", "two children on a beach", "red flowers", "a mountain in the snow", "a plate of food"),
    *("an old car", "a birthday cake with candles", "people at a wedding"),
)


@immich.callback()
def serve(
    context: typer.Context,
    listen: Annotated[str, typer.Option(help="HOST:PORT")] = _LISTEN,
    upstream: Annotated[
        str | None, typer.Option(help="Immich's own machine-learning service, for all other tasks.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model that Immich uses: its texts are read here.")] = None,
    pictures: Annotated[
        Literal["upstream", "here"],
        typer.Option(help="Who encodes pictures. `here`: with any base, and Immich has to encode all anew."),
    ] = "upstream",
    language: Annotated[
        str, typer.Option(help="`hint`: by the text, else of Immich's pages, if taught; `auto`: by the text; or a tag.")
    ] = "hint",
    dimension: Annotated[
        int | None, typer.Option(min=1, help="Numbers of the vectors that Immich stores, if the base has fewer.")
    ] = None,
) -> None:
    """Serve until Ctrl-C; address and key of the service come from PICTOGLOT_URL and PICTOGLOT_KEY."""
    from service.immich import AdapterSettings, create_app  # late: help needs no server
    from store import logs

    service = load_client_settings()
    upstream, model = upstream or service.immich_upstream or None, model or service.immich_model or None
    if upstream is not None and not upstream.startswith(("http://", "https://")):
        stop(f"--upstream {upstream} must be a complete address (http://HOST:PORT).", REFUSED)
    settings = AdapterSettings(service.address, service.key, upstream, model, pictures, language, dimension)
    if context.invoked_subcommand is not None:
        context.obj = settings
        return
    import uvicorn

    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        stop(f"--listen {listen} must be HOST:PORT, such as {_LISTEN}.", REFUSED)
    logs.configure("warning")
    note_address_file(service)
    say(f"Immich's requests are answered on http://{listen}, by {settings.address}.")
    if upstream is None:
        say("Without --upstream, only searches are answered: no faces, no texts in pictures.")
    uvicorn.run(
        create_app(settings),
        host=host.strip("[]"),
        port=int(port),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_IDLE_SECONDS,
    )


@immich.command("check", cls=JsonCommand)
def check(context: typer.Context) -> None:
    """Compare texts and pictures of both services, before first use; options stand before `check`.

    Exits with 1 where they differ: then Immich would find nothing.
    """
    settings: AdapterSettings = context.obj
    if settings.upstream is None or settings.model is None:
        stop("Name Immich's own service with --upstream and its model with --model, before `check`.", REFUSED)
    with open_service() as service:
        try:
            found = compare(settings.upstream, settings.model, service)
        except ComparisonError as error:
            stop(str(error))
    least = min(cosine for _, cosine in found)
    is_same = least >= LEAST_COSINE
    items = [{"asked": asked, "cosine": cosine} for asked, cosine in found]
    answer({"least_cosine": least, "needed": LEAST_COSINE, "same": is_same, "items": items})
    print_table(("asked", "cosine"), [(asked, f"{cosine:.6f}") for asked, cosine in found], ("cosine",))
    _explain(settings, least, is_same)
    if not is_same:
        raise SystemExit(FAILED)


class ComparisonError(Exception):
    """The sentence says why both services cannot be compared."""


def compare(upstream: str, model: str, service: httpx.Client) -> list[tuple[str, float]]:
    """Return each text and picture with the cosine of what both services make of it.

    Raises ComparisonError, and of ours what httpx does.
    """
    asked: list[tuple[str, str | bytes]] = [*((text, text) for text in _TEXTS), *_draw_pictures()]
    return [
        (name, _compute_cosine(_ask_upstream(upstream, model, content), _ask_service(service, content)))
        for name, content in asked
    ]


def _explain(settings: "AdapterSettings", least: float, is_same: bool) -> None:
    if is_same:
        say(f"Both read alike: the least cosine is {least:.6f}. In Immich, Administration, Machine Learning:")
        say(f"  URL         http://HOST:{_LISTEN.rpartition(':')[2]}, first; Immich's own address may stay second")
        say(f"  CLIP model  {settings.model}, as it is")
    else:
        note(f"The least cosine is {least:.4f}, {LEAST_COSINE} is needed: this base is not Immich's {settings.model}.")
        note("Start pictoglot with that model (PICTOGLOT_BASE), or let it encode the pictures, too (--pictures here).")


def _ask_upstream(upstream: str, model: str, content: str | bytes) -> list[float]:
    kind = "textual" if isinstance(content, str) else "visual"
    form: dict[str, Any] = {"entries": (None, json.dumps({"clip": {kind: {"modelName": model}}}))}
    form |= (
        {"text": (None, content)}
        if isinstance(content, str)
        else {"image": ("blob", content, "application/octet-stream")}
    )
    url = f"{upstream.rstrip('/')}/predict"
    try:
        answer = httpx.post(url, files=form, timeout=_SECONDS, trust_env=is_proxied(upstream))
        return [float(value) for value in json.loads(answer.raise_for_status().json()["clip"])]
    except httpx.HTTPError as error:
        raise ComparisonError(f"{url} does not answer: {str(error) or type(error).__name__}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ComparisonError(f"{url} answers otherwise than Immich's machine-learning service does.") from error


def _ask_service(service: httpx.Client, content: str | bytes) -> list[float]:
    text = content if isinstance(content, str) else f"data:image/png;base64,{base64.b64encode(content).decode()}"
    answer = read_answer(service.post("/v1/embeddings", json={"input": text, "language": "en"}))
    return [float(value) for value in answer["data"][0]["embedding"]]


def _draw_pictures() -> Iterator[tuple[str, bytes]]:
    from PIL import Image

    for name, picture in {"a gradient": Image.linear_gradient("L"), "a disc": Image.radial_gradient("L")}.items():
        picture.convert("RGB").save(file := io.BytesIO(), "PNG")
        yield name, file.getvalue()


def _compute_cosine(one: Sequence[float], other: Sequence[float]) -> float:
    if len(one) != len(other):
        sizes = f"Immich's model has {len(one)} dimensions and this base {len(other)}"
        raise ComparisonError(f"{sizes}: it is another model.")
    norm = math.hypot(*one) * math.hypot(*other)
    return sum(x * y for x, y in zip(one, other, strict=True)) / norm if norm else 0.0
