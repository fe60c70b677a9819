"""`python -m service.openapi` writes the contract to docs/openapi.json, which a test compares. Serves nothing."""

import json
from pathlib import Path
from typing import Any

from service.app import create_app

PATH = Path(__file__).parent.parent / "docs" / "openapi.json"


def document() -> dict[str, Any]:
    """The OpenAPI document; the same whatever the settings."""
    return json.loads(json.dumps(create_app(None).openapi()))  # type: ignore[no-any-return]


if __name__ == "__main__":
    PATH.write_text(json.dumps(document(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
