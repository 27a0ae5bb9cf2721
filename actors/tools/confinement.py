"""What takes a process away from everything that is not its own: users, limits, namespaces. Linux only.

Three degrees, by what the machine allows (`probe`):

    namespaces   another user, and process, mount, IPC and network namespaces of its own (CAP_SYS_ADMIN)
    another user files, signals and /proc/*/environ of others are out of reach (root, or CAP_SETUID)
    neither      limits and a clean environment alone: no containment

Sources: prctl(2), unshare(2), setns(2), pid_namespaces(7), mount(2), mount_setattr(2), getrlimit(2), and the kernel's
Documentation/userspace-api/no_new_privs.rst.

Above it: `workshop`. Below it: the C library. Outside it: what runs inside.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

NEW_MOUNTS, NEW_IPC, NEW_PROCESSES, NEW_NETWORK = 0x20000, 0x8000000, 0x20000000, 0x40000000
"""Flags of unshare(2)."""

_DEATH_SIGNAL, _NO_NEW_PRIVILEGES, _SUBREAPER = 1, 38, 36
_NO_SUID, _NO_DEVICES, _NO_EXECUTION, _BIND, _RECURSIVE, _PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_MOUNT_SETATTR, _HERE, _ALL_BELOW, _READ_ONLY = 442, -100, 0x8000, 1
_DETACHED = 2
_NOBODY = 65534
_LIBC = ctypes.CDLL(None, use_errno=True)


class Isolation(msgspec.Struct, frozen=True):
    """What can be had here: another user for each call, and namespaces."""

    users: bool
    namespaces: bool


class Limits(msgspec.Struct, frozen=True):
    """What one call may use. seconds: of its own time; memory: bytes beyond what its process begins with; file: bytes
    of one file, and of its scratch directory."""

    seconds: float
    memory: int
    processes: int = 64
    files: int = 128
    file: int = 64 * 1024 * 1024


def probe() -> Isolation:
    """Try both, in processes that end at once."""
    return Isolation(_succeeds(lambda: become(_NOBODY)), _succeeds(_make_namespaces))


def unshare(flags: int) -> None:
    """Leave namespaces for new ones; a new process namespace is for the next child. OSError where refused."""
    _checked(_LIBC.unshare(flags))


def rejoin(namespace: int, kind: int) -> None:
    """Be in the namespace of this descriptor again; of NEW_PROCESSES, the next child. OSError where refused."""
    _checked(_LIBC.setns(namespace, kind))


def become(user: int) -> None:
    """Be another user, with a group of the same number, for good. OSError where refused."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends."""
    _checked(_LIBC.prctl(_SUBREAPER, 1, 0, 0, 0))


def die_with_parent(alive: int) -> None:
    """Get SIGKILL when the thread that made this process ends.

    alive: the reading end of a pipe that only the parent can write to: closed, the parent is dead already. A change
    of user forgets the wish (prctl(2)), so this comes after it.
    """
    _checked(_LIBC.prctl(_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0))
    if select.select([alive], [], [], 0)[0]:
        os._exit(1)


def renounce_privileges() -> None:
    """No program that is executed from here on gives more rights than there are."""
    _checked(_LIBC.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))


def limit(limits: Limits, began_with: int) -> None:
    """Set the limits of getrlimit(2) for this process and its children. began_with: bytes of its address space."""
    cpu = int(limits.seconds * (os.cpu_count() or 1)) + 1
    for what, most in (
        (resource.RLIMIT_AS, began_with + limits.memory),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_FSIZE, limits.file),
        (resource.RLIMIT_NOFILE, limits.files),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least))


