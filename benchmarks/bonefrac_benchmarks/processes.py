"""Peers in processes of their own, each loaded once and idle while another is measured."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection

from bonefrac.errors import BonefracError, UsageError
from bonefrac_benchmarks.peak import peak_bytes
from bonefrac_benchmarks.peers import Job, Measure, Peer, Window

_PATIENCE_S = 60.0


@contextmanager
def started(peer: Peer, job: Job) -> Iterator[Measure]:
    """A peer's `measure`, answered by a fresh process; it is spawned, for ONNX Runtime does not survive a fork. `peer`
    is a function of a module, which the process imports."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, peer, job), name=peer.__name__, daemon=True)
    process.start()
    theirs.close()

    def measure(passes: int) -> Window:
        with suppress(BrokenPipeError, ConnectionResetError):  # a peer that gave up has sent its reason before
            ours.send(passes)
        try:
            answer = ours.recv()
        except (EOFError, ConnectionResetError) as error:
            raise UsageError(
                f"the peer '{peer.__name__}' died while it was measured; is there enough memory?"
            ) from error
        if isinstance(answer, BonefracError):
            raise answer
        assert isinstance(answer, Window)
        return answer

    try:
        yield measure
    finally:
        ours.close()  # the peer ends by itself, after the window it may be in, and leaves no temporary folder behind
        process.join(_PATIENCE_S)
        process.terminate()
        process.join()
        process.close()


def _serve(connection: Connection, peer: Peer, job: Job) -> None:
    """In the peer's process: measure whenever asked, until the other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which ends us
    try:
        measure = peer(job)
        while True:
            window = measure(connection.recv())
            connection.send(replace(window, peak_mb=peak_bytes() / 1e6))
    except BonefracError as error:
        connection.send(error)
    except (EOFError, BrokenPipeError):
        return
