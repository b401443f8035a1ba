"""How `bonefrac watch` starts with the machine: a systemd unit, a Windows task, and a word to systemd that it lives.

Sources: systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.syntax(7), sd_notify(3); Microsoft's "Task
Scheduler Schema" and [MS-TSCH] 2.5 for the task, `GetDriveTypeW` for letters; NSSM's README for the wrapper.
The Windows side was written from these and not tried on Windows.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PureWindowsPath
from xml.sax.saxutils import escape

from bonefrac.errors import UsageError

_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))  # what ProtectHome= means by home
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108  what PrivateTmp= hides; nothing is written there
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")  # in no unit, in no XML
_PLAIN = re.compile(r"[\w@%+=:,./-]+")  # needs no quotes in a unit
_REPLACED = re.compile(r"%[^%]+%|\$\(")  # Windows puts a variable's value there, and has no escape for it
_CMD_SPECIAL = re.compile(r'[()%!^"<>&|]')
_NO_ROOT_DIR, _REMOTE = 1, 4  # GetDriveTypeW; 1: mapped, but not for the administrator who asks

_UNIT = """\
# Written by `bonefrac service`. Put changes of your own into bonefrac.service.d/*.conf: a new one overwrites this file.
[Unit]
Description=bonefrac looks at every radiograph that arrives in a folder
# Only After=: with RequiresMountsFor= a share that is away at boot would leave this dead for ever, as Restart= does not
# count for a failed dependency, and WantsMountsFor= needs systemd 256. bonefrac itself waits for a share.
After=remote-fs.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload=kill -HUP $MAINPID
KillSignal=SIGTERM
KillMode=mixed
TimeoutStopSec=20
WatchdogSec=120
Restart=on-failure
RestartSec=5
Nice=5

User={user}
UMask=0077
StateDirectory=bonefrac
StateDirectoryMode=0700
Environment=XDG_STATE_HOME=%S
# no picture of a patient in a core dump
LimitCORE=0

ProtectSystem=strict
# "yes" hides /home and /root; "read-only" where a folder or the program lies there. Not "tmpfs" with BindPaths=: a
# folder that is away when the service starts would stay away.
ProtectHome={home}
PrivateTmp={temporary}
# A folder to write to has to be there; until it is, systemd tries again. The inbox is not named: "strict" keeps it
# read-only, and a name makes it a mount of its own, where a share that is unmounted and mounted again is not seen.
{folders}

CapabilityBoundingSet=
NoNewPrivileges=yes
PrivateDevices=yes
# Shares stay readable, for the system mounts them. Links into another server (DFS) may not: then set this to no.
PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""

# RestartOnFailure counts to 255 (the schema's unsignedByte) and is for a start that fails; the repeated trigger brings
# back a process that died. With IgnoreNew it does nothing while one runs.
_TASK = """\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo><Description>bonefrac looks at every radiograph that arrives</Description></RegistrationInfo>
  <Triggers>
    <BootTrigger><Enabled>true</Enabled><Repetition><Interval>PT5M</Interval></Repetition></BootTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author"><UserId>S-1-5-20</UserId><RunLevel>LeastPrivilege</RunLevel></Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <RunOnlyIfNetworkAvailable>false</RunOnlyIfNetworkAvailable>
    <IdleSettings><StopOnIdleEnd>false</StopOnIdleEnd><RestartOnIdle>false</RestartOnIdle></IdleSettings>
    <Enabled>true</Enabled>
    <Hidden>false</Hidden>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <RestartOnFailure><Interval>PT1M</Interval><Count>255</Count></RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec><Command>{program}</Command><Arguments>{arguments}</Arguments>{folder}</Exec>
  </Actions>
</Task>
"""


def systemd_unit(
    command: Sequence[str], *, reads: Sequence[Path], writes: Sequence[Path], user: str = "bonefrac"
) -> str:
    """A hardened unit that runs `command`, its program by its full path, as `user`; it may write only below `writes`.

    Whether it sees /home and /tmp at all is by what lies there of `reads`, `writes` and the program.
    Raises UsageError for a name that a unit cannot hold.
    """
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_-]*", user):
        raise UsageError(f"{user!r} is no user's name; give one of letters, digits, - and _")
    if not os.path.isabs(command[0]) or re.search(r"""["'\\]""", command[0]):
        raise UsageError(
            f"{command[0]!r} is not a full path without quotes and backslashes, as systemd wants a program's"
        )
    written = [os.path.abspath(folder) for folder in writes]
    needed = [*map(str, reads), *written, command[0], sys.prefix, sys.base_prefix]  # Python itself may lie below a home
    return _UNIT.format(
        # the program's own path is not searched for variables, so a $ in it stands as it is
        command=" ".join([_word(command[0]), *(_word(word.replace("$", "$$")) for word in command[1:])]),
        user=user,
        home="read-only" if _any_below(needed, _HOMES) else "yes",
        temporary="no" if _any_below(needed, _TEMPORARY) else "yes",
        folders="\n".join(f"ReadWritePaths={_word(folder)}" for folder in written),
    )


