"""A IIIF Presentation 3 manifest: the painted pictures of its canvases, with labels and metadata. Sends nothing.

Read by this client: the service never fetches anything. What it names is fetched in bounds of bytes, time, redirects.
"""

import html
import ipaddress
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from . import (
    MOST_BYTES,
    Item,
    SkippedPart,
    SourceError,
    SourceRecord,
    UnreadableError,
    Value,
    clean_captions,
    clean_tags,
    clean_value,
    derive_key,
    is_json,
    normalize_id,
    trim_metadata,
)

_MOST_MANIFEST = 32 << 20  # bytes
_SECONDS, _ALTOGETHER = 30.0, 300.0  # without a byte, and for one answer
_REDIRECTS = 5
_WIDE = 2_048  # pixels of the longer side that is asked of an image service; a gallery keeps 1,024
_NO_LANGUAGE = "none"  # as IIIF calls it
_MARKUP = re.compile(r"<[^>]*>")
_UNICAST = ipaddress.ip_network("2000::/3")  # all public addresses of IPv6: others hold one of IPv4, or are of a site
# 6to4 and its relays, Teredo: what of IPv4 they lead to is nobody's to tell; and documentation, which Python 3.11 lacks
_LEADS_ELSEWHERE = [*map(ipaddress.ip_network, ("2002::/16", "192.88.99.0/24", "2001::/32", "3fff::/20"))]
_SERVICES = ("ImageService1", "ImageService2", "ImageService3")


