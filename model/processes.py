"""What child processes need from the system. Starts none."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies, or more exactly the thread of it that started this one.

    Elsewhere nothing happens: such a child has to notice by itself.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it had died before the call
            os.kill(os.getpid(), signal.SIGKILL)