def _any_below(names: Iterable[str], roots: Iterable[Path]) -> bool:
    places = [place for name in map(_writable, names) for place in (Path(name), Path(name).resolve())]
    return any(place.is_relative_to(root) for place in places for root in roots)


def _word(text: str) -> str:
    """One word of a unit's setting: each `%` doubled, quoted where it has to be."""
    text = _writable(text).replace("%", "%%")
    if _PLAIN.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _writable(text: str) -> str:
    if _UNWRITABLE.search(text):
        raise UsageError(f"{text!r} has a line break or another character that cannot be written there; rename it")
    return text


def task_xml(command: Sequence[str], *, working_folder: Path | None = None) -> str:
    """A task for Windows' Task Scheduler, from boot on as NETWORK SERVICE; to be written as UTF-16 with its mark.

    Raises UsageError for a name that a task cannot hold.
    """
    program, arguments = _windows(command)
    folder = "" if working_folder is None else _windows([str(working_folder)])[0]
    return _TASK.format(
        program=escape(program),
        arguments=escape(subprocess.list2cmdline(arguments)),
        folder=folder and f"<WorkingDirectory>{escape(folder)}</WorkingDirectory>",
    )


def wrapper_lines(command: Sequence[str]) -> list[str]:
    """What to type at an administrator's prompt to have `command` as a service, with the wrapper NSSM.

    Raises UsageError for a name that a service cannot hold.
    """
    program, arguments = _windows(command)
    return [
        _prompt(["nssm", "install", "bonefrac", program]),
        # one word that holds the whole line: NSSM joins words by spaces and would lose their quotes
        _prompt(["nssm", "set", "bonefrac", "AppParameters", subprocess.list2cmdline(arguments)]),
        "nssm set bonefrac AppStopMethodConsole 15000",  # ms for the film in hand, after Ctrl-C
        "nssm set bonefrac AppExit Default Restart",
        "nssm set bonefrac AppExit 0 Exit",
        "nssm set bonefrac AppRestartDelay 5000",
        "nssm set bonefrac ObjectName NetworkService",
        r"rem for a share that wants a name: nssm set bonefrac ObjectName .\USER PASSWORD",
        "nssm start bonefrac",
    ]


def _windows(command: Sequence[str]) -> tuple[str, Sequence[str]]:
    for word in command:
        if _REPLACED.search(_writable(word)):
            raise UsageError(f"{word!r} has %...% or $(, which Windows would replace by something else; rename it")
    return command[0], command[1:]


def _prompt(words: Sequence[str]) -> str:
    """A line for cmd.exe; with special characters in it every one gets a caret, for cmd does not know `\\"`."""
    line = subprocess.list2cmdline(words)
    return _CMD_SPECIAL.sub(r"^\g<0>", line) if re.search("[%!^<>&|]", line) else line


def _drive_type(root: str) -> int:
    if sys.platform == "win32":
        import ctypes

        return int(ctypes.windll.kernel32.GetDriveTypeW(root))
    return 0


def mapped_letter(path: str, drive_type: Callable[[str], int] = _drive_type) -> bool:
    """Whether `path` begins with a letter that stands for a share: a service does not see it. Off Windows never."""
    drive = PureWindowsPath(path).drive
    return len(drive) == 2 and drive_type(drive + "\\") in (_NO_ROOT_DIR, _REMOTE)


def notify(message: str) -> None:
    """Tell systemd `READY=1`, `WATCHDOG=1`...; nothing where it did not ask, and never an error."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if sys.platform == "win32" or address[:1] not in ("/", "@"):
        return
    name = os.fsencode(address)
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.settimeout(1)  # a systemd that does not read must not hold up a film
        channel.sendto(message.encode("utf-8", "backslashreplace"), b"\0" + name[1:] if name[:1] == b"@" else name)
