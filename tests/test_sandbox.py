"""Hostile commands in a sandbox: what they see, what they may do, and that they end."""

import errno
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conftest import PATIENCE
from foretell.errors import OutputError, UsageError
from foretell.sandbox import command as sandbox
from foretell.sandbox import seccomp
from foretell.sandbox.command import Ended

MEMORY = 1 << 30


def python(
    code: str,
    *arguments: object,
    readable: tuple[Path, ...] = (),
    writable: Path = Path(),
    seconds: float = 30.0,
) -> Ended:
    """Runs Python code in a sandbox that may write to one folder, by default the working folder."""
    return sandbox.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        readable=list(readable),
        writable=writable,
        environment={"OMP_NUM_THREADS": "2", "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        seconds=seconds,
        memory=MEMORY,
    )


@pytest.fixture(scope="module")
def can(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips a test where no sandbox can be made; what is said there is a test of its own."""
    try:
        python("", writable=tmp_path_factory.mktemp("can"))
    except UsageError as error:
        pytest.skip(error.message)


TRY = """
import ctypes, errno, mmap, os, resource, signal, socket, sys
secret, model, port, abstract, outside, opened = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
CLONE = 220 if os.uname().machine == "aarch64" else 56
def call(name, *arguments):
    if libc[name](*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
def fill(path):
    with open(path, "wb", 0) as file:
        while file.write(bytes(1 << 20)):
            pass
try:
    {}
except OSError as error:
    sys.exit(errno.errorcode[error.errno])
sys.exit("it could")
"""

REFUSED = {
    "read-a-secret": ("open(secret)", "ENOENT"),
    "climb-out": ("open('/..' + secret)", "ENOENT"),
    "list-the-home": ("os.listdir(os.path.dirname(secret))", "ENOENT"),
    "read-passwords": ("open('/etc/shadow')", "ENOENT"),
    "read-the-machine": ("os.listdir('/sys')", "ENOENT"),
    "read-a-terminal": ("open('/dev/tty')", "ENOENT"),
    "read-kernel-settings": ("os.listdir('/proc/sys')", "ENOENT"),
    "look-into-the-first-process": ("os.listdir('/proc/1/root')", "EACCES"),
    "write-to-the-model": ("open(model + '/weights', 'w')", "EROFS"),
    "add-to-the-model": ("open(model + '/new', 'w')", "EROFS"),
    "remove-the-model": ("os.unlink(model + '/weights')", "EROFS"),
    "change-its-mode": ("os.chmod(model + '/weights', 0o600)", "EROFS"),
    "link-to-the-model": ("os.link(model + '/weights', 'mine')", "EXDEV"),
    "write-to-python": ("open(sys.prefix + '/new', 'w')", "EROFS EACCES"),
    "write-to-its-packages": ("open(os.__file__, 'a')", "EROFS EACCES"),
    "write-to-the-system": ("open('/usr/new', 'w')", "EROFS EACCES"),
    "write-to-the-root": ("open('/new', 'w')", "EROFS EACCES"),
    "write-to-users": ("open('/etc/passwd', 'a')", "EROFS EACCES"),
    "change-a-device": ("os.chmod('/dev/null', 0o600)", "EROFS EPERM"),
    "fill-tmp": ("fill('/tmp/big')", "ENOSPC"),
    "write-a-huge-file": ("os.truncate(os.open('big', os.O_CREAT | os.O_RDWR), 1 << 40)", "EFBIG"),
    "call-a-server": ("socket.create_connection(('127.0.0.1', int(port)), 5)", "EPERM"),
    "call-a-local-server": ("socket.socket(socket.AF_UNIX).connect(chr(0) + abstract)", "EPERM"),
    "share-a-socket": ("socket.socketpair()", "EPERM"),
    "call-the-hypervisor": ("socket.socket(socket.AF_VSOCK)", "EPERM"),
    "see-a-process": ("os.kill(int(outside), 0)", "ESRCH"),
    "end-a-process": ("os.kill(int(outside), signal.SIGKILL)", "ESRCH"),
    "end-all-processes": ("os.kill(-1, signal.SIGKILL)", "ESRCH"),
    "trace-a-process": ("call('ptrace', 16, 1, 0, 0)", "EPERM"),
    "become-root": ("os.setuid(0)", "EINVAL"),
    "become-another": ("os.setuid(65534)", "EINVAL"),
    "join-a-group": ("os.setgroups([0])", "EPERM"),
    "mount": ("call('mount', b'x', b'/tmp', b'tmpfs', 0, None)", "EPERM"),
    "write-again": ("call('mount', None, b'/usr', None, 0x1020, None)", "EPERM"),
    "unmount": ("call('umount2', b'/proc', 2)", "EPERM"),
    "change-the-root": ("os.chroot('/tmp')", "EPERM"),
    "be-root-in-new-namespaces": ("call('unshare', 0x10020000)", "EPERM"),
    "start-one-in-new-namespaces": ("call('syscall', CLONE, 0x10000011, 0, 0, 0, 0)", "EPERM"),
    "leave-a-set-user-id-file": ("os.open('root', os.O_CREAT | os.O_WRONLY, 0o4755)", "EPERM"),
    "make-a-file-set-user-id": ("os.chmod('.', 0o6755)", "EPERM"),
    "make-a-device": ("os.mknod('disk', 0o60600, os.makedev(8, 0))", "EPERM"),
    "have-uncounted-memory": ("os.memfd_create('x')", "EPERM"),
    "be-more-important": ("os.nice(-1)", "EPERM"),
    "outlive-others": ("open('/proc/self/oom_score_adj', 'w').write('-1000')", "EROFS"),
    "have-an-open-file": ("os.fstat(int(opened))", "EBADF"),
}  # fmt: skip


@pytest.mark.usefixtures("can")
@pytest.mark.parametrize(("attempt", "answer"), REFUSED.values(), ids=REFUSED)
def test_what_does_harm_is_refused(attempt: str, answer: str, tmp_path: Path) -> None:
    """A hostile command reaches no file, no server and no process outside, and gets no right that it had not."""
    secret, model = tmp_path / "home" / "secret", tmp_path / "model"
    secret.write_text("hunter2")
    model.mkdir()
    (model / "weights").write_text("1 2 3")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as local,
        secret.open() as file,
    ):
        local.bind(f"\0foretell-{os.getpid()}")
        local.listen()
        os.set_inheritable(file.fileno(), True)
        known = (secret, model, server.getsockname()[1], f"foretell-{os.getpid()}", os.getpid(), file.fileno())
        ended = python(TRY.format(attempt), *known, readable=(model,))
    assert (1, "") == (ended.code, ended.limit)
    assert ended.said in answer.split()
    assert "1 2 3" == (model / "weights").read_text()


RIGHTS = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
held = (ctypes.c_uint32 * 6)()
libc.capget((ctypes.c_uint32 * 2)(0x20080522, 0), held)
bounds = [libc.prctl(23, number, 0, 0, 0) for number in range(40)]
places = ("/", "/usr", "/tmp", "/dev/null", sys.prefix, ".")
giving = [path for path in places if not os.statvfs(path).f_flag & os.ST_NOSUID]
nothing_new = libc.prctl(39, 0, 0, 0, 0)
sys.exit(f"{list(held)} {sum(bounds)} {giving} {nothing_new} {os.getresuid()} {os.getsid(0) == os.getpid()}")
"""


@pytest.mark.usefixtures("can")
def test_a_command_has_no_rights() -> None:
    """No capability is held or can be had, set-user-id files give none, and no terminal is shared."""
    ended = python(RIGHTS)
    assert "[0, 0, 0, 0, 0, 0] 0 [] 1 (1000, 1000, 1000) True" == ended.said


SEEN = """
import os, sys
above = os.listdir("..")
null = os.stat("/dev/null")
piped = [os.path.samestat(os.fstat(number), null) for number in (0, 1)]
sys.exit(f"{sorted(set(os.listdir('/')) & {'home', 'sys', 'var', 'mnt', 'boot'})} {above} {sorted(os.listdir('/dev'))} "
         f"{[name for name in os.listdir('/proc') if name.isdigit()]} {os.uname().nodename} {piped} {dict(os.environ)}")
"""


@pytest.mark.usefixtures("can")
def test_a_command_sees_only_what_it_was_given() -> None:
    """Nothing of the file system, the processes and the variables of the caller but what was named."""
    ended = sandbox.run(
        [sys.executable, "-c", SEEN],
        readable=[],
        writable=Path(),
        environment={"LC_ALL": "C.UTF-8"},
        seconds=30,
        memory=MEMORY,
    )
    devices = ["null", "random", "shm", "urandom", "zero"]
    assert f"[] ['work'] {devices} ['1', '2'] sandbox [True, True] {{'LC_ALL': 'C.UTF-8'}}" == ended.said


@pytest.mark.usefixtures("can")
def test_what_is_written_elsewhere_is_gone(tmp_path: Path) -> None:
    """Only in its one folder does a command leave anything."""
    before = sorted(tmp_path.rglob("*"))
    python(
        "import os\nfor path in ('/tmp/new', '/dev/shm/new', '../new', '../home/new'):\n try: open(path, 'w')\n"
        " except OSError: pass\nopen('new', 'w')"
    )
    assert [*before, tmp_path / "work" / "new"] == sorted(tmp_path.rglob("*"))
    assert not Path("/tmp/new").exists() and not Path("/dev/shm/new").exists()


@pytest.mark.usefixtures("can")
def test_paths_lead_where_they_led(tmp_path: Path) -> None:
    """A path through links is read in there too, and of folders in each other the inner one counts."""
    elsewhere = tmp_path / "elsewhere"
    for folder in (elsewhere / "model", Path("fixed"), tmp_path / "model" / "results"):
        folder.mkdir(parents=True)
    (elsewhere / "model" / "weights").write_text("1 2 3")
    (tmp_path / "link").symlink_to("elsewhere")
    linked = tmp_path / "absolute"
    linked.symlink_to(tmp_path / "link" / "model")
    code = "import sys; sys.exit(open(sys.argv[1]).read())"
    assert "1 2 3" == python(code, linked / "weights", readable=(linked / "weights",)).said
    assert "1 2 3" == python(code, linked / "weights", readable=(tmp_path / "link" / "model", linked)).said
    assert "Read-only file system" in python("open('fixed/new', 'w')", readable=(Path("fixed"),)).said
    inner = tmp_path / "model" / "results"
    ended = python("open('new', 'w'); open('../new', 'w')", readable=(tmp_path / "model",), writable=inner)
    assert ("Read-only file system" in ended.said, ["new"]) == (True, [path.name for path in inner.iterdir()])


MANY = "more than 1024 processes and threads|more than 1024 MiB of memory|longer than 1 s"
ENDLESS = {
    "forks": ("import os\nwhile True:\n try: os.fork()\n except OSError: pass", 30, MANY),
    "forks-that-end": ("import os\nwhile True:\n try: os.fork() or os._exit(0)\n except OSError: pass", 1, MANY),
    "threads": (
        "import threading, time\nthreading.stack_size(1 << 16)\n"
        "while True: threading.Thread(target=time.sleep, args=(99,)).start()",
        1,
        MANY,
    ),
    "memory-of-many": (
        "import os\nfor _ in range(3): os.fork()\nheld = []\n"
        "while len(held) < 300: held.append(b'x' * (1 << 20))\nos.read(os.pipe()[0], 1)",
        30,
        "more than 1024 MiB of memory",
    ),
    "nothing": ("import os; os.read(os.pipe()[0], 1)", 0.5, "longer than 0.5 s"),
    "work": ("while True: pass", 0.5, "longer than 0.5 s"),
    "work-that-ignores-signals": (
        "import ctypes, signal\n"
        "for number in {*range(1, 65)} - {9, 19, 32, 33}: signal.signal(number, signal.SIG_IGN)\n"
        "ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\nwhile True: pass",
        0.5,
        "longer than 0.5 s",
    ),
}


@pytest.mark.usefixtures("can")
@pytest.mark.parametrize(("code", "seconds", "limit"), ENDLESS.values(), ids=ENDLESS)
def test_what_never_ends_is_ended(code: str, seconds: float, limit: str) -> None:
    """Whatever a command takes without end, a limit ends it with all that it started, and is named."""
    ended = python(code, seconds=seconds)
    assert -signal.SIGKILL == ended.code
    assert ended.limit in limit.split("|")


@pytest.mark.usefixtures("can")
def test_one_process_that_takes_memory_is_told() -> None:
    """A command that alone asks for more than its limit fails as where memory ends, and says so itself."""
    ended = python("held = []\nwhile True: held.append(bytearray(1 << 26))")
    assert (1, True) == (ended.code, ended.said.endswith("MemoryError")), ended


DAEMON = """
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("fifo", "w").write("daemon")
        os.dup(os.open("fifo", os.O_WRONLY))
        os.read(os.pipe()[0], 1)
    os._exit(0)
open("fifo", "w").write("command")
os.wait()
os.open("fifo", os.O_WRONLY)
{}
"""


@pytest.mark.usefixtures("can")
@pytest.mark.parametrize(
    ("last", "code"), [("sys.exit(7)", 7), ("os.read(os.pipe()[0], 1)", -signal.SIGKILL)], ids=["ends", "is-ended"]
)
def test_nothing_is_left_running(last: str, code: int) -> None:
    """With the command end the processes that it left, also those that took leave of it."""
    os.mkfifo("fifo")
    fifo = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    assert code == python(DAEMON.format(last), seconds=3).code
    assert b"command" in os.read(fifo, 100)
    # With nobody left who could write, the end is read; with somebody this raises BlockingIOError.
    assert b"" == os.read(fifo, 100)
    os.close(fifo)


CALLER = """
import signal, sys
from pathlib import Path
from foretell.sandbox import command as sandbox
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background leaves ignored
code = "import ctypes, os; ctypes.CDLL(None).prctl(1, 0, 0, 0, 0); file = open('fifo', 'w'); file.write('x'); "
code += "file.flush(); os.read(os.pipe()[0], 1)"
sandbox.run([sys.executable, "-c", code], readable=[], writable=Path(), environment={}, seconds=600, memory=1 << 30)
"""


@pytest.mark.usefixtures("can")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_command_ends_with_its_caller(number: signal.Signals) -> None:
    """Nothing goes on where nobody waits any more, however the caller ended."""
    os.mkfifo("fifo")
    caller = subprocess.Popen([sys.executable, "-c", CALLER], stderr=subprocess.DEVNULL)
    with Path("fifo").open("rb", buffering=0) as fifo:
        assert b"x" == fifo.read(1)
        caller.send_signal(number)
        assert [fifo] == select.select([fifo], [], [], PATIENCE)[0]
        assert b"" == fifo.read(1)
    assert 0 != caller.wait()


ENDS = {
    "code": ("raise SystemExit(7)", Ended(7, "")),
    "message": ("raise SystemExit('went wrong')", Ended(1, "went wrong")),
    "signal": ("import os; os.abort()", Ended(-signal.SIGABRT, "")),
    "wrong-memory": ("import os; os.kill(os.getpid(), 11)", Ended(-signal.SIGSEGV, "")),
    "first-process": ("import os; [os.kill(1, number) for number in range(1, 32)]; os._exit(7)", Ended(7, "")),
    "control": ("raise SystemExit('a\\x1b[2Jb\\u202ec\\n\\nd')", Ended(1, "a [2Jb c d")),
    "no-text": ("import os; os.write(2, bytes([255, 10])); os._exit(1)", Ended(1, "\ufffd")),
    "output": ("print('x' * 10_000_000)", Ended(0, "")),
}  # fmt: skip


@pytest.mark.usefixtures("can")
@pytest.mark.parametrize(("code", "ended"), ENDS.values(), ids=ENDS)
def test_how_it_ended_is_told(code: str, ended: Ended) -> None:
    """A code or a signal as subprocess tells it, and the command's last words on one printable line."""
    assert ended == python(code)


@pytest.mark.usefixtures("can")
def test_much_that_is_said_is_kept_in_part() -> None:
    """Of what a command writes on stderr, only the end is kept."""
    ended = python("import os\nfor _ in range(640): os.write(2, b'x' * 100_000)\nos.write(2, b' the end'); os._exit(3)")
    assert (3, 500, True) == (ended.code, len(ended.said), ended.said.endswith("xxx the end"))


COMPUTE = """
import numpy as np
from sklearn.ensemble import RandomForestClassifier
rows = np.random.default_rng(3).normal(size=(200, 4))
model = RandomForestClassifier(5, random_state=0, n_jobs=2).fit(rows, rows[:, 0] > 0)
with open("answers", "w") as file:
    file.write(repr(model.predict_proba(rows[:5]).tolist()))
"""


@pytest.mark.usefixtures("can")
def test_what_does_no_harm_works_as_everywhere(tmp_path: Path) -> None:
    """numpy and scikit-learn compute the same, and what is written is there afterwards, and ours."""
    assert Ended(0, "") == python(COMPUTE)
    within, status = Path("answers").read_text(), Path("answers").stat()
    subprocess.run([sys.executable, "-c", COMPUTE], check=True)
    assert Path("answers").read_text() == within
    assert (os.getuid(), os.getgid()) == (status.st_uid, status.st_gid)


@pytest.mark.usefixtures("can")
def test_a_caller_may_have_threads() -> None:
    """Several sandboxes run at a time, from threads of one process, which stays as it is."""
    before = (os.getuid(), Path("/proc/self/ns/mnt").readlink(), threading.active_count())
    with ThreadPoolExecutor(3) as pool:
        ends = list(pool.map(lambda code: python(f"raise SystemExit({code})").code, range(3)))
    assert [0, 1, 2] == ends
    assert before == (os.getuid(), Path("/proc/self/ns/mnt").readlink(), threading.active_count())


WRONG = {
    "command": ({"command": ["/nowhere/python"]}, "/nowhere/python: No such file or directory"),
    "readable": ({"readable": [Path("/nowhere")]}, "/nowhere: No such file or directory"),
    "writable": ({"writable": Path("/nowhere")}, "/nowhere is no folder"),
    "a-file": ({"writable": Path(__file__)}, "test_sandbox.py is no folder"),
}


@pytest.mark.usefixtures("can")
@pytest.mark.parametrize(("changed", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_had_is_named(changed: dict[str, object], said: str) -> None:
    """A path that is not there is an error of one line, which names it."""
    wanted = {"command": [sys.executable], "readable": [], "writable": Path(), "environment": {}, "seconds": 30}
    with pytest.raises(OutputError) as caught:
        sandbox.run(**{**wanted, "memory": MEMORY, **changed})  # type: ignore[arg-type]
    assert caught.value.message.endswith(said) and "\n" not in caught.value.message


NO_NAMESPACES = """
import ctypes, os, sys
from pathlib import Path
from foretell.sandbox import command as sandbox
from foretell.errors import UsageError
user, group = os.getuid(), os.getgid()
if ctypes.CDLL(None).unshare(0x10000000) == 0:
    for name, text in ("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1"):
        Path("/proc/self", name).write_text(text)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
try:
    sandbox.run([sys.executable], readable=[], writable=Path(), environment={}, seconds=30, memory=1 << 30)
except UsageError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Namespaces are Linux's")
def test_where_no_sandbox_can_be_made_that_is_said() -> None:
    """Where the kernel gives no namespaces, the command does not run at all, and two lines say what to look at."""
    ran = subprocess.run([sys.executable, "-c", NO_NAMESPACES], capture_output=True, text=True, check=True)
    said, hint = ran.stdout.splitlines()
    assert said.startswith("No sandbox can be made on this machine: ") and os.strerror(errno.ENOSPC) in said
    assert hint.startswith("It takes Linux 5.12 and user namespaces: see user.max_user_namespaces")


def test_only_known_machines_have_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody knows the numbers of system calls, nothing runs."""
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "riscv64")
    with pytest.raises(UsageError, match="needs Linux on x86_64 or aarch64"):
        python("")