class IiifManifest:
    """The pictures of a manifest at a URL or in a file. Labels are captions in their languages.

    One of no language is a caption in `language`, if that is given. The address of a canvas, without its scheme,
    becomes the id; `metadata.source` is the address of the picture.
    """

    is_partial = False

    def __init__(self, where: str, record: SourceRecord, language: str | None) -> None:
        self.name, self._record, self._language = where, record, language
        pinned, proxies = PinnedTransport(self._resolve), getproxies()
        by_proxy = {
            f"{scheme}://": ProxiedTransport(pinned, self._resolve, proxies[scheme])
            for scheme in ("http", "https", "all")
            if proxies.get(scheme)
        }
        self._client = httpx.Client(
            timeout=_SECONDS, follow_redirects=True, max_redirects=_REDIRECTS, transport=pinned, mounts=by_proxy
        )
        self._manifest: dict[str, Any] | None = None
        self._is_near: bool | None = None  # whether the manifest itself is on this machine, or in its network

    def count(self) -> int:
        """Return how many canvases there are."""
        return len(_as_list(self._load().get("items")))

    def list_parts(self) -> Iterator[Item | SkippedPart]:
        """Yield the pictures of all canvases, and the canvases that cannot be used."""
        manifest = self._load()
        whole = self._describe(manifest).extend(self._record)
        for number, canvas in enumerate(_as_list(manifest.get("items")), 1):
            where = canvas.get("id") if isinstance(canvas, dict) else None
            if not isinstance(where, str) or not is_json(canvas) or canvas.get("type") != "Canvas":
                yield SkippedPart(f"canvas {number}", "It is not a canvas with an `id`.")
                continue
            images = list(_list_images(canvas))
            if not images:
                yield SkippedPart(where, "No picture is painted on it.")
            record = self._describe(canvas, manifest).extend(whole)
            for place, image in enumerate(images, 1):
                yield self._read_part(where if place == 1 else f"{where}/{place}", image, record)

    def _read_part(self, where: str, image: dict[str, Any], record: SourceRecord) -> Item | SkippedPart:
        address = _choose_address(image)
        if address is None:
            return SkippedPart(where, "Its picture has no address.")
        parts = urlsplit(where)
        fragment = f"/{parts.fragment}" if parts.fragment else ""
        id = normalize_id(unquote(f"{parts.netloc}/{parts.path.strip('/')}{fragment}"))
        source: dict[str, Value] = {"source": address}
        record = replace(record, metadata={**source, **trim_metadata(record.metadata, source)})
        return Item(where, id, lambda: self._fetch(address), record=record)

    def _describe(self, thing: dict[str, Any], parent: dict[str, Any] | None = None) -> SourceRecord:
        """Return what a manifest or a canvas says of itself; a canvas in one is also captioned with its label."""
        captions: dict[str, list[str]] = {}
        for label in (thing.get("label"), (parent or {}).get("label")):
            for tag, texts in _read_language_map(label).items():
                if (tag := self._language or tag if tag == _NO_LANGUAGE else tag) != _NO_LANGUAGE:
                    captions.setdefault(tag, []).extend(texts)
        statement, rights = thing.get("requiredStatement"), thing.get("rights")
        pairs = [pair for pair in _as_list(thing.get("metadata")) if isinstance(pair, dict)]
        named = [(derive_key(_join_texts(pair.get("label"))), _join_texts(pair.get("value"))) for pair in pairs]
        named += [("title", _join_texts(thing.get("label"))), ("description", _join_texts(thing.get("summary")))]
        named += [("attribution", _join_texts(statement.get("value")) if isinstance(statement, dict) else "")]
        named += [("rights", clean_value(rights) if isinstance(rights, str) else "")]
        metadata: dict[str, Value] = {}
        for key, value in named:
            if key and value:
                metadata.setdefault(key, value)
        providers = [each for each in _as_list(thing.get("provider")) if isinstance(each, dict)]
        tags = clean_tags([_join_texts(each.get("label")) for each in providers])
        return SourceRecord(None, tags, metadata, clean_captions(captions))

    def _load(self) -> dict[str, Any]:
        if self._manifest is None:
            is_far = "://" in self.name
            self._is_near = None if is_far else True  # decided anew by the addresses that this try is to ask
            try:
                data = self._fetch(self.name, _MOST_MANIFEST) if is_far else _read_file(Path(self.name))
                manifest = json.loads(data)
            except (ValueError, RecursionError) as error:
                raise SourceError("It is not JSON.") from error
            if not isinstance(manifest, dict) or manifest.get("type") != "Manifest":
                raise SourceError("It is not a manifest of IIIF Presentation 3 (`type` is not `Manifest`).")
            self._manifest = manifest
        return self._manifest

    def _fetch(self, url: str, most: int = MOST_BYTES) -> bytes:
        until, content = time.monotonic() + _ALTOGETHER, bytearray()
        try:
            with self._client.stream("GET", url) as response:
                if response.status_code != 200:
                    raise UnreadableError(f"{url} answers with status {response.status_code}.")
                for piece in response.iter_bytes():
                    content += piece
                    if len(content) > most:
                        raise UnreadableError(f"{url} has more than {most >> 20} MiB.")
                    if time.monotonic() > until:
                        raise UnreadableError(f"{url} took more than {_ALTOGETHER:.0f} seconds.")
        except httpx.TooManyRedirects:
            raise UnreadableError(f"{url} leads on more than {_REDIRECTS} times.") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnreadableError(f"{url} cannot be fetched: {type(error).__name__}.") from error
        return bytes(content)

    def _resolve(self, host: str) -> list[str]:
        """Return the addresses of a host that may be asked; raises `httpx.UnsupportedProtocol` when it may not.

        A manifest from elsewhere must not have this client ask the machine that it runs on, or its network.
        """
        found = _look_up(host)
        has_local_name, public = _is_local_name(host), [*map(_is_public, found)]
        if self._is_near is None:  # the manifest is asked for, at these addresses and no others
            self._is_near = has_local_name or (bool(found) and not any(public))
        if not self._is_near and (has_local_name or not all(public)):
            raise httpx.UnsupportedProtocol("a local address in a manifest from elsewhere")
        return found


