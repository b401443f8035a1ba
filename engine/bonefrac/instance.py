"""One watcher an inbox: a lock that dies with its process, and a note beside it of who holds it."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_state_path

from bonefrac.errors import UsageError
from bonefrac.status import boot_id


@contextmanager
def only_one(inbox: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the inbox' lock. Raises UsageError while another process holds it.

    The lock lies in the user's own state folder, for an inbox may be read-only; where the system allows, the inbox
    itself is locked too, which other users of this machine see. The operating system lets both go when the process
    ends, however that ends: then the inbox is taken over, and `say` is told.
    """
    folder = user_state_path("bonefrac") / "inboxes"
    stem = hashlib.sha256(os.fsencode(os.path.realpath(inbox))).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{stem}.lock", mode=0o600)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UsageError(f"{inbox}: is being watched already{_by(folder / stem)}; stop that first") from error
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be written ({error.strerror}), and one watcher an inbox cannot be made sure of; "
            "set XDG_STATE_HOME to a folder that can"
        ) from error
    holder = folder / stem
    try:
        if holder.exists():
            say(f"took over the inbox from a watcher that ended without a word{_by(holder)}")
        with suppress(OSError):  # a full disk: it is only a note, and the lock holds without
            holder.write_text(json.dumps({"pid": os.getpid(), "boot_id": boot_id()}))
        with _folder_locked(inbox):
            yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


@contextmanager
def _folder_locked(folder: Path) -> Iterator[None]:
    """flock(2) on a folder needs no right to write. Not on Windows, not on all shares: there, the file has to do."""
    with ExitStack() as stack:
        if sys.platform != "win32":
            import fcntl

            try:
                handle = os.open(folder, os.O_RDONLY)
                stack.callback(os.close, handle)
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"{folder}: is being watched already, by another user of this PC") from error
            except OSError:
                pass  # away, or a share that knows no such locks
        yield


def _by(holder: Path) -> str:
    try:
        facts = json.loads(holder.read_text())
        when = "" if facts["boot_id"] == boot_id() else ", before the last start of this PC"
        return f" (process {facts['pid']}{when})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
