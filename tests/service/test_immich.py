"""Immich's machine-learning requests: answered here or sent on, by a real service, from a client as Immich's is."""

import base64
import contextlib
import io
import json
import logging
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from numpy.typing import NDArray
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from typer.testing import CliRunner

from client.commands import app as command_line
from service.commands.doctor import Checkup
from service.immich import MAX_BODY, AdapterSettings, create_app
from service.settings import Settings
from tests.doubles import make_picture_vector, make_text_vector
from tests.patience import PATIENCE
from tests.service.harness import ADMIN_KEY, Service, motif, picture, running, wait_until

MODEL = "ViT-B-32__openai"
OTHER = {"facial-recognition": {"detection": {"modelName": "buffalo_l", "options": {"minScore": 0.7}}}}
# As Immich's server sends it: Node's own fetch and FormData.
NODE = """
const [url, asked] = [process.argv[1], JSON.parse(process.argv[2])];
const answers = [];
for (const {entries, text, image} of asked) {
  const form = new FormData();
  form.append("entries", JSON.stringify(entries));
  if (image) form.append("image", new Blob([Buffer.from(image, "base64")]));
  if (text) form.append("text", text);
  const answer = await fetch(new URL("/predict", url), {method: "POST", body: form});
  answers.push({status: answer.status, body: await answer.json()});
}
console.log(JSON.stringify(answers));
"""


class Upstream:
    """A stub of Immich's own service: says what it was asked, and answers as it should."""

    def __init__(self) -> None:
        self.bodies, self.entries, self.status = list[bytes](), list[dict[str, Any]](), 200
        self.clip: dict[str, Any] = {}  # what it answers for a text or a picture, by "textual" and "visual"

    async def answer(self, request: Request) -> Response:
        self.bodies.append(await request.body())
        async with request.form() as form:
            self.entries.append(entries := json.loads(str(form["entries"])))
            answer: dict[str, Any] = {task: {"from": "upstream"} for task in entries}
            for kind in entries.get("clip", {}):
                answer["clip"] = json.dumps(self.clip[kind](form) if self.clip else [1.0])
            return JSONResponse(answer, self.status)


@contextlib.contextmanager
def serve(app: Starlette) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(PATIENCE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("home")) as service:
        for tag in ("de", "pt"):
            service.learn(tag)
        service.put("a", en=["a dog on the road", "a red apple"]).raise_for_status()
        service.context.live.refresh()
        yield service


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


class Adapters:
    """Starts an adapter for each set of settings, beside one upstream, and asks it in a form as httpx sends it."""

    def __init__(self, service: Service, upstream: Upstream, stack: contextlib.ExitStack) -> None:
        self._service, self._stack, self._started = service, stack, dict[Any, str]()
        pong = Route("/ping", lambda _: Response("pong"))
        stub = Starlette(routes=[pong, Route("/predict", upstream.answer, methods=["POST"])])
        self.upstream = stack.enter_context(serve(stub))

    def start(self, **settings: Any) -> str:
        given = {"address": self._service.url, "key": ADMIN_KEY, "upstream": self.upstream, "model": MODEL, **settings}
        if (key := tuple(given.items())) not in self._started:
            self._started[key] = self._stack.enter_context(serve(create_app(AdapterSettings(**given))))
        return self._started[key]

    def __call__(
        self, entries: object, text: str | None = None, image: bytes | None = None, name: str = "blob", **settings: Any
    ) -> httpx.Response:
        form: dict[str, Any] = {"entries": (None, entries if isinstance(entries, str) else json.dumps(entries))}
        form |= {} if text is None else {"text": (None, text)}
        form |= {} if image is None else {"image": (name, image, "application/octet-stream")}
        return httpx.post(f"{self.start(**settings)}/predict", files=form, timeout=PATIENCE)


@pytest.fixture
def ask(site: Service, upstream: Upstream) -> Iterator[Adapters]:
    with contextlib.ExitStack() as stack:
        yield Adapters(site, upstream, stack)