class PinnedTransport(httpx.BaseTransport):
    """Connects to the addresses that `resolve` gives of a host: a name cannot lead elsewhere after it was looked at.

    Connections are kept for each name: of two with one address, the second could have another certificate.
    """

    def __init__(self, resolve: Callable[[str], list[str]]) -> None:
        self._resolve = resolve
        self._trusted = httpx.create_ssl_context()
        self._by_host: dict[str, httpx.HTTPTransport] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        host = _read_host(request.url)
        addresses = self._resolve(host)
        transport = self._by_host.setdefault(host, httpx.HTTPTransport(verify=self._trusted))
        failed: httpx.TransportError = httpx.ConnectError("the name is not known", request=request)
        for address in addresses:
            # the header `Host` is that of the name already; certificates are to be the name's as well
            known = {**request.extensions, "sni_hostname": host}
            url = request.url.copy_with(host=address)
            asked = httpx.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=known)
            try:
                return transport.handle_request(asked)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:  # as a client without pins, try the next one
                failed = error
        raise failed

    def close(self) -> None:
        for transport in self._by_host.values():
            transport.close()


class ProxiedTransport(httpx.HTTPTransport):
    """Asks a proxy of the environment, which looks names up by itself: here they only can be looked at before.

    What `NO_PROXY` names is asked as without a proxy.
    """

    def __init__(self, pinned: PinnedTransport, resolve: Callable[[str], list[str]], proxy: str) -> None:
        super().__init__(proxy=proxy if "://" in proxy else f"http://{proxy}")
        self._pinned, self._resolve = pinned, resolve

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        host = _read_host(request.url)
        if proxy_bypass(host):
            return self._pinned.handle_request(request)
        self._resolve(host)
        return super().handle_request(request)


def _read_host(url: httpx.URL) -> str:
    """Return the host as it is asked, in ASCII: of Unicode, `socket` would look another name up (IDNA 2003)."""
    return url.raw_host.decode("ascii")


def _read_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_MANIFEST:
            raise UnreadableError(f"It has more than {_MOST_MANIFEST >> 20} MiB.")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"It cannot be read: {error.strerror}.") from error


def _look_up(host: str) -> list[str]:
    """Return the addresses of a host, however it is written, as numbers; none of one that is not known."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _is_local_name(host: str) -> bool:
    return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))


def _is_public(address: str) -> bool:
    read = ipaddress.ip_address(address.partition("%")[0])
    if read.version == 6 and read not in _UNICAST:
        return False
    return read.is_global and not read.is_multicast and not any(read in network for network in _LEADS_ELSEWHERE)


def _list_images(canvas: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the pictures painted on a canvas; of a choice the first, which is the one to show."""
    for page in _as_list(canvas.get("items")):
        for annotation in _as_list(page.get("items") if isinstance(page, dict) else None):
            if not isinstance(annotation, dict) or annotation.get("motivation") not in ("painting", ["painting"]):
                continue
            for body in _as_list(annotation.get("body")):
                if isinstance(body, dict) and body.get("type") == "Choice":
                    body = next(iter(_as_list(body.get("items"))), None)
                if isinstance(body, dict) and body.get("type") == "Image":
                    yield body


def _choose_address(image: dict[str, Any]) -> str | None:
    """Return where to fetch it: from its image service, where it is larger than a gallery keeps, otherwise as it is."""
    address, width, height = image.get("id"), image.get("width"), image.get("height")
    if isinstance(width, int) and isinstance(height, int) and max(width, height) > _WIDE and min(width, height) > 0:
        for service in _as_list(image.get("service")):
            base = service.get("id", service.get("@id")) if isinstance(service, dict) else None
            if isinstance(base, str) and service.get("type", service.get("@type")) in _SERVICES:
                address = f"{base.rstrip('/')}/full/{max(1, width * _WIDE // max(width, height))},/0/default.jpg"
                break
    return address if isinstance(address, str) and address.startswith(("http://", "https://")) else None


def _read_language_map(value: Any) -> dict[str, list[str]]:
    """Return the texts of a language map by tag, without markup."""
    if not isinstance(value, dict):
        return {}
    cleaned = {
        tag: [clean_value(html.unescape(_MARKUP.sub("", text))) for text in _as_list(texts) if isinstance(text, str)]
        for tag, texts in value.items()
    }
    return {tag: [text for text in texts if text] for tag, texts in cleaned.items()}


def _join_texts(value: Any) -> str:
    """Return a language map as one text: English, or the first language there is."""
    texts = _read_language_map(value)
    return "; ".join(texts.get("en") or next((each for each in texts.values() if each), []))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
