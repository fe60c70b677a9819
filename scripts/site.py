"""`python -m scripts.site` builds the site of the documents into build/site; a link that leads nowhere fails it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "build" / "docs"
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def move_links(text: str, source: str, target: str, repository: str) -> str:
    """Return a page whose links fit its place on the site; those that leave the documents lead to the repository."""

    def move(link: re.Match[str]) -> str:
        path = os.path.normpath(f"{os.path.dirname(source)}/{link[1]}").lstrip("/")
        if path in PAGES or path.startswith("docs/"):
            return f"]({os.path.relpath(PAGES.get(path, path.removeprefix('docs/')), os.path.dirname(target) or '.')}"
        return f"]({repository}/blob/main/{path}"

    return _LINK.sub(move, text)


def gather_pages() -> None:
    """Copy docs/ and the pages at the root of the repository into build/docs."""
    repository = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["repo_url"]
    shutil.rmtree(DOCS, ignore_errors=True)
    shutil.copytree(ROOT / "docs", DOCS)
    places = {f"docs/{page.relative_to(DOCS)}": str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    for source, target in (places | PAGES).items():
        text = (ROOT / source).read_text(encoding="utf-8")
        (DOCS / target).write_text(move_links(text, source, target, repository), encoding="utf-8")


if __name__ == "__main__":
    gather_pages()
    zensical = Path(sys.executable).with_name("zensical")
    sys.exit(subprocess.run([zensical, "build", "--clean", "--strict"], cwd=ROOT, check=False).returncode)
