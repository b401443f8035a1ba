"""One watched inbox: check the folders, take the lock, open the journal, hand over to the watcher's loop.

Puts the rooms together for `bonefrac watch`. The folder's listing and the ledger are the truth.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from platformdirs import user_state_path

from bonefrac.errors import OutputError, UsageError
from bonefrac.examiner import result_key
from bonefrac.instance import only_one
from bonefrac.ledger import Ledger
from bonefrac.log import Log
from bonefrac.mounts import file_system, is_remote
from bonefrac.outputs import apart, claim, remove_parts
from bonefrac.sinks import atomic
from bonefrac.sources import OWN_FOLDER
from bonefrac.status import boot_id
from bonefrac.tuned import load_ready
from bonefrac.wake import Wake
from bonefrac.watcher import LEDGER, Parts, Watcher, WatchSettings, Wish

_PLACE = "journal-lies-in"  # a file: results whose journal lies elsewhere must not be begun anew


def watch(settings: WatchSettings, wish: Wish) -> Counter[str]:
    """Watch until stopped, or with `once` until nothing waits; returns counts of what this run dealt with.

    Raises UsageError (or its kinds) when it cannot begin as asked.
    """
    with ExitStack() as stack:
        try:
            watcher = _set_up(settings, wish, stack)
        except OSError as error:
            raise UsageError(f"{error.filename}: cannot be made, read or written: {error.strerror}") from error
        return watcher.run()


def _set_up(settings: WatchSettings, wish: Wish, stack: ExitStack) -> Watcher:
    """The watcher, with all that it needs open on `stack`."""
    inbox, out, state = _folders(settings)
    ready = load_ready(settings.model, device=settings.device, precision=settings.precision, workers=settings.workers)
    model = ready.model
    said = [ready.warning] if ready.warning else []
    stack.enter_context(only_one(inbox, said.append))
    claim(out)
    state.mkdir(parents=True, exist_ok=True)
    _note_place(out, state)
    log = stack.enter_context(Log(out / "watch.log", as_json=settings.log_json, quiet=settings.quiet))
    for line in said:
        log.warning(line)
    owner = f"{boot_id()}-{os.getpid()}-{secrets.token_hex(4)}"
    ledger = Ledger(state / LEDGER, owner=owner, key=result_key(model, settings.annotate))
    stack.enter_context(ledger)
    _agree(ledger, settings, inbox)
    for folder in (out, settings.archive, settings.quarantine):
        if folder is not None:
            remove_parts(folder)
    wake = stack.enter_context(Wake(inbox, poll=settings.poll, say=log.info))
    wish.wake = wake.now
    return Watcher(settings, inbox, Parts(out, state, ledger, log, wake, model, ready.way), wish)


def _folders(settings: WatchSettings) -> tuple[Path, Path, Path]:
    """Inbox, output and state folder, absolute. Raises UsageError where they are in each other's way."""
    inbox, out = Path(os.path.abspath(settings.inbox)), Path(os.path.abspath(settings.out))
    state = Path(os.path.abspath(settings.state)) if settings.state else out / OWN_FOLDER
    if not inbox.is_dir() and not (state / LEDGER).exists():  # a known inbox may be away, and come back
        raise UsageError(f"{settings.inbox}: there is no such folder")
    if settings.state and (state / LEDGER).exists() and not (out / OWN_FOLDER).is_dir():
        raise OutputError(f"{out}: is not there, but its journal is: mount it, or choose a new --state with it")
    place = _noted_place(out)
    if place is not None and place != state:
        raise OutputError(f"{out}: its journal lies in {place}: add --state {place}, or choose a new --out")
    if (inbox / OWN_FOLDER).is_dir():
        raise UsageError(f"{settings.inbox}: holds results of bonefrac, which are never films; choose another inbox")
    others = {"--out": out, "--state": state, "--archive": settings.archive, "--quarantine": settings.quarantine}
    for option, folder in others.items():
        if folder is not None:
            apart(inbox, Path(os.path.abspath(folder)), option)
    if is_remote(state):
        raise UsageError(
            f"{state}: lies on a network ({file_system(state) or 'share'}), where the journal is not safe; "
            f"keep it on this PC with --state DIR, for example --state {user_state_path('bonefrac') / 'journal'}"
        )
    if settings.archive is not None and inbox.is_dir() and not os.access(inbox, os.W_OK):
        raise UsageError(f"{settings.inbox}: is read-only, so nothing can be moved to an archive; leave --archive out")
    return inbox, out, state


def _noted_place(out: Path) -> Path | None:
    """Where the journal of these results lies, or None where there are none yet."""
    try:
        return out / (out / OWN_FOLDER / _PLACE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _note_place(out: Path, state: Path) -> None:
    if _noted_place(out) is None:
        with atomic(out / OWN_FOLDER / _PLACE) as file:
            file.write((OWN_FOLDER if state == out / OWN_FOLDER else str(state)).encode())


def _agree(ledger: Ledger, settings: WatchSettings, inbox: Path) -> None:
    """Raises UsageError where the output folder was begun for another inbox, or in another way."""
    for name, value, words in (
        ("inbox", str(inbox), "another inbox"),
        ("redact", str(settings.redact), f"the run {'without' if settings.redact else 'with'} --redact"),
        ("by_day", str(settings.by_day), f"the run {'without' if settings.by_day else 'with'} --by-day"),
    ):
        if ledger.recall(name) not in ("", value):
            raise UsageError(f"{settings.out}: holds the results of {words}; choose another --out")
        ledger.remember(name, value)
    ledger.commit()
