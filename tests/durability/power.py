"""Disks that lose with the power what was not made durable, and what of it cannot be had here.

Both have `mount`; `remember`, called when everything has stopped, takes the moment of the cut; and `unmount`, when
everything has been killed.
"""

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.patience import PATIENCE


class ForgetfulDisk:
    """The file system of `forgetful.py`, in a process of its own, mounted on a folder."""

    def __init__(self, store: Path, mountpoint: Path) -> None:
        self._store, self._mountpoint = store, mountpoint
        self._process: subprocess.Popen[bytes] | None = None

    def mount(self, seed: int) -> None:
        """Begin with what is in the store; `seed` decides what the next cut keeps of what is not durable."""
        self._mountpoint.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.durability.forgetful"]
        self._process = subprocess.Popen([*command, str(self._store), str(self._mountpoint), str(seed)])
        until = time.monotonic() + PATIENCE
        while not self._mountpoint.is_mount():
            assert self._process.poll() is None, "the file system could not be mounted"
            assert time.monotonic() < until
            time.sleep(0.01)

    def remember(self) -> None:
        """Remember nothing: what is not written when the users are killed never will be."""

    def unmount(self) -> None:
        """Unmount, and leave in the store what the disk would have."""
        if self._process is not None:
            subprocess.run(["umount", "-l", str(self._mountpoint)], check=False)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)
            assert self._process.returncode == 0
            self._process = None


class BlockDisk:
    """A real file system in an image, of which a cut keeps the blocks that were written at that moment.

    The image is a file of an XFS in another image, where a file is copied in an instant and as a whole.
    """

    size, kinds = 400 << 20, ("ext4", "xfs", "btrfs")

    def __init__(self, folder: Path, mountpoint: Path, kind: str) -> None:
        self._mountpoint, self._outer = mountpoint, folder / "outer"
        self._image, self._cut = self._outer / "disk", self._outer / "cut"
        self._outer.mkdir()
        mountpoint.mkdir(exist_ok=True)
        _make("xfs", folder / "outer.img", 5 * self.size)
        _run("mount", "-o", "loop", folder / "outer.img", self._outer)
        _make(kind, self._image, self.size)

    def fill(self, home: Path) -> None:
        """Begin with a copy of a data root."""
        self.mount(0)
        shutil.copytree(home, self._mountpoint / home.name, symlinks=True)
        os.sync()
        self.remember()
        self.unmount()

    def mount(self, seed: int) -> None:
        """Begin with what the last cut left; what lasts is the kernel's affair, not the seed's."""
        _run("mount", "-o", "loop", self._image, self._mountpoint)

    def remember(self) -> None:
        """The blocks as they are now are those that the disk has after the cut."""
        _run("cp", "--reflink=always", self._image, self._cut)

    def unmount(self) -> None:
        """The image is what was remembered."""
        if self._mountpoint.is_mount():
            _unmount_when_free(self._mountpoint)
            if self._cut.exists():
                self._cut.replace(self._image)

    def close(self) -> None:
        self.unmount()
        _unmount_when_free(self._outer)


def _make(kind: str, image: Path, size: int) -> None:
    with image.open("wb") as stream:
        stream.truncate(size)
    _run(f"mkfs.{kind}", "-q", image)


def _unmount_when_free(mountpoint: Path) -> None:
    """Unmount, when the last of the killed processes is gone."""
    until = time.monotonic() + PATIENCE
    while subprocess.run(["umount", str(mountpoint)], capture_output=True, check=False).returncode:
        assert time.monotonic() < until, f"{mountpoint} is in use"
        time.sleep(0.05)


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


def explain_no_blocks() -> str:
    """Return why images cannot be mounted here; empty when they can."""
    if os.geteuid() != 0:
        return "only root may mount images"
    missing = [kind for kind in BlockDisk.kinds if shutil.which(f"mkfs.{kind}") is None]
    return f"mkfs.{missing[0]} is not installed (xfsprogs, btrfs-progs)" if missing else ""


def explain_no_fuse() -> str:
    """Return why FUSE cannot be used here; empty when it can."""
    if os.geteuid() != 0:
        return "only root may mount a file system"
    if not Path("/dev/fuse").exists():
        return "this system has no FUSE"
    try:
        import mfusepy  # noqa: F401
    except (ImportError, OSError) as error:
        return f"libfuse is not installed ({error})"
    return ""
