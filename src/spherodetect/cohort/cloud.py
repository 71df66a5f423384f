"""Photographs and results in cloud storage: addresses `s3://BUCKET/KEY` and `gs://BUCKET/KEY`.

Photographs are copied one by one into a working folder of this machine, and scored there. Results
are written there and copied at the end, each object whole or not at all. Where the program ends
early, the working folder stays, and the same call goes on with it. Credentials, region and endpoint
come from where the tools of the provider take them (AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL,
GOOGLE_APPLICATION_CREDENTIALS, CLOUD_STORAGE_EMULATOR_ENDPOINT). `gs://anonymous@BUCKET/KEY` reads
a public bucket without credentials. Arrow, which this package needs anyway, does the transfers.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from spherodetect.errors import SpherodetectError
from spherodetect.fields.manifest import MANIFEST_SUFFIXES
from spherodetect.fields.names import FOREIGN_SUFFIXES
from spherodetect.pipeline.review_record import FOLDER as REVIEWS
from spherodetect.report.results import HIDDEN, MARKER, pseudonym_key_path
from spherodetect.safety import atomic_write, inside, quoted, sha256

_ADDRESS = re.compile(r"(?:s3|gs)://[^/]+")
_ANONYMOUS = "anonymous@"
_AT_ONCE = 8
_CHUNK_BYTES = 2**23
#: Free space that a copy leaves on the disk.
_SPARE_BYTES = 2**30
#: Arrow tries an address of Google's for 15 minutes, also where there are no credentials.
_GOOGLE_RETRIES = timedelta(seconds=30)
#: Called with the number of copied files, the number of all, and the next one's name.
Copying = Callable[[int, int, str], None]


def is_cloud(place: str | Path) -> bool:
    """Whether a text is an address in cloud storage.

    >>> is_cloud("s3://lab/smears"), is_cloud("smears")
    (True, False)
    """
    return _ADDRESS.match(str(place)) is not None


@contextlib.contextmanager
def nearby(
    paths: Sequence[str | Path], out: str | Path | None, *, progress: Copying
) -> Iterator[tuple[list[Path], Path | None]]:
    """Yields the paths of copies of what lies in cloud storage, and of the folder to write to.

    If the block ends well, the results are copied to their address, and the working folder is
    removed.

    Args:
        paths: paths and addresses.
        out: a folder, an address, or None.
        progress: told of every copy.

    Raises:
        SpherodetectError: an address cannot be read or written, or the disk has not enough space.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    text = json.dumps([*map(str, paths), str(out)])
    work = cache / "spherodetect" / "cloud" / sha256(text.encode())[:16]
    copies = []
    for number, path in enumerate(paths):
        if is_cloud(path):
            with _naming(str(path)):
                copies.append(_copy_in(str(path), work / "in" / str(number), progress))
        else:
            copies.append(Path(path))
    if out is None or not is_cloud(out):
        yield copies, Path(out) if out is not None else None
    else:
        with _naming(str(out)):
            results = _Results(str(out), work / "out")
            results.copy_in()
        yield copies, results.folder
        with _naming(str(out)):
            results.copy_out(progress)
    shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _naming(address: str) -> Iterator[None]:
    """A block whose failures of the transfer name the address."""
    try:
        yield
    except (OSError, ValueError) as problem:
        # Google's client repeats its message in a list of details.
        why = str(problem).partition("\n")[0].partition(" error_info=")[0]
        raise SpherodetectError(
            f"{quoted(address)}: cannot be reached ({why}); look at the address, the credentials, "
            "AWS_REGION and AWS_ENDPOINT_URL, or GOOGLE_APPLICATION_CREDENTIALS"
        ) from problem