def shut(hidden: Iterable[str], writable: Iterable[str], needed: Iterable[str], stage: str) -> None:
    """In new mount and IPC namespaces: these directories are empty, and nothing can be written but below `writable`.

    needed: what every user must reach (the interpreter, the packages); where a directory above it lets nobody in, a
    home, that one holds nothing else any more. stage: an empty directory, of use until this returns. Kernels before
    5.12 cannot make a whole tree read-only; there, files' own permissions decide.
    """
    unshare(NEW_MOUNTS | NEW_IPC)
    _mount("none", "/", "", _RECURSIVE | _PRIVATE)
    kept = [str(Path(path).resolve()) for path in writable if Path(path).is_dir()]
    _open_ways({Path(path).resolve() for path in (*needed, *kept) if Path(path).is_dir()}, stage)
    for path in kept:
        _mount(path, path, "", _BIND | _RECURSIVE)
    with contextlib.suppress(OSError):
        _set_read_only("/", True)
        for path in kept:
            _set_read_only(path, False)
    for path in filter(os.path.isdir, hidden):
        _mount("tmpfs", path, "tmpfs", _NO_SUID | _NO_DEVICES | _NO_EXECUTION, "size=4k,mode=700")


def _open_ways(needed: Iterable[Path], stage: str) -> None:
    """Put a directory that others may pass in the place of each that they may not, with nothing but what is needed."""
    barred: dict[Path, list[Path]] = {}
    for path in sorted(needed):
        first = next((one for one in reversed(path.parents) if not one.stat().st_mode & 1), None)
        if first is not None and not any(path.is_relative_to(one) for one in barred.get(first, ())):
            barred.setdefault(first, []).append(path)
    for first, paths in barred.items():
        _mount(str(first), stage, "", _BIND | _RECURSIVE)
        _mount("tmpfs", str(first), "tmpfs", _NO_SUID | _NO_DEVICES, "size=64k,mode=711")
        for path in paths:
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
            _mount(f"{stage}/{path.relative_to(first)}", str(path), "", _BIND | _RECURSIVE)
        _checked(_LIBC.umount2(stage.encode(), _DETACHED))


def furnish(scratch: str, user: int, size: int) -> None:
    """In a mount namespace of one's own: /proc with one's own processes alone, and two directories in memory.

    scratch: where the first of them is put, for `user` alone; the other is /dev/shm. size: bytes of each.
    """
    unshare(NEW_MOUNTS)
    _mount("proc", "/proc", "proc", _NO_SUID | _NO_DEVICES | _NO_EXECUTION)
    for path in (scratch, "/dev/shm"):
        _mount("tmpfs", path, "tmpfs", _NO_SUID | _NO_DEVICES, f"size={size},mode=700,uid={user},gid={user}")


def address_space() -> int:
    """Bytes of this process's address space (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def orphans(known: Iterable[int]) -> list[int]:
    """Children of this process that it has not made itself: what calls have left behind (proc(5), children)."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return sorted(set(map(int, children)) - set(known))


def end_all_of(user: int) -> None:
    """End every process of a user, but for zombies: what a workshop that was killed has left behind. Root's to call."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            become(user)
            # To all that one may send it to (kill(2)), which for another user are his own.
            os.kill(-1, signal.SIGKILL)
        os._exit(0)
    os.waitpid(child, 0)


def _make_namespaces() -> None:
    """All that `shut` and `furnish` need: some containers allow the first step and not the next."""
    unshare(NEW_MOUNTS | NEW_IPC | NEW_PROCESSES | NEW_NETWORK)
    _mount("none", "/", "", _RECURSIVE | _PRIVATE)
    furnish("/tmp", _NOBODY, 4096)


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    words = (source.encode(), target.encode(), kind.encode())
    _checked(_LIBC.mount(*words, ctypes.c_ulong(flags), options.encode()))


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


def _set_read_only(path: str, on: bool) -> None:
    change = _MountAttributes(set=_READ_ONLY if on else 0, clear=0 if on else _READ_ONLY)
    size = ctypes.c_size_t(ctypes.sizeof(change))
    _checked(_LIBC.syscall(_MOUNT_SETATTR, _HERE, path.encode(), _ALL_BELOW, ctypes.byref(change), size))


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _succeeds(attempt: Callable[[], None]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            attempt()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0
