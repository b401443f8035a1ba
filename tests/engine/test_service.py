"""What starts the daemon: the unit by systemd's own tools, the task by an XML reader, `notify` by a real socket."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonefrac.errors import UsageError
from bonefrac.service import mapped_letter, notify, systemd_unit, task_xml, wrapper_lines

AWKWARD = 'Röntgen 100%n $HOME "q" back\\nslash'
NEEDS_SYSTEMD = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not on this machine")
NEEDS_UNIX = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no AF_UNIX sockets")
WORDS = st.lists(st.text(st.characters(codec="utf-8"), max_size=12), max_size=4)
AWKWARD_WORDS = st.lists(st.text("ab \\\"'$%;^&()<>|!ü-", max_size=8), max_size=4)


@pytest.fixture(autouse=True)
def _usual_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the tests' own Python lies must not decide what a unit hides."""
    monkeypatch.setattr(sys, "prefix", "/opt/bonefrac")
    monkeypatch.setattr(sys, "base_prefix", "/usr")


def plain_unit() -> str:
    return systemd_unit(["/bin/true", "watch", "/srv/in"], reads=[Path("/srv/in")], writes=[Path("/srv/out")])


def analyze(verb: str, folder: Path, unit: str, *options: str) -> subprocess.CompletedProcess[str]:
    file = folder / "bonefrac.service"
    file.write_text(unit, encoding="utf-8")
    return subprocess.run(
        ["systemd-analyze", verb, *options, str(file)],
        capture_output=True, text=True, encoding="utf-8", check=False, timeout=60,
    )  # fmt: skip


# --- the unit


@NEEDS_SYSTEMD
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    done = analyze("verify", tmp_path, plain_unit())
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@NEEDS_SYSTEMD
def test_systemd_finds_a_program_and_folders_with_awkward_names(tmp_path: Path) -> None:
    program = tmp_path / "Röntgen 100%n $HOME" / "bonefrac"
    program.parent.mkdir()
    shutil.copy("/bin/true", program)
    unit = systemd_unit([str(program), "watch", AWKWARD, "", ";"], reads=[], writes=[tmp_path / AWKWARD])
    done = analyze("verify", tmp_path, unit)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    program.unlink()
    assert str(program) in analyze("verify", tmp_path, unit).stderr  # it looked for this very name


@NEEDS_SYSTEMD
@pytest.mark.parametrize(
    ("right", "wrong"),
    [("ProtectSystem=", "ProtectSystm="), ("WatchdogSec=120", "WatchdogSec=soon"), ("=/srv/out", "=srv/out")],
)
def test_the_check_by_systemd_finds_a_planted_fault(tmp_path: Path, right: str, wrong: str) -> None:
    assert right in plain_unit()
    assert analyze("verify", tmp_path, plain_unit().replace(right, wrong)).stderr


@NEEDS_SYSTEMD
def test_the_unit_is_well_shut_off(tmp_path: Path) -> None:
    done = analyze("security", tmp_path, plain_unit(), "--offline=true", "--no-pager")
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd is older than 250 and judges no files")
    level = re.search(r"Overall exposure level for bonefrac.service: ([0-9.]+)", done.stdout)
    assert level, done.stdout + done.stderr
    assert float(level[1]) < 1.5  # OK; each setting that falls away adds 0.1 or more


def settings(unit: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Type", "notify"), ("NotifyAccess", "main"), ("User", "bonefrac"), ("WatchdogSec", "120"),
        ("Restart", "on-failure"), ("RestartSec", "5"), ("StartLimitIntervalSec", "0"), ("TimeoutStopSec", "20"),
        ("ExecReload", "kill -HUP $MAINPID"), ("KillSignal", "SIGTERM"), ("KillMode", "mixed"), ("UMask", "0077"),
        ("StateDirectory", "bonefrac"), ("Environment", "XDG_STATE_HOME=%S"), ("LimitCORE", "0"), ("Nice", "5"),
        ("After", "remote-fs.target"), ("ProtectSystem", "strict"), ("ReadWritePaths", "/srv/out"),
        ("ExecStart", "/bin/true watch /srv/in"), ("WantedBy", "multi-user.target"),
    ],
)  # fmt: skip
def test_the_unit_has(key: str, value: str) -> None:
    assert settings(plain_unit(), key) == [value]


