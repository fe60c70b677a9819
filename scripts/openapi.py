"""`python -m scripts.openapi` writes docs/openapi.json, the contract that a test compares with what is served.

And what clients know of it (scripts/clients.py).
"""

import json
from pathlib import Path
from typing import Any

from scripts.clients import write_files
from service.app import create_app

PATH = Path(__file__).parent.parent / "docs" / "openapi.json"


def build_contract() -> dict[str, Any]:
    """Return the served document as plain JSON; it does not depend on settings."""
    return json.loads(json.dumps(create_app(None).openapi()))  # type: ignore[no-any-return]


if __name__ == "__main__":
    PATH.write_text(json.dumps(contract := build_contract(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_files(contract)
