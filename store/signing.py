"""Signatures of documents, by Ed25519: who has a certificate can tell that this data root wrote it."""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from store.data_root import SIGNING_KEY, DataRoot


def sign(root: DataRoot, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with `public_key` and `signature`, both in base64; the key is made at the first use.

    Signed is the object without `signature`, as UTF-8 without blanks, its keys in order. Raises StoreUnavailable.
    """
    secret = root.read_or_create(SIGNING_KEY, lambda: Ed25519PrivateKey.generate().private_bytes_raw(), private=True)
    key = Ed25519PrivateKey.from_private_bytes(secret)
    signed = {**document, "public_key": b64encode(key.public_key().public_bytes_raw()).decode()}
    return {**signed, "signature": b64encode(key.sign(_format(signed))).decode()}


def is_signed(document: Mapping[str, Any]) -> bool:
    """Return whether a document is as whoever has the secret of its `public_key` signed it."""
    signed = {name: value for name, value in document.items() if name != "signature"}
    try:
        key, signature = b64decode(document["public_key"]), b64decode(document["signature"])
        Ed25519PublicKey.from_public_bytes(key).verify(signature, _format(signed))
    except (InvalidSignature, ValueError, KeyError, TypeError):
        return False
    return True


def _format(signed: Mapping[str, Any]) -> bytes:
    return json.dumps(signed, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