def test_the_unit_forbids_what_only_an_administrator_needs() -> None:
    assert settings(plain_unit(), "SystemCallFilter") == ["@system-service", "~@privileged"]
    assert settings(plain_unit(), "CapabilityBoundingSet") == [""]
    assert settings(plain_unit(), "RestrictAddressFamilies") == ["AF_UNIX"]
    assert set(re.findall(r"^(\w+)=yes$", plain_unit(), re.MULTILINE)) == {
        "LockPersonality", "MemoryDenyWriteExecute", "NoNewPrivileges", "PrivateDevices", "PrivateNetwork",
        "PrivateTmp", "ProtectClock", "ProtectControlGroups", "ProtectHome", "ProtectHostname", "ProtectKernelLogs",
        "ProtectKernelModules", "ProtectKernelTunables", "RemoveIPC", "RestrictNamespaces", "RestrictRealtime",
        "RestrictSUIDSGID",
    }  # fmt: skip


def test_a_share_that_is_away_does_not_hold_the_unit_back() -> None:
    unit = plain_unit()
    assert not settings(unit, "(RequiresMountsFor|Requires|BindsTo|BindPaths|BindReadOnlyPaths)")
    assert "/srv/in" not in "".join(settings(unit, "(?:ReadOnlyPaths|ReadWritePaths)"))


@pytest.mark.parametrize(
    ("name", "home", "temporary"),
    [("/srv/x", "yes", "yes"), ("/home/ana/x", "read-only", "yes"), ("/srv/../root/x", "read-only", "yes"),
     ("/homes/x", "yes", "yes"), ("/tmp/x", "yes", "no")],
)  # fmt: skip
def test_homes_and_temporary_folders_are_hidden_unless_something_lies_there(
    name: str, home: str, temporary: str
) -> None:
    for unit in (
        systemd_unit(["/bin/true"], reads=[Path(name)], writes=[]),
        systemd_unit(["/bin/true"], reads=[], writes=[Path(name)]),
        systemd_unit([name], reads=[], writes=[]),
    ):
        assert settings(unit, "ProtectHome") + settings(unit, "PrivateTmp") == [home, temporary]


def test_a_link_into_a_home_and_a_python_in_one_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").symlink_to("/home/ana")
    unit = systemd_unit(["/bin/true"], reads=[tmp_path / "in"], writes=[])
    assert settings(unit, "ProtectHome") == ["read-only"]
    monkeypatch.setattr(sys, "base_prefix", "/home/ana/python")
    assert settings(plain_unit(), "ProtectHome") == ["read-only"]


@pytest.mark.parametrize("name", ["/srv/a\nExecStart=/bin/sh", "/srv/a\rb", "/srv/a\0b", "/srv/\udcff"])
def test_a_name_that_no_unit_can_hold_is_refused(name: str) -> None:
    for command, writes in ((["/bin/true", name], []), (["/bin/true"], [Path(name)])):
        with pytest.raises(UsageError):
            systemd_unit(command, reads=[], writes=writes)


@pytest.mark.parametrize(
    ("command", "user"),
    [
        ("bonefrac", "bonefrac"),
        ('/opt/a"b', "bonefrac"),
        ("/opt/a\\b", "bonefrac"),
        ("/bin/true", "a\nb"),
        ("/bin/true", ""),
    ],
)
def test_a_program_that_systemd_does_not_take_and_an_odd_user_are_refused(command: str, user: str) -> None:
    with pytest.raises(UsageError):
        systemd_unit([command], reads=[], writes=[], user=user)


def words_of_a_unit(line: str) -> list[str]:
    """What systemd reads from a setting (systemd.syntax(7), systemd.unit(5) "Specifiers"), as far as we write it."""
    found = []
    while line:
        if line[0] == '"':
            word = re.match(r'"((?:[^"\\]|\\[\\"])*)"(?: |$)', line)
            assert word, line
            text = re.sub(r"\\(.)", r"\1", word[1])
        else:
            word = re.match(r"[^\s\"'\\;$#]+(?: |$)", line)
            assert word, line
            text = word[0].rstrip(" ")
        assert not re.search("%(?!%)", text.replace("%%", ""))
        found.append(text.replace("%%", "%"))
        line = line[word.end() :]
    return found


