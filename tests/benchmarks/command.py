"""The benchmark's command on one folder of data."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from benchmarks.emoji36.__main__ import app


class Command:
    """`run` on one folder of data, with everything kept in one place."""

    def __init__(self, spec: str, work: Path, *words: object) -> None:
        self.work, self.out = work, work / "results.json"
        self._words = ("run", "--base", spec, "--threads", "1", "--work", work, "--out", self.out, *words)

    def __call__(self, *words: object) -> Any:
        return CliRunner().invoke(app, [*map(str, (*self._words, *words))])

    def done(self, *words: object) -> dict[str, Any]:
        """What the results file holds after a run that succeeds."""
        ended = self(*words)
        assert ended.exit_code == 0, ended.output
        results: dict[str, Any] = json.loads(self.out.read_text())
        return results

    def refused(self, *words: object) -> str:
        """The one sentence of a refusal; nothing was trained or scored."""
        before = self.kept()
        ended = self(*words)
        assert ended.exit_code == 1 and isinstance(ended.exception, SystemExit), ended.exception
        assert "\n" not in str(ended.exception) and self.kept() == before
        return str(ended.exception)

    def kept(self) -> dict[Path, int]:
        """Versions and scores, by when they were written."""
        files = [*self.work.glob("runs/*/trained/*/*/version"), *self.work.glob("runs/*/scores/*.json")]
        return {path: path.stat().st_mtime_ns for path in (*files, self.out) if path.exists()}

    def folder(self) -> Path:
        (ended,) = (self.work / "runs").iterdir()
        return ended
