"""Ways to break things: files that are damaged, processes that are killed."""

import os
import signal
import subprocess
import sys
import time

import tiny_runs


def started(what, folder):
    """A process that runs ``tiny_runs.py``; the caller kills it."""
    return subprocess.Popen([sys.executable, tiny_runs.__file__, what, str(folder)], stderr=subprocess.PIPE)


def wait_until(condition, process, seconds=120):
    """Poll until ``condition()``; fails, with what the process said, if it ends before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()


def damaged(content):
    """Ways in which a file can be broken."""
    middle = len(content) // 2
    # So many that some lie outside of the padding between tensors.
    flipped = bytes(byte ^ 1 for byte in content[middle : middle + 128])
    return {
        "altered": content[:middle] + flipped + content[middle + 128 :],
        "truncated": content[:middle],
        "empty": b"",
        "other": b"not a checkpoint",
    }