def make_textual(language: str | None = None, model: str = MODEL) -> dict[str, Any]:
    options = {} if language is None else {"options": {"language": language}}
    return {"clip": {"textual": {"modelName": model, **options}}}


def make_visual(model: str = MODEL) -> dict[str, Any]:
    return {"clip": {"visual": {"modelName": model}}}


def read(answer: httpx.Response) -> NDArray[np.float32]:
    assert answer.status_code == 200, answer.text
    assert isinstance(answer.json()["clip"], str)
    return np.array(json.loads(answer.json()["clip"]), dtype=np.float32)


def test_a_text_tells_its_language_else_the_hint_does_equal_to_the_bit(ask: Adapters, site: Service) -> None:
    for hint, version in {"de": 1, "de_AT": 1, "pt-BR": 2, "de-null": 1}.items():
        for text in ("Hund", "zq xq"):  # one word, and two that no language has
            assert np.array_equal(read(ask(make_textual(hint), text)), make_text_vector(version, text)), hint
    alone = site.admin.post("/v1/embeddings", json={"input": "ein roter Apfel"}).json()
    for other in ("dev", "en", "en-US", "fr", None):
        mine = read(ask(make_textual(other), "ein roter Apfel"))
        assert np.array_equal(mine, np.array(alone["data"][0]["embedding"], dtype=np.float32)), other
    english = "a dog on the road"
    assert np.array_equal(read(ask(make_textual("de"), english)), make_text_vector(0, english))
    assert np.array_equal(read(ask(make_textual("de"), english, language="pt")), make_text_vector(2, english))
    own = ask(make_textual("de", "pictoglot/ViT-B-16__other"), "Hund", dimension=600)
    assert np.array_equal(read(own)[: len(make_text_vector(1, "x"))], make_text_vector(1, "Hund"))
    assert len(read(own)) == 600 and not read(own)[len(make_text_vector(1, "x")) :].any()


