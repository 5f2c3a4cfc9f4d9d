"""A command of the user's does not outlive us: it would go on using a session that nobody holds.

However we end, `kill -9` included, the kernel ends it then; Linux alone can be asked for that, and
not for what the command has started itself. Knows nothing of leases.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

PR_SET_PDEATHSIG: Final = 1
"""From <linux/prctl.h>: which signal a process gets as its parent ends."""


def tie() -> Callable[[], None] | None:
    """What a child does before it becomes the command (`preexec_fn`); None where nothing can be.

    Call it, and start the child, in the main thread: "parent" means the thread that started it.
    The other threads do no harm. Between fork and exec the child makes two system calls, whose
    function was looked up before, and takes no lock.
    """
    if sys.platform != "linux":
        return None
    ask, us = ctypes.CDLL(None).prctl, os.getpid()

    def before() -> None:
        # SIGKILL, since there is one signal only, and a command may do without any other.
        ask(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != us:  # we ended meanwhile, which nobody will tell it
            os._exit(1)

    return before
