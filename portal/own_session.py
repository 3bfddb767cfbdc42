"""``python -m portal.own_session COMMAND …``: run a command in a session of its own and end it gently.

A supervisor that ends a whole process group kills django-q2's helpers before its main process can let the slice in hand
be finished. Here the supervisor's signal reaches this process alone, which passes it on to the command's main process;
only what has not ended after the grace is killed, children included.
"""

import contextlib
import os
import signal
import subprocess
import sys
from types import FrameType

GRACE_S = 4.0


def main(command: list[str]) -> int:
    """Run ``command`` until it ends or a SIGTERM or SIGINT arrives; return its exit code."""
    child = subprocess.Popen(command, start_new_session=True)  # noqa: S603 - the caller's own command line

    def pass_on(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    try:
        return child.wait()
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(GRACE_S)
        return -signal.SIGKILL
    finally:
        # Whoever is left in the session has outlived the main process or the grace.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
