"""A picture that the gallery has, and what is said of it: what its record lacks and what stays. Sends nothing."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .items import MOST_TAGS, Said, clean_caption, fitting

FIELDS = "id,url,collection,tags,metadata,own,etag"


@dataclass(frozen=True)
class Found:
    """A picture in the gallery, and its record, of which `item` has the `FIELDS`."""

    item: Mapping[str, Any]

    def has(self, content: str) -> bool:
        """Whether it is this content, by its hash."""
        (shown,) = parse_qs(urlsplit(self.item["url"]).query)["v"]
        return content.startswith(shown)

    def lacks(self, said: Said, file: Said, *, add: bool) -> dict[str, Any]:
        """The merge patch that makes its record say `said`, and what the `file` says where it says nothing.

        With `add`, its tags and captions stay beside those of `said`. Empty when nothing is missing.
        """
        has, own = self.item["metadata"], self.item["own"]
        metadata = {key: value for key, value in said.metadata.items() if has.get(key) != _normal(value)}
        missing = {key: value for key, value in file.metadata.items() if key not in has and key not in metadata}
        captions = {
            tag: [*dict.fromkeys([*(own.get(tag, ()) if add else ()), *texts])]
            for tag, texts in said.captions.items()
            if not _cleaned(texts) <= {*own.get(tag, ())}
        }
        patch: dict[str, Any] = {
            "metadata": {**fitting(missing, {**has, **metadata}), **metadata},
            "captions": {tag: [*texts] for tag, texts in file.captions.items() if tag not in own} | captions,
        }
        if said.collection not in (None, self.item["collection"]):
            patch["collection"] = said.collection
        if (tags := self._tags(said, file, add)) != self.item["tags"]:
            patch["tags"] = tags
        return {name: part for name, part in patch.items() if part}

    def _tags(self, said: Said, file: Said, add: bool) -> list[str]:
        has: list[str] = self.item["tags"]
        spoken, written = (_normal([*tags]) for tags in (said.tags, file.tags))
        if not spoken:
            return has or list(written)
        stays = has if add else [tag for tag in written if tag in has]
        return list(dict.fromkeys([*stays, *spoken] if add else [*spoken, *stays]))[:MOST_TAGS]

    def under(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """A record for another content of this picture: what it says over what is kept; what it does not say stays."""
        over = dict(document)
        for name, own in (("metadata", self.item["metadata"]), ("captions", self.item["own"])):
            if name in over:
                over[name] = {**own, **over[name]}
        if "tags" in over:
            over["tags"] = list(dict.fromkeys([*self.item["tags"], *_normal(over["tags"])]))[:MOST_TAGS]
        return over


def _normal(value: Any) -> Any:
    """As the service keeps it."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    return list(dict.fromkeys(map(_normal, value))) if isinstance(value, list) else value


def _cleaned(texts: Sequence[str]) -> set[str]:
    """Captions as the service keeps them; one that it refuses is as it is, and will be refused."""
    return {clean_caption(text) or text for text in texts}
