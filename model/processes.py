"""What processes need from the system and the interpreter. Starts none."""

import ctypes
import gc
import os
import resource
import secrets
import signal
import socket
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_DESCRIPTORS = (
    65_536  # enough for all we open; where "no limit" is allowed, some libraries loop over all there could be
)
_TURN = 0.0005  # seconds that a thread keeps the interpreter while others wait; Python's own is ten times as long


def name_owner(pid: int | None = None, *, once: bool = False) -> str:
    """The name of a process on this machine, by default of this one, as the owner of a duty.

    With `once`, another one each time: for a duty that several threads of a process take.
    """
    name = f"{socket.gethostname()}:{pid or os.getpid()}"
    return f"{name}:{secrets.token_hex(4)}" if once else name


def die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies, or more exactly the thread of it that started this one.

    Elsewhere nothing happens: such a child has to notice by itself.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it had died before the call
            os.kill(os.getpid(), signal.SIGKILL)


def allow_descriptors() -> None:
    """Raise the limit of open files and connections of this process, and of its children, to what the system allows.

    Systems begin with 1,024 for old programs, and let each program raise it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def give_way() -> None:
    """Let the threads of this process wait less for each other; for one that serves, when it has opened everything.

    What is open now is left out of the searches for garbage: of the half a million objects of a service each takes half
    a second, in which no thread runs. And a search, which needs the interpreter some twenty times, waits each time for
    the turn of a thread that follows the gallery.
    """
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_TURN)


def forget_closed() -> None:
    """Free what was open at `give_way` and is closed now; does nothing in a process that did not call it."""
    if gc.get_freeze_count():
        gc.unfreeze()
        give_way()