@given(WORDS | AWKWARD_WORDS)
def test_systemd_reads_back_what_was_written(words: list[str]) -> None:
    try:
        unit = systemd_unit(["/bin/$a b", *words], reads=[], writes=[])
    except UsageError:
        assert re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]", "".join(words))
        return
    [line] = settings(unit, "ExecStart")
    program, *rest = words_of_a_unit(line)
    assert program == "/bin/$a b"
    assert "$" not in "".join(rest).replace("$$", "")
    assert [word.replace("$$", "$") for word in rest] == words


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's prctl")
def test_the_model_runs_where_memory_is_never_both_written_and_executed() -> None:
    """MemoryDenyWriteExecute=, by the kernel's own switch (PR_SET_MDWE, Linux 6.3): the golden samples pass."""
    program = (
        "import ctypes, mmap, sys\n"
        "if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): sys.exit(77)\n"
        "try: mmap.mmap(-1, 4096, prot=7)\n"
        "except PermissionError: pass\n"
        "else: sys.exit('not shut off')\n"
        "from bonefrac.model import load_model\n"
        "load_model('flagship', device='cpu', precision='auto').check_golden()\n"
        "import bonefrac.run\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode == 77:
        pytest.skip("this kernel is older than 6.3")
    assert done.returncode == 0, done.stderr


# --- Windows: the files, and how Windows reads them

SPACE = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"


def task(xml: str) -> ElementTree.Element:
    return ElementTree.fromstring(xml.encode("utf-16"))  # as it is to be written


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("Triggers/BootTrigger/Enabled", "true"), ("Triggers/BootTrigger/Repetition/Interval", "PT5M"),
        ("Principals/Principal/UserId", "S-1-5-20"), ("Principals/Principal/RunLevel", "LeastPrivilege"),
        ("Settings/MultipleInstancesPolicy", "IgnoreNew"), ("Settings/DisallowStartIfOnBatteries", "false"),
        ("Settings/StopIfGoingOnBatteries", "false"), ("Settings/StartWhenAvailable", "true"),
        ("Settings/RunOnlyIfNetworkAvailable", "false"), ("Settings/IdleSettings/StopOnIdleEnd", "false"),
        ("Settings/Enabled", "true"), ("Settings/Hidden", "false"), ("Settings/ExecutionTimeLimit", "PT0S"),
        ("Settings/RestartOnFailure/Interval", "PT1M"), ("Settings/RestartOnFailure/Count", "255"),
        ("Actions/Exec/Command", r"C:\R&D <x>\bonefrac.exe"), ("Actions/Exec/Arguments", r'watch "C:\x rays"'),
        ("Actions/Exec/WorkingDirectory", r"C:\a b"),
    ],
)  # fmt: skip
def test_the_task_has(place: str, value: str) -> None:
    root = task(task_xml([r"C:\R&D <x>\bonefrac.exe", "watch", r"C:\x rays"], working_folder=Path(r"C:\a b")))
    assert root.tag == f"{SPACE}Task"
    assert root.get("version") == "1.2"
    assert root.findtext("/".join(SPACE + name for name in place.split("/"))) == value


def test_the_task_runs_as_the_account_it_names() -> None:
    root = task(task_xml(["x.exe"]))
    principal, actions = root.find(f".//{SPACE}Principal"), root.find(f"{SPACE}Actions")
    assert principal is not None
    assert actions is not None
    assert principal.get("id") == actions.get("Context") == "Author"
    assert root.find(f".//{SPACE}WorkingDirectory") is None


