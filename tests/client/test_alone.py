"""A copy of client/ by itself speaks to a service; what it knows of texts and ids is what the service does."""

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from client.importing import UnreadableError, check_id, clean_caption, normalize_tag
from model.languages import canonicalize
from model.text import clean, clean_picture_id
from store.errors import PictoglotError
from tests.house.source import ROOT
from tests.patience import PATIENCE
from tests.service.harness import ADMIN_KEY, Service, picture, running

# Without `site`, which would put an editable install on the path
_ALONE = """
import sys
sys.path[:0] = [{home!r}, {libraries!r}]
from client.commands import main
try:
    main()
finally:
    ours = ("store", "model", "index", "service", "worker", "demo", "torch", "numpy", "sqlalchemy", "fastapi", "regex")
    assert not {{*ours}} & {{*sys.modules}}, {{*ours}} & {{*sys.modules}}
"""


def run_alone(home: Path, service: Service, *arguments: str) -> str:
    """Return what the command line says that has nothing of ours beside it."""
    shutil.copytree(ROOT / "client", home / "client", dirs_exist_ok=True)
    code = _ALONE.format(home=str(home), libraries=sysconfig.get_path("purelib"))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *arguments],
        cwd=home,
        env={"PICTOGLOT_URL": service.url, "PICTOGLOT_KEY": ADMIN_KEY, "HOME": str(home), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_client_alone_imports_searches_teaches_and_exports(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "apple.png").write_bytes(picture(1))
    manifest, dataset = tmp_path / "pictures" / "manifest.jsonl", tmp_path / "cy.jsonl"
    manifest.write_text(json.dumps({"file": "apple.png", "captions": {"en": ["a red apple"]}}))
    dataset.write_text("".join(json.dumps({"caption": f"afal {n}", "english": f"apple {n}"}) + "\n" for n in range(70)))
    with running(tmp_path / "home") as service:
        imported = run_alone(tmp_path, service, "import", "pictures", "--json")
        assert [each["id"] for each in json.loads(imported)["added"]] == ["apple"]
        service.context.live.refresh()
        found = json.loads(run_alone(tmp_path, service, "search", "a red apple", "--json"))
        assert [hit["id"] for hit in found["items"]] == ["apple"]
        assert "teach Welsh (cy)" in run_alone(tmp_path, service, "learn", "cy", str(dataset), "--dry-run")
        assert "1 picture" in run_alone(tmp_path, service, "export", "out")
        offered = run_alone(tmp_path, service, "--help")
        assert " import " in offered and " serve " not in offered and " demo " not in offered


@given(st.text())
@example("a\u0301\u202e b\ufeff\t\n c")
@example("\u061ca\u200f\u200e \u2060b\u00adc")
@example("\U0002ffff")
@example("x" * 1_001)
@example("iw")
@example(" es_PE ")
@example("mul")
def test_what_a_client_knows_of_texts_ids_and_tags_is_what_the_service_does(text: str) -> None:
    assert clean_caption(text) == (read_as(clean, text) or "")
    assert normalize_tag(text) == read_as(canonicalize, text)
    assert read_as(check_id, text) == read_as(clean_picture_id, text)


def read_as(read: Callable[[str], str], text: str) -> str | None:
    """Return what the text is read as; None where it is refused."""
    try:
        return read(text)
    except (PictoglotError, UnreadableError):
        return None
