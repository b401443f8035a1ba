"""What is done with an arrival: claim, examine, record, look after the original.

In this order, each step on disk before the next: a process killed anywhere is gone on with, and nothing is done twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from bonefrac.decode import MAX_BYTES
from bonefrac.errors import OutputError
from bonefrac.examiner import illustrator
from bonefrac.inbox import Arrival, Inbox
from bonefrac.ledger import Film, Ledger, New
from bonefrac.model import Model
from bonefrac.mounts import away, mount_point
from bonefrac.originals import archive, quarantine
from bonefrac.pipeline import Examiner, Unchanged, examine
from bonefrac.results import Failure, FailureStatus, Result, Source
from bonefrac.sinks import picture_path
from bonefrac.sources import FilmFile
from bonefrac.status import utc_now

MOST_ATTEMPTS = 3
MOST_MOVED = 100  # originals a round, so that a stop and the heartbeat never wait long
_SET_ASIDE = f"set aside: the program ended {MOST_ATTEMPTS} times while it had this file in hand; look at it yourself"


@dataclass(frozen=True)
class Handling:
    """How films are dealt with. `shown` gives the name that outputs bear; `told` hears of each film that is done."""

    out: Path
    annotated: str
    by_day: bool
    shown: Callable[[str], str]
    told: Callable[[int, New, Result | None], None]  # its number; no result: a copy of an earlier film
    workers: int = 1
    batch_size: int = 1
    archive: Path | None = None
    quarantine: Path | None = None


@dataclass(frozen=True)
class _InHand:
    arrival: Arrival
    new: New
    film: Film


class Desk:
    """Takes what the inbox gives. `trouble` is the last thing that went wrong with originals, or empty."""

    def __init__(self, ledger: Ledger, inbox: Inbox, model: Model, handling: Handling) -> None:
        self._ledger, self._inbox, self._handling = ledger, inbox, handling
        self._model = {"model": model.name, "model_sha256": model.sha256, "precision": model.precision}
        self._pictures: dict[str, Path] = {}  # of the films in hand, by shown name
        self._how = Examiner(
            model,
            batch_size=handling.batch_size,
            workers=handling.workers,
            illustrate=illustrator(model, handling.annotated, self._pictures.__getitem__),
        )
        self.trouble = ""
        for picture in ledger.cut_off_pictures():
            _remove(handling.out / picture)

    def work(self, now_s: float, enough: Callable[[], bool]) -> int:
        """Deal with what is ready until there is no more, or `enough` says so; returns how many were dealt with.

        Films that an earlier process had in hand when it ended come last and one at a time, so that the one that ended
        it is known from the others. Raises OutputError; what is not recorded then arrives again.
        """
        done: list[Arrival] = []
        suspects: list[Arrival] = []
        self._examine(self._claimed(self._inbox.ready(now_s, enough), enough, done, suspects), done)
        self._examine(self._claimed(suspects, lambda: False, done, None), done)
        self._ledger.commit()
        self._look_after(done, now_s)
        return len(done)

    def _claimed(
        self,
        arrivals: Iterable[Arrival],
        enough: Callable[[], bool],
        done: list[Arrival],
        suspects: list[Arrival] | None,
    ) -> Iterator[_InHand]:
        """What has to be examined, claimed; what need not be joins `done`. Whatever is neither arrives again."""
        moves = self._handling.archive or self._handling.quarantine
        for arrival in arrivals:
            if enough() or (moves and len(done) >= MOST_MOVED):
                return
            film = self._ledger.find(arrival.name, arrival.sha256)
            new = self._new(arrival, film)
            if self._is_dealt_with(arrival, film, new):
                done.append(replace(arrival, content=None))
            elif self._ledger.same_content(arrival.name, arrival.sha256) is not None:
                continue  # in hand under another name
            elif film is not None and film.attempts and suspects is not None:
                if not suspects:  # one a round, so that each has its turn however many others keep arriving
                    suspects.append(arrival)
            else:
                yield _InHand(arrival, new, self._ledger.claim(film, new))

    def _is_dealt_with(self, arrival: Arrival, film: Film | None, new: New) -> bool:
        """Deal with what need not be examined, for it was before, or cannot be."""
        if film is not None and film.done:
            return True
        if arrival.problem:
            self._fail(arrival, new, self._ledger.claim(film, new), "failed", arrival.problem)
            return True
        if arrival.content is None:
            too_large = f"the file is larger than {MAX_BYTES // 2**20} MB"
            self._fail(arrival, new, self._ledger.claim(film, new), "not_analysed", too_large)
            return True
        if film is not None and film.attempts >= MOST_ATTEMPTS:
            self._fail(arrival, new, film, "failed", _SET_ASIDE)
            return True
        first = self._ledger.same_content(arrival.name, arrival.sha256)
        if first is not None and first.done:
            if film is not None and film.picture:  # of another model: a copy has none of its own
                _remove(self._handling.out / film.picture)
            self._handling.told(self._ledger.copy(first, new, film), new, None)
            return True
        return False

    def _examine(self, films: Iterator[_InHand], done: list[Arrival]) -> None:
        in_hand: deque[_InHand] = deque()

        def files() -> Iterator[FilmFile]:
            for item in films:
                in_hand.append(item)
                picture = self._pictures[item.new.shown] = self._handling.out / item.film.picture
                _remove(picture)  # of an attempt that was cut off, or of another model
                yield FilmFile(item.arrival.path, item.new.shown, content=item.arrival.content)

        for result in examine(files(), self._how):
            assert not isinstance(result, Unchanged)  # nothing was said to be known
            item = in_hand.popleft()
            self._record(item, result)
            done.append(replace(item.arrival, content=None))

    def _fail(self, arrival: Arrival, new: New, film: Film, status: FailureStatus, message: str) -> None:
        self._record(_InHand(arrival, new, film), Failure(Source(new.shown, arrival.sha256), status, message))

    def _record(self, item: _InHand, result: Result) -> None:
        self._pictures.pop(item.new.shown, None)
        picture = item.film.picture if (self._handling.out / item.film.picture).is_file() else ""
        self._ledger.finish(item.film, result, self._model, picture=picture, now=utc_now())
        self._handling.told(item.film.number, item.new, result)

    def _look_after(self, done: list[Arrival], now_s: float) -> None:
        """Archive and quarantine what is recorded; then, and only then, a film is no longer waited for."""
        if not self._inbox.postponed:
            self.trouble = ""
        settled: list[tuple[Arrival, bool]] = []
        for arrival in done:
            try:
                settled.append((arrival, self._moved(arrival)))
            except OutputError as error:
                self.trouble = str(error)
                self._inbox.postpone(arrival, now_s)
        for arrival, moved in settled:
            if arrival.sha256 and not moved:
                self._ledger.saw(arrival.name, arrival.look)
        self._ledger.commit()
        for arrival, moved in settled:
            self._inbox.done(arrival, moved=moved)

    def _moved(self, arrival: Arrival) -> bool:
        """Do with the original as asked; True where it is no longer in the inbox."""
        to_archive, to_quarantine = self._handling.archive, self._handling.quarantine
        if to_archive is None and to_quarantine is None:
            return False
        status, message = self._ledger.outcome(arrival.name, arrival.sha256)
        if to_archive is not None and status == "ok":
            self._check_presence(to_archive, "archive")
            return archive(arrival.path, arrival.name, sha256=arrival.sha256, look=arrival.look, folder=to_archive)
        if to_quarantine is not None and status == "failed":
            self._check_presence(to_quarantine, "quarantine")
            quarantine(arrival.path, arrival.name, sha256=arrival.sha256, reason=message, folder=to_quarantine)
        return False

    def _check_presence(self, folder: Path, what: str) -> None:
        """Raises OutputError where the share that the folder lies on is away. A folder never seen before is made."""
        mounted_on = self._ledger.recall(f"{what} mounted_on")
        if not mounted_on:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(
                    f"the {what} cannot be made: {error.strerror}; originals stay in the inbox"
                ) from error
        if why := away(folder, mounted_on):
            raise OutputError(f"the {what} {why}; originals stay in the inbox")
        self._ledger.remember(f"{what} mounted_on", mount_point(folder))

    def _new(self, arrival: Arrival, film: Film | None) -> New:
        shown = self._handling.shown(arrival.name)
        day = film.day if film else datetime.now().astimezone().date().isoformat()
        folder = Path(day, "annotated") if self._handling.by_day else Path("annotated")
        # a second content of one name gets a picture of its own
        name = f"{shown}.{arrival.sha256[:12]}" if self._ledger.has_name(arrival.name) else shown
        return New(arrival.name, arrival.sha256, shown, day, picture_path(folder, name).as_posix(), utc_now())


def _remove(picture: Path) -> None:
    with suppress(IsADirectoryError, NotADirectoryError):  # no picture, then: a folder of that name
        picture.unlink(missing_ok=True)