def words_of_windows(line: str) -> list[str]:
    """What a program gets from a command line after its own name ("Parsing C++ command-line arguments")."""
    words, word, quoted, inside = [], "", False, False
    for slashes, quote, other in re.findall(r'(\\*)(")|(\\+|[^\\])', line):
        if quote:
            word += "\\" * (len(slashes) // 2)
            if len(slashes) % 2:
                word += '"'
            else:
                quoted, inside = not quoted, True
        elif other in " \t" and not quoted:
            if word or inside:
                words.append(word)
            word, inside = "", False
        else:
            word += other
    return [*words, word] if word or inside else words


REFUSED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]|%[^%]+%|\$\(")


@given(WORDS | AWKWARD_WORDS)
def test_windows_reads_back_what_was_written(words: list[str]) -> None:
    try:
        root = task(task_xml([r"C:\b.exe", *words]))
    except UsageError:
        assert any(REFUSED.search(word) for word in words)
        return
    line = root.findtext(f"{SPACE}Actions/{SPACE}Exec/{SPACE}Arguments")
    assert words_of_windows(line or "") == words


def after_cmd(line: str) -> str:
    """What cmd.exe hands to a program: a caret outside quotes keeps the next character from it."""
    kept, quoted, rest = "", False, iter(line)
    for char in rest:
        if char == "^" and not quoted:
            kept += next(rest)
        else:
            assert quoted or char not in "&|<>", line
            quoted ^= char == '"'
            kept += char
    return kept


@given(AWKWARD_WORDS)
def test_the_wrapper_gets_the_command_through_cmd(words: list[str]) -> None:
    try:
        install, parameters, *_ = wrapper_lines([r"C:\R & D\b.exe", *words])
    except UsageError:
        assert any(REFUSED.search(word) for word in words)
        return
    assert words_of_windows(after_cmd(install)) == ["nssm", "install", "bonefrac", r"C:\R & D\b.exe"]
    *start, value = words_of_windows(after_cmd(parameters))
    assert start == ["nssm", "set", "bonefrac", "AppParameters"]
    assert words_of_windows(value) == words


def test_the_wrapper_stops_gently_and_starts_again() -> None:
    lines = wrapper_lines(["b.exe", "watch", "in"])
    assert lines[1] == 'nssm set bonefrac AppParameters "watch in"'
    stop = re.search(r"^nssm set bonefrac AppStopMethodConsole (\d+)$", "\n".join(lines), re.MULTILINE)
    assert stop
    assert int(stop[1]) > 10_000
    assert "nssm set bonefrac AppExit Default Restart" in lines
    assert "nssm set bonefrac ObjectName NetworkService" in lines
    assert lines[-1] == "nssm start bonefrac"


@pytest.mark.parametrize("word", [r"C:\%TEMP%\x", "$(Arg0)", "a\nb", "a\x0bb"])
def test_what_windows_would_replace_is_refused(word: str) -> None:
    for write in (task_xml, wrapper_lines):
        with pytest.raises(UsageError):
            write(["b.exe", word])


@pytest.mark.parametrize(
    ("path", "kind", "mapped"),
    [
        (r"Z:\inbox", 4, True), (r"z:\inbox", 1, True), (r"C:\inbox", 3, False), (r"E:\inbox", 2, False),
        (r"\\server\share\inbox", 4, False), ("inbox", 4, False), ("/srv/inbox", 4, False),
    ],
)  # fmt: skip
def test_a_letter_that_a_service_does_not_see(path: str, kind: int, mapped: bool) -> None:
    asked: list[str] = []
    assert mapped_letter(path, lambda root: asked.append(root) or kind) is mapped
    assert asked in ([], [path[:3]])


@pytest.mark.skipif(sys.platform == "win32", reason="letters mean something there")
def test_no_letter_is_mapped_off_windows() -> None:
    assert not mapped_letter(r"Z:\inbox")


# --- notify


@NEEDS_UNIX
@pytest.mark.parametrize("abstract", [False, True])
def test_notify_reaches_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    if abstract and not sys.platform.startswith("linux"):
        pytest.skip("abstract sockets are Linux's")
    name = str(tmp_path / "s")[-80:].lstrip("/") if abstract else str(tmp_path / "s")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name}" if abstract else name)
        systemd.settimeout(5)
        notify("READY=1\nSTATUS=Röntgen \udcff")
        assert systemd.recv(1000) == "READY=1\nSTATUS=Röntgen \\udcff".encode()


@NEEDS_UNIX
def test_notify_does_not_hang_on_a_systemd_that_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "s"))
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full,
    ):
        systemd.bind(str(tmp_path / "s"))
        full.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                full.sendto(b"x", str(tmp_path / "s"))
        began = time.monotonic()
        notify("WATCHDOG=1")
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("address", [None, "", "relative", "/nowhere/at/all", "@nobody-listens", "/" + "x" * 500])
def test_notify_never_fails(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert notify("WATCHDOG=1") is None  # type: ignore[func-returns-value]  # and no error