def _opened(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    from pyarrow import fs

    scheme, _, path = address.partition("://")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if scheme == "s3" and endpoint:
        # Arrow would ask Amazon for the region of the bucket.
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        kind, _, host = endpoint.rpartition("://")
        system = fs.S3FileSystem(endpoint_override=host, scheme=kind or "https", region=region)
        return system, path.rstrip("/")
    if scheme == "gs":
        # An emulator takes no credentials, and Arrow would look for some.
        anonymous = path.startswith(_ANONYMOUS) or "CLOUD_STORAGE_EMULATOR_ENDPOINT" in os.environ
        system = fs.GcsFileSystem(anonymous=anonymous, retry_time_limit=_GOOGLE_RETRIES)
        return system, path.removeprefix(_ANONYMOUS).rstrip("/")
    system, path = fs.FileSystem.from_uri(address)
    return system, path.rstrip("/")


def _files(system: Any, folder: str) -> list[Any]:
    """All files below a folder, as Arrow's FileInfo."""
    from pyarrow import fs

    selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
    return [one for one in system.get_file_info(selector) if one.is_file]


def _copy_in(address: str, folder: Path, progress: Copying) -> Path:
    """Copy what an address names below a folder; returns the copy."""
    system, path = _opened(address)
    name = PurePosixPath(path).name
    info = system.get_file_info(path)
    root = path
    if info.is_file:
        # The rows of a manifest name photographs that lie beside it.
        suffix = PurePosixPath(path).suffix.lower()
        root = str(PurePosixPath(path).parent)
        files = _files(system, root) if suffix in MANIFEST_SUFFIXES else [info]
        target, copy = folder / PurePosixPath(root).name, folder / PurePosixPath(root).name / name
    else:
        files = _files(system, path)
        target = copy = folder / name
    if not files:
        raise SpherodetectError(f"{quoted(address)}: expected photographs, got nothing there")
    wanted = [(one, inside(target, one.path[len(root) :].lstrip("/"))) for one in files]
    wanted = [(one, place) for one, place in wanted if _is_wanted(place.relative_to(target))]
    _copy_files(system, [both for both in wanted if not _is_there(*both)], target, progress)
    return copy


def _is_wanted(name: Path) -> bool:
    return not any(part.startswith(".") for part in name.parts)


def _is_there(one: Any, place: Path) -> bool:
    size = 0 if place.suffix.lower() in FOREIGN_SUFFIXES else one.size
    return place.is_file() and place.stat().st_size == size


def _copy_files(
    system: Any, wanted: Sequence[tuple[Any, Path]], target: Path, progress: Copying
) -> None:
    target.mkdir(parents=True, exist_ok=True)
    needed = sum(one.size for one, _ in wanted)
    if needed + _SPARE_BYTES > shutil.disk_usage(target).free:
        raise SpherodetectError(
            f"{quoted(target)}: expected {(needed + _SPARE_BYTES) / 2**30:.1f} GiB of free space "
            "for the copies; name another disk in XDG_CACHE_HOME, or score fewer patients"
        )

    def copy(both: tuple[Any, Path]) -> None:
        one, place = both
        with atomic_write(place) as file:
            # Files that are only named as left out need no content.
            if place.suffix.lower() not in FOREIGN_SUFFIXES:
                with system.open_input_stream(one.path) as stream:
                    shutil.copyfileobj(stream, file, _CHUNK_BYTES)

    _in_threads(copy, wanted, [place.name for _, place in wanted], progress)


def _in_threads(
    call: Callable[[Any], None], arguments: Sequence[Any], names: Sequence[str], progress: Copying
) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            for number, _ in enumerate(pool.map(call, arguments), 1):
                progress(number, len(names), f"copying {names[number - 1]}")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class _Results:
    """A folder of results and its address.

    Args:
        address: where the results go.
        parent: the folder's parent on this machine.
    """

    def __init__(self, address: str, parent: Path) -> None:
        self._system, self._path = _opened(address)
        self.folder = parent / (PurePosixPath(self._path).name or "results")
        self._key = pseudonym_key_path(self.folder)
        self._remote_key = str(PurePosixPath(self._path).with_name(self._key.name))
        self._before: set[str] = set()

    def copy_in(self) -> None:
        """Copy what a run takes from earlier results: finished fields, overlays and reviews."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._read(f"{HIDDEN}/written.txt")
        journal = self.folder / HIDDEN / "written.txt"
        written = set()
        if journal.is_file():
            written = {json.loads(line) for line in journal.read_text("utf-8").splitlines()}
        for part in (HIDDEN, REVIEWS):
            for one in _files(self._system, f"{self._path}/{part}"):
                written.add(one.path[len(self._path) + 1 :])
        self._before = {name for name in written if self._read(name)}
        self._read_to(self._remote_key, self._key)

    def _read(self, name: str) -> bool:
        return self._read_to(f"{self._path}/{name}", inside(self.folder, name))

    def _read_to(self, path: str, place: Path) -> bool:
        """Copy one object, unless a run that ended early has it already; returns whether there is
        one."""
        if not self._system.get_file_info(path).is_file:
            return False
        if not place.exists():
            with atomic_write(place) as file, self._system.open_input_stream(path) as stream:
                shutil.copyfileobj(stream, file, _CHUNK_BYTES)
        return True

    def copy_out(self, progress: Copying) -> None:
        """Copy the results; a notice lies with them until all are there."""
        names = sorted(
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if path.is_file() and path.name != "lock"
        )
        self._write(f"{self._path}/{MARKER}", b"These results are being copied.\n")
        _in_threads(
            lambda name: self._write(f"{self._path}/{name}", self.folder / name),
            names,
            names,
            progress,
        )
        if self._key.is_file():
            self._write(self._remote_key, self._key)
        for name in {*self._before, MARKER} - set(names):
            with contextlib.suppress(FileNotFoundError):
                self._system.delete_file(f"{self._path}/{name}")

    def _write(self, path: str, content: Path | bytes) -> None:
        """Write one object. It appears when its last byte is there."""
        parts: Iterable[bytes] = [content] if isinstance(content, bytes) else _chunks(content)
        self._system.create_dir(str(PurePosixPath(path).parent), recursive=True)
        try:
            with self._system.open_output_stream(path) as stream:
                for part in parts:
                    stream.write(part)
        except BaseException:
            # Arrow ends an object on errors too.
            with contextlib.suppress(Exception):
                self._system.delete_file(path)
            raise


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(_CHUNK_BYTES):
            yield part


__all__ = ["is_cloud", "nearby"]
