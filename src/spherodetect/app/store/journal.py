"""Which journal SQLite may use in a folder.

The write-ahead log needs memory that all programs share. Network drives and the Drive of Colab do
not have it, so a file there would be damaged; they get the rollback journal.
"""

from __future__ import annotations

from pathlib import Path

WAL, DELETE = "WAL", "DELETE"
#: File systems that lie on another machine, or behind a program, as /proc/mounts names them.
_REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "gpfs",
     "9p", "vboxsf", "vmhgfs", "davfs", "sshfs", "beegfs", "drvfs"}
)  # fmt: skip
_MOUNTS = Path("/proc/mounts")


def journal_mode(folder: str | Path, *, mounts: str | None = None) -> str:
    """WAL where the folder lies on a disk of this machine, else DELETE.

    Args:
        folder: an existing folder.
        mounts: the text of /proc/mounts, for tests. A system without that file is taken to have
            only disks of its own, except for paths of network shares.

    >>> journal_mode("/data/x", mounts="server:/data /data nfs4 rw 0 0")
    'DELETE'
    """
    path = Path(folder).resolve()
    if str(path).startswith("\\\\"):
        return DELETE
    if mounts is None:
        try:
            mounts = _MOUNTS.read_text(errors="replace")
        except OSError:
            return WAL
    kind, depth = "", -1
    for line in mounts.splitlines():
        _, place, name, *_ = [*line.split(" "), "", "", ""]
        mounted = Path(place.replace("\\040", " ") or "/")
        # Of two mounts on one place the later is in force.
        if path.is_relative_to(mounted) and len(mounted.parts) >= depth:
            kind, depth = name, len(mounted.parts)
    return DELETE if kind in _REMOTE or kind.startswith("fuse") else WAL


__all__ = ["DELETE", "WAL", "journal_mode"]
