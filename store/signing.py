"""Signatures of documents, by Ed25519: who has a certificate can tell that this data root wrote it."""

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from store.data_root import SIGNING_KEY, DataRoot


def sign(root: DataRoot, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with `public_key` and `signature`, both in base64; the key is made at the first use.

    Signed is the object without `signature`, as UTF-8 without blanks, its keys in order. Raises StoreUnavailable.
    """
    secret = root.read_or_create(SIGNING_KEY, lambda: Ed25519PrivateKey.generate().private_bytes_raw(), private=True)
    key = Ed25519PrivateKey.from_private_bytes(secret)
    signed = {**document, "public_key": b64encode(key.public_key().public_bytes_raw()).decode()}
    text = json.dumps(signed, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return {**signed, "signature": b64encode(key.sign(text.encode())).decode()}
