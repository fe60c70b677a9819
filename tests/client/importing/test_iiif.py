"""A IIIF Presentation 3 manifest over a real HTTP server: what is read of it, and the bounds of fetching."""

import json
import socket
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from client.importing import Item, SkippedPart, SourceError, SourceRecord, UnreadableError, iiif
from client.importing.iiif import IiifManifest
from tests.client.test_commands import run, run_json
from tests.http_server import QuietHandler, serve
from tests.service.harness import picture, running


class Site:
    """What a server answers by path: bytes, or the path that it leads on to. `asked` and `hosts` are what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | str] = {}
        self.asked: list[str] = []
        self.hosts: list[str] = []
        site = self

        class Handler(QuietHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                site.hosts.append(self.headers["Host"])
                answer = site.answers.get(self.path)
                self.send_response(404 if answer is None else 302 if isinstance(answer, str) else 200)
                if isinstance(answer, str):
                    self.send_header("Location", answer)
                self.end_headers()
                if isinstance(answer, bytes):
                    self.wfile.write(answer)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    with serve(site.server):
        yield site


def make_canvas(url: str, number: int, body: dict[str, Any], **more: Any) -> dict[str, Any]:
    annotation = {"type": "Annotation", "motivation": "painting", "body": body}
    return {
        "id": f"{url}/book/canvas/{number}",
        "type": "Canvas",
        "items": [{"type": "AnnotationPage", "items": [annotation]}],
        **more,
    }


def make_manifest(url: str) -> dict[str, Any]:
    """Return two pages of a book in two languages; the second one comes from an image service."""
    image = {"type": "Image", "format": "image/png"}
    large = {
        "id": f"{url}/large.png",
        "width": 8000,
        "height": 4000,
        "service": [{"id": f"{url}/large", "type": "ImageService3"}],
    }
    return {
        "@context": "http://iiif.io/api/presentation/3/context.json",
        "id": f"{url}/book/manifest",
        "type": "Manifest",
        "label": {"de": ["Ein Buch"], "cy": ["Llyfr"]},
        "summary": {"en": ["<p>Old &amp; <b>rare</b></p>"]},
        "metadata": [{"label": {"en": ["Date"], "de": ["Datum"]}, "value": {"none": ["1650"]}}],
        "provider": [{"type": "Agent", "label": {"en": ["A Library"]}}],
        "items": [
            make_canvas(url, 1, {**image, "id": f"{url}/1.png"}, label={"de": ["Ein Bär"]}, metadata=[
                {"label": {"en": ["Shelf No."]}, "value": {"en": ["A", "B"]}},
            ]),
            make_canvas(url, 2, {"type": "Choice", "items": [{**image, **large}]}, label={"none": ["2r"]}),
        ],
    }  # fmt: skip


def test_the_canvases_of_a_manifest_become_pictures_with_captions_in_its_languages(site: Site, tmp_path: Path) -> None:
    site.answers |= {
        "/m": "/book/manifest",
        "/book/manifest": json.dumps(make_manifest(site.url)).encode(),
        "/1.png": picture(1),
        "/large/full/2048,/0/default.jpg": picture(2, format="JPEG"),
    }
    host = site.url.removeprefix("http://")
    first, second = (f"{host}/book/canvas/{number}" for number in (1, 2))
    with running(tmp_path / "home") as service:
        done = run_json(service, "import", f"{site.url}/m", "--collection", "library", "--caption-language", "en")
        assert [each["id"] for each in done["added"]] == [first, second]
        item = run_json(service, "pictures", "show", first)
        assert item["waiting"] == {"de": ["Ein Bär", "Ein Buch"], "cy": ["Llyfr"]}
        assert item["metadata"] == {
            "shelf_no": "A; B", "date": "1650", "title": "Ein Bär", "description": "Old & rare",
            "source": f"{site.url}/1.png",
        }  # fmt: skip
        assert (item["tags"], item["collection"]) == (["A Library"], "library")
        item = run_json(service, "pictures", "show", second)
        assert item["captions"] == {"en": ["2r"]} and "/large.png" not in site.asked
        file = tmp_path / "manifest.json"
        file.write_text(json.dumps(make_manifest(site.url)))
        state = ("--state", str(tmp_path / "state"), "--collection", "library", "--caption-language", "en")
        assert run_json(service, "import", str(file), *state)["there"] == 2
        site.answers["/1.png"] = b"no picture"
        refused = run(service, "import", f"{site.url}/m", "--caption-language", "en", "--collection", "library")
        assert refused.exit_code == 1 and first in refused.stderr.replace("http://", "")


def lead(monkeypatch: pytest.MonkeyPatch, names: dict[str, Callable[[], list[str]]]) -> None:
    """Make names of hosts lead to addresses; others are addresses themselves."""
    resolve = socket.getaddrinfo

    def look_up(name: str, *more: Any, **rest: Any) -> list[Any]:
        addresses = names[name]() if name in names else [name]
        return [each for address in addresses for each in resolve(address, *more, **rest)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def read_first_item(site: Site, host: str) -> Item:
    """Return the first picture, at this host, of a manifest from elsewhere."""
    source = IiifManifest("https://93.184.215.14/manifest", SourceRecord(), None)
    source._manifest, source._is_near = make_manifest(site.url.replace("127.0.0.1", host)), False
    item = next(iter(source.list_parts()))
    assert isinstance(item, Item)
    return item


def list_parts(where: str) -> list[Item | SkippedPart]:
    return list(IiifManifest(where, SourceRecord(), None).list_parts())


@pytest.mark.parametrize("content", [b"", b"[]", b'{"@type": "sc:Manifest"}', b'{"type": "Collection"}', b"\xff"])
def test_what_is_no_manifest_is_refused_with_a_sentence(site: Site, content: bytes) -> None:
    site.answers["/m"] = content
    with pytest.raises(SourceError, match="It is not"):
        list_parts(f"{site.url}/m")


def test_parts_that_make_no_sense_are_told_and_the_others_are_there(site: Site) -> None:
    broken: list[Any] = [
        7, {"type": "Canvas"}, make_canvas(site.url, 3, {"type": "Sound", "id": "x"}),
        make_canvas(site.url, 4, {"type": "Image"}), make_canvas(site.url, 5, {"type": "Image", "id": "file:///etc/passwd"}),
        make_canvas(site.url, 6, {"type": "Image", "id": f"{site.url}/6.png"}, label="x", metadata=[1, {"label": 2}]),
    ]  # fmt: skip
    site.answers["/m"] = json.dumps({"type": "Manifest", "items": broken, "provider": 3}).encode()
    found = list_parts(f"{site.url}/m")
    assert [type(part).__name__ for part in found] == ["SkippedPart"] * 5 + ["Item"]


def test_odd_languages_and_long_metadata_of_a_canvas_are_left_out(site: Site) -> None:
    pairs = [{"label": {"en": [f"k{number}"]}, "value": {"en": ["x" * 1_999]}} for number in range(20)]
    label = {"@none": ["odd"], "cy": ["Llyfr"]}
    one = make_canvas(site.url, 1, {"type": "Image", "id": f"{site.url}/1.png"}, label=label, metadata=pairs)
    half = make_canvas(site.url, 2, {"type": "Image", "id": f"{site.url}/2.png"}, label={"cy": ["\ud800"]})
    site.answers["/m"] = json.dumps({"type": "Manifest", "items": [one, half]}).encode()
    item, left = list_parts(f"{site.url}/m")
    assert isinstance(item, Item) and item.record.captions == {"cy": ["Llyfr"]} and isinstance(left, SkippedPart)
    assert item.record.metadata["source"] == f"{site.url}/1.png" and len(json.dumps(item.record.metadata)) <= 17_000


def test_fetching_is_bounded_in_bytes_time_and_redirects(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.answers |= {"/circle": "/circle", "/m": json.dumps(make_manifest(site.url)).encode(), "/1.png": bytes(2_000)}
    with pytest.raises(SourceError, match="leads on more than"):
        list_parts(f"{site.url}/circle")
    with pytest.raises(SourceError, match="status 404"):
        list_parts(f"{site.url}/gone")
    (first, _) = list_parts(f"{site.url}/m")
    assert isinstance(first, Item) and len(first.read()) == 2_000
    monkeypatch.setattr(iiif, "_ALTOGETHER", -1.0)
    with pytest.raises(UnreadableError, match="took more than"):
        first.read()
    monkeypatch.setattr(iiif, "_MOST_MANIFEST", 100)
    with pytest.raises(SourceError, match="has more than"):
        list_parts(f"{site.url}/m")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "name.example"])
def test_a_manifest_from_elsewhere_cannot_have_this_machine_asked(
    site: Site, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead(monkeypatch, {"name.example": lambda: ["127.0.0.1"]})
    with pytest.raises(UnreadableError, match="cannot be fetched"):
        read_first_item(site, host).read()
    assert site.asked == []


PUBLIC = ["8.8.8.8", "93.184.215.14", "1.1.1.1", "2001:4860:4860::8888", "2a00:1450::1"]
NEAR = {
    "this machine": ["127.0.0.1", "127.8.9.10", "0.0.0.0", "::1", "::"],
    "its network": ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "192.0.0.1"],
    "its network in IPv6": ["fe80::1", "fe80::1%lo", "fc00::1", "fd12:3456::1", "fec0::1"],
    "IPv4 in IPv6": ["::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1"],
    "NAT64": ["64:ff9b::127.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::1"],
    "6to4 and Teredo": ["2002:7f00:1::", "2002:808:808::1", "192.88.99.1", "2001::1", "2001:0:4136:e378::1"],
    "many": ["224.0.0.1", "239.1.2.3", "255.255.255.255", "ff02::1", "ff0e::1"],
    "nobody": ["198.18.0.1", "203.0.113.1", "240.0.0.1", "2001:db8::1", "3fff::1", "100::1", "5f00::1"],
}


@pytest.mark.row("F13")
def test_a_manifest_from_elsewhere_has_only_public_addresses_asked() -> None:
    source = IiifManifest("http://93.184.215.14/manifest", SourceRecord(), None)
    source._is_near = False
    assert [source._resolve(address) for address in PUBLIC] == [[address] for address in PUBLIC]
    for address in (address for near in NEAR.values() for address in near):
        with pytest.raises(httpx.UnsupportedProtocol):
            pytest.fail(f"{source._resolve(address)} may be asked")


PROXY = "127.0.0.1:9"  # nobody listens there


@pytest.mark.parametrize(
    "environment", [{}, {"https_proxy": PROXY}, {"http_proxy": PROXY, "no_proxy": "name.example"}], ids=str
)
def test_a_name_that_leads_elsewhere_after_it_was_looked_at_is_asked_where_it_led(
    site: Site, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any address of 127.0.0.0/8 is this machine; nobody listens at the second one, which is taken for a public one."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    led = iter(["127.0.0.2"])
    lead(monkeypatch, {"name.example": lambda: [next(led, "127.0.0.1")]})
    monkeypatch.setattr(iiif, "_is_public", lambda address: address != "127.0.0.1")
    with pytest.raises(UnreadableError, match="ConnectError"):
        read_first_item(site, "name.example").read()
    assert site.asked == [] and next(led, "") == ""


@pytest.mark.row("F13")
def test_a_manifest_has_this_machine_asked_only_if_all_that_it_came_from_is_there(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The site is taken for a public one here; 127.0.0.2, where nobody listens, for an address of this machine."""
    monkeypatch.setattr(iiif, "_is_public", lambda address: address == "127.0.0.1")
    inside = make_canvas(site.url, 1, {"type": "Image", "id": site.url.replace("127.0.0.1", "127.0.0.2")})
    site.answers["/m"] = json.dumps({"type": "Manifest", "items": [inside]}).encode()
    led = iter([["127.0.0.2", "127.0.0.1"], ["127.0.0.2"], ["127.0.0.1"]])
    lead(monkeypatch, {"name.example": lambda: next(led)})
    source = IiifManifest(site.url.replace("127.0.0.1", "name.example") + "/m", SourceRecord(), None)
    for reason in ("UnsupportedProtocol", "ConnectError"):
        with pytest.raises(SourceError, match=reason):
            source.count()
    (item,) = source.list_parts()
    assert isinstance(item, Item)
    with pytest.raises(UnreadableError, match="UnsupportedProtocol"):
        item.read()


