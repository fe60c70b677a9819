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

    def succeed(self, *words: object) -> dict[str, Any]:
        """Return what the results file holds after a run that succeeds."""
        ended = self(*words)
        assert ended.exit_code == 0, ended.output
        results: dict[str, Any] = json.loads(self.out.read_text())
        return results

    def be_refused(self, *words: object) -> str:
        """Return the one sentence of a refusal; nothing was trained or scored."""
        before = self.list_results()
        ended = self(*words)
        assert ended.exit_code == 1 and isinstance(ended.exception, SystemExit), ended.exception
        assert "\n" not in str(ended.exception) and self.list_results() == before
        return str(ended.exception)

    def list_results(self) -> dict[Path, int]:
        """Return versions and scores, by when they were written."""
        files = [*self.work.glob("runs/*/trained/*/*/version"), *self.work.glob("runs/*/scores/*.json")]
        return {path: path.stat().st_mtime_ns for path in (*files, self.out) if path.exists()}

    def find_folder(self) -> Path:
        (ended,) = (self.work / "runs").iterdir()
        return ended
