"""Where an embedded server lives: its folder, its socket, its user, and its processes."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

SOCKET_PATH_BYTES_MAX = 100  # the kernel takes 107, macOS 103
POLL_SECONDS = 0.01

_ACL_XATTR = "system.posix_acl_access"
_ACL_VERSION = 2
_ACL_USER_OBJ, _ACL_USER, _ACL_GROUP_OBJ, _ACL_MASK, _ACL_OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_ACL_NO_ID = 0xFFFFFFFF
_SEARCH = 1


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The ordinary user that a server runs as when we are root."""

    name: str
    uid: int
    gid: int


def server_user() -> ServerUser | None:
    """None for an ordinary user, who runs the server himself; else `pgserver`, or `nobody`."""
    if os.geteuid() != 0:
        return None
    for name in ("pgserver", "nobody"):
        if name == "pgserver" and not _has_user(name) and shutil.which("useradd"):
            # A second program may be making it at this moment; what counts is that it is there.
            subprocess.run(
                ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", name],
                capture_output=True,
                check=False,
            )
        if _has_user(name):
            entry = pwd.getpwnam(name)
            return ServerUser(name, entry.pw_uid, entry.pw_gid)
    raise PermissionError("running as root, and there is no ordinary user to run Postgres as")


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


class Place:
    """A server's folder, and a folder for its socket with a path short enough for the kernel."""

    def __init__(self, folder: Path, *, socket_file: str) -> None:
        self.folder = folder.expanduser().resolve()
        inside = os.fsencode(self.folder / socket_file)
        if len(inside) <= SOCKET_PATH_BYTES_MAX:
            self.sockets = self.folder
        else:
            digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
            self.sockets = Path(tempfile.gettempdir()) / f"tollgate-{digest}"

    def make(self, user: ServerUser | None) -> None:
        """Make both folders, open to the server's user alone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.sockets.mkdir(parents=True, exist_ok=True)
        for folder in {self.folder, self.sockets}:
            owner = folder.stat().st_uid
            allowed = {os.geteuid(), 0 if os.geteuid() == 0 else os.geteuid()}
            if user is not None:
                allowed.add(user.uid)
            # The temporary folder is everybody's; somebody else's folder is not one to trust.
            if owner not in allowed:
                raise PermissionError(f"{folder} belongs to another user")
            folder.chmod(0o700)
            if user is not None and owner != user.uid:
                os.chown(folder, user.uid, user.gid)


class LockedFolder:
    """Held while a server is started, so that two programs do not start two."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "start.lock"

    def __enter__(self) -> None:
        self._file = self._path.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def let_reach(path: Path, user: ServerUser) -> None:
    """Let a user pass through the directories above `path`, where he cannot already."""
    for directory in reversed(path.parents):
        if not _may_search(directory.stat(), user):
            _let_search(directory, user)


def let_read(tree: Path, user: ServerUser) -> None:
    """Let others read and run a wheel's public files, installed under a umask that hides them."""
    if not tree.exists() or _may_search(tree.stat(), user):
        return
    for entry in [tree, *tree.rglob("*")]:
        if not entry.is_symlink():
            mode = entry.stat().st_mode
            runs = stat.S_IXOTH if mode & stat.S_IXUSR else 0
            entry.chmod(mode | stat.S_IROTH | runs)


def _may_search(found: os.stat_result, user: ServerUser) -> bool:
    if found.st_uid == user.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == user.gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def _let_search(directory: Path, user: ServerUser) -> None:
    try:
        _add_search_entry(directory, user)
    except (OSError, AttributeError):  # this file system, or this system, has no such entries
        directory.chmod(directory.stat().st_mode | stat.S_IXOTH)


def _add_search_entry(directory: Path, user: ServerUser) -> None:
    mode = directory.stat().st_mode
    try:
        raw = os.getxattr(directory, _ACL_XATTR)
        entries = [struct.unpack_from("<HHI", raw, 4 + 8 * i) for i in range((len(raw) - 4) // 8)]
    except OSError:
        entries = [
            (_ACL_USER_OBJ, mode >> 6 & 7, _ACL_NO_ID),
            (_ACL_GROUP_OBJ, mode >> 3 & 7, _ACL_NO_ID),
            (_ACL_OTHER, mode & 7, _ACL_NO_ID),
        ]
    rest = [e for e in entries if e[0] != _ACL_MASK and (e[0], e[2]) != (_ACL_USER, user.uid)]
    rest.append((_ACL_USER, _SEARCH, user.uid))
    mask = 0
    for tag, permissions, _ in rest:
        if tag not in (_ACL_USER_OBJ, _ACL_OTHER):
            mask |= permissions
    rest.append((_ACL_MASK, mask, _ACL_NO_ID))
    packed = struct.pack("<I", _ACL_VERSION)
    packed += b"".join(struct.pack("<HHI", *entry) for entry in sorted(rest, key=_acl_order))
    os.setxattr(directory, _ACL_XATTR, packed)


def _acl_order(entry: tuple[int, ...]) -> tuple[int, int]:
    return entry[0], entry[2]


# --- processes ------------------------------------------------------------------------------------


def is_running(pid: int, program: str | None = None) -> bool:
    """Whether a process lives, is no zombie, and (where that can be told) is that program."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False  # another user's process that was given the number of one of ours
    try:
        about = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return not Path("/proc/self").exists()  # no /proc on this system: signal 0 must do
    name, _, rest = about.partition("(")[2].rpartition(")")
    return rest.split()[0] != "Z" and (program is None or name == program[:15])


def terminate(pid: int, program: str | None, *, urgent: bool, seconds_max: float) -> None:
    """Ask a process to stop, wait for it, and kill its tree when the time is over.

    `urgent` sends SIGINT, which Postgres takes as "cut the connections", instead of SIGTERM.
    """
    os.kill(pid, signal.SIGINT if urgent else signal.SIGTERM)
    if not wait_until_gone(pid, program, seconds_max):
        kill_tree(pid)


def wait_until_gone(pid: int, program: str | None, seconds_max: float) -> bool:
    """Whether the process was gone within the time."""
    deadline = time.monotonic() + seconds_max
    while is_running(pid, program):
        reap(pid)
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    reap(pid)
    return True


def kill_tree(pid: int) -> None:
    """SIGKILL a process and its children, the parent first so that it starts no others."""
    family = [pid, *_children(pid)]
    for member in family:
        try:
            os.kill(member, signal.SIGKILL)
        except ProcessLookupError:
            continue
    for member in family:
        wait_until_gone(member, None, 10.0)


def reap(pid: int) -> None:
    """Take note of a child's end, where it is our child, so that it is no zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            child = int(entry.parent.name)
            found.extend([child, *_children(child)])
    return found