def test_a_host_is_asked_by_its_name_at_each_of_its_addresses(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", PROXY)
    monkeypatch.setenv("no_proxy", "127.0.0.1, .example")
    site.answers |= {"/m": "/n", "/n": b'{"type": "Manifest", "items": []}'}
    lead(monkeypatch, {"name.example": lambda: ["127.0.0.2", "127.0.0.1"]})
    assert list_parts(site.url.replace("127.0.0.1", "name.example") + "/m") == []
    assert site.asked == ["/m", "/n"] and {*site.hosts} == {site.url.replace("http://127.0.0.1", "name.example")}


def test_a_proxy_is_asked_for_what_goes_through_it_once_the_name_was_looked_at(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", site.url.removeprefix("http://"))
    lead(monkeypatch, {"public.example": lambda: ["93.184.215.14"], "local.example": lambda: ["127.0.0.1"]})
    picture_there = make_canvas("http://public.example", 1, {"type": "Image", "id": "http://local.example/1.png"})
    site.answers["http://public.example/m"] = json.dumps({"type": "Manifest", "items": [picture_there]}).encode()
    (item,) = list_parts("http://public.example/m")
    assert isinstance(item, Item)
    with pytest.raises(UnreadableError, match="UnsupportedProtocol"):
        item.read()
    assert site.asked == ["http://public.example/m"] and site.hosts == ["public.example"]


def test_a_name_in_unicode_is_looked_up_as_it_is_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """IDNA 2008 keeps the letter; by the rules of 2003, which `socket` has, it would be the name of somebody else."""
    site.answers["/m"] = b'{"type": "Manifest", "items": []}'
    there = "xn--strae-oqa.example"
    lead(monkeypatch, {there: lambda: ["127.0.0.1"]})
    source = IiifManifest(site.url.replace("127.0.0.1", "straße.example") + "/m", SourceRecord(), None)
    assert source.count() == 0 and source._is_near
    assert site.hosts == [site.url.replace("http://127.0.0.1", there)]