def test_other_tasks_pictures_and_models_go_on_byte_for_byte_and_mixed_ones_are_joined(
    ask: Adapters, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for entries, text, image in (
        (OTHER, None, picture(1)),
        (make_visual(), None, picture(2)),
        (make_textual(model="SigLIP__x"), "x", None),
    ):
        assert ask(entries, text, image).json()[next(iter(entries))]
        assert (image or b"x") in upstream.bodies[-1] and upstream.entries[-1] == entries
    assert ask(make_textual(model="SigLIP__x"), "y").status_code == 200
    assert [line.message for line in caplog.records if line.name == "service.immich"] == [
        "Immich asks for the model SigLIP__x, which is not ours: its texts go on to the upstream"
    ], "once a minute"
    mixed = ask({**OTHER, **make_visual()}, image=picture(3, format="JPEG"), pictures="here")
    assert np.allclose(read(mixed), make_picture_vector(motif(3)), atol=0.05)
    assert upstream.entries[-1] == OTHER and mixed.json()["facial-recognition"] == {"from": "upstream"}
    assert (mixed.json()["imageHeight"], mixed.json()["imageWidth"]) == (48, 48)
    opencloud = ask(make_visual(), image=picture(3), name="image", pictures="here", dimension=512)
    assert len(read(opencloud)) == 512
    upstream.status = 500
    assert ask(OTHER, image=picture(1)).status_code == 500


def test_what_cannot_be_answered_has_the_statuses_of_the_stock_service(ask: Adapters) -> None:
    assert ask("{", "x").status_code == ask("[]", "x").status_code == ask({"clip": 1}, "x").status_code == 422
    assert ask(make_textual()).status_code == 400
    Image.new("P", (8, 8)).save(gif := io.BytesIO(), "GIF")  # the service decodes none, so its head is not read either
    sent = (b"no picture", gif.getvalue())
    assert [ask(make_visual(), image=each, pictures="here").status_code for each in sent] == [400, 400]
    assert ask(OTHER, image=picture(1), upstream=None).status_code == 501
    assert ask({**OTHER, **make_textual()}, "x", picture(1), upstream=None).status_code == 501
    assert ask(make_textual(), "x", bytes(MAX_BODY)).status_code == 413
    assert httpx.get(ask.start()).json() == {"message": "Immich ML"}


def test_while_the_service_is_away_ping_says_so_and_the_upstream_answers(ask: Adapters, upstream: Upstream) -> None:
    upstream.clip = {"textual": lambda form: [0.5]}
    gone: dict[str, Any] = {"address": "http://127.0.0.1:9"}
    assert httpx.get(f"{ask.start()}/ping").text == "pong"
    assert httpx.get(f"{ask.start(**gone)}/ping").status_code == 503
    assert ask(make_textual("de"), "ein Hund", **gone).json() == {"clip": "[0.5]"}
    assert ask(make_textual("de"), "ein Hund", **gone, upstream=None).status_code == 503
    assert ask(make_textual("de"), " ").json() == {"clip": "[0.5]"}, "refused here, so read there"


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_a_client_in_nodes_own_fetch_is_answered(ask: Adapters) -> None:
    photo = base64.b64encode(picture(4)).decode()
    asked = [
        {"entries": make_textual("de"), "text": "Hund"},
        {"entries": {**make_visual(), **OTHER}, "image": photo},
    ]
    command = ["node", "--input-type=module", "-e", NODE, ask.start(pictures="here"), json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    text, image = json.loads(done.stdout)
    assert np.array_equal(np.array(json.loads(text["body"]["clip"]), dtype=np.float32), make_text_vector(1, "Hund"))
    assert image["status"] == 200 and {*image["body"]} == {"clip", "imageHeight", "imageWidth", "facial-recognition"}


def test_check_compares_both_services_and_says_what_to_paste(
    ask: Adapters, site: Service, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PICTOGLOT_URL", site.url)
    monkeypatch.setenv("PICTOGLOT_KEY", ADMIN_KEY)

    def embed(content: Any) -> list[float]:
        answer = site.admin.post("/v1/embeddings", json={"input": content, "language": "en"})
        return list(answer.json()["data"][0]["embedding"])

    noise = [0.0]
    upstream.clip = {
        "textual": lambda form: [value + noise[0] for value in embed(str(form["text"]))],
        "visual": lambda form: make_picture(form, site),
    }
    given = ["immich", "--upstream", ask.upstream, "--model", MODEL, "check"]
    same = CliRunner().invoke(command_line, given)
    assert same.exit_code == 0, same.output
    assert "the least cosine is 1.000000" in same.output and f"CLIP model  {MODEL}" in same.output
    assert ask.upstream not in same.output  # Immich may see it under another address
    assert ask_the_doctor(monkeypatch, IMMICH_UPSTREAM=ask.upstream) == ("ok", f"{ask.upstream} answers")
    outcome, detail = ask_the_doctor(monkeypatch, IMMICH_MODEL=MODEL)
    assert outcome == "ok" and detail.endswith("the least cosine of both is 1.0000, 0.999 is needed")
    noise[0] = 0.1
    assert ask_the_doctor(monkeypatch)[0] == "bad"
    other = CliRunner().invoke(command_line, [*given, "--json"])
    assert other.exit_code == 1 and not json.loads(other.stdout)["same"]
    away = "http://127.0.0.1:9"
    assert ask_the_doctor(monkeypatch, IMMICH_UPSTREAM=away)[1].startswith(f"{away} does not answer: ")
    monkeypatch.delenv("PICTOGLOT_IMMICH_UPSTREAM")
    assert CliRunner().invoke(command_line, ["immich", "check"]).exit_code == 2


def ask_the_doctor(monkeypatch: pytest.MonkeyPatch, **settings: str) -> tuple[str, str]:
    """Return what it finds, from now on with these settings, too."""
    for name, value in settings.items():
        monkeypatch.setenv(f"PICTOGLOT_{name}", value)
    checkup = Checkup(Settings())
    assert checkup.check("service") is not None
    found = checkup.check("immich")
    assert found is not None
    return found.outcome, found.detail


def make_picture(form: Any, site: Service) -> list[float]:
    answer = site.admin.post("/v1/embeddings", files={"picture": ("x", form["image"].file.read())})
    return list(answer.json()["data"][0]["embedding"])
