"""Signatures of this data root, by Ed25519: of documents, and of files in the form of the program minisign."""

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from store.data_root import SIGNING_KEY, DataRoot

_PUBLIC, _HASHED, _ID = b"Ed", b"ED", 8  # how a public key and a signature of a hash begin; bytes of the id behind it
_START = len(_PUBLIC) + _ID
_TRUSTED = "trusted comment: "


def sign(root: DataRoot, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with `public_key` and `signature`, both in base64; the key is made at the first use.

    Signed is the object without `signature`, as UTF-8 without blanks, its keys in order. Raises StoreUnavailable.
    """
    key = _load_key(root)
    signed = {**document, "public_key": b64encode(key.public_key().public_bytes_raw()).decode()}
    return {**signed, "signature": b64encode(key.sign(_format(signed))).decode()}


def sign_file(root: DataRoot, path: Path, about: str) -> str:
    """Return what `minisign -S` writes of a file; `about` and the public key are its trusted comment.

    Raises StoreUnavailable.
    """
    key = _load_key(root)
    public = key.public_key().public_bytes_raw()
    id, signature = hashlib.sha256(public).digest()[:_ID], key.sign(_hash(path))
    trusted = f"{about} {b64encode(_PUBLIC + id + public).decode()}"
    lines = "untrusted comment: its last word is the public key", b64encode(_HASHED + id + signature).decode()
    more = f"{_TRUSTED}{trusted}", b64encode(key.sign(signature + trusted.encode())).decode()
    return "\n".join((*lines, *more, ""))


def find_signer(path: Path, signature: str) -> str:
    """Return the public key, as minisign writes it, of who signed a file so with `sign_file`. Raises ValueError."""
    _, first, comment, last, _ = signature.split("\n")
    signed, public = (b64decode(each, validate=True) for each in (first, comment.rpartition(" ")[2]))
    same_id = signed[:_START] == _HASHED + public[2:_START] and public[:2] == _PUBLIC
    if not (same_id and comment.startswith(_TRUSTED)):
        raise ValueError("the signature has another form")
    key = Ed25519PublicKey.from_public_bytes(public[_START:])
    try:
        key.verify(signed[_START:], _hash(path))
        trusted = comment.removeprefix(_TRUSTED).encode()
        key.verify(b64decode(last, validate=True), signed[_START:] + trusted)
    except InvalidSignature as error:
        raise ValueError("the signature does not fit") from error
    return b64encode(public).decode()  # what is behind it in the comment was not looked at


def _load_key(root: DataRoot) -> Ed25519PrivateKey:
    """Return the key of a data root, which is made at the first use."""
    secret = root.read_or_create(SIGNING_KEY, lambda: Ed25519PrivateKey.generate().private_bytes_raw(), private=True)
    return Ed25519PrivateKey.from_private_bytes(secret)


def _hash(path: Path) -> bytes:
    return hashlib.blake2b(path.read_bytes()).digest()


def _format(signed: Mapping[str, Any]) -> bytes:
    return json.dumps(signed, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
