"""The units' sandboxes on a booted machine: how disks are used from in there, and what else cannot be done from in there."""

from __future__ import annotations

import sysconfig
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distbackupd.model.disks import Volume
from tests.bed.container import Machine, container
from tests.bed.loop_disks import make_foreign_image, make_image

pytestmark = pytest.mark.needs("container", "ext4", "mkfs.exfat", "mkfs.ntfs")

ROOT = Path(__file__).parents[2]
PACKAGES = Path(sysconfig.get_paths()["purelib"])
DAEMON, HELPER = "distbackupd", "distbackupd-helper"
CODE = "Environment=PYTHONPATH=/opt/code:/opt/packages PYTHONDONTWRITEBYTECODE=1\n"
PROBE = f"""\
[Service]
Type=oneshot
ExecStart=
ExecStart=/usr/bin/python3 /root/probe.py
{CODE}\
WatchdogSec=0
Restart=no
StandardOutput=append:/root/probe.log
StandardError=inherit
"""
PROLOGUE = """\
import ctypes, errno, os, signal, socket, stat, subprocess, sys
from distbackupd.hotplug.commands import Commands
from distbackupd.hotplug.errands import Errand, ask
from distbackupd.hotplug.helper_client import HelperMounter, connect_to_helper
from distbackupd.hotplug.keys import KeptKeys
from distbackupd.hotplug.mounts import SystemMounter
from distbackupd.model.disks import Volume
from distbackupd.model.errors import DiskTrouble
mounter = HelperMounter()
"""
ENROL = """\
import sys
from distbackupd.hotplug.enrolled import EnrolledDisks
EnrolledDisks().note({uuid: [sys.argv[1]] for uuid in sys.argv[2:]})
"""


@contextmanager
def station(folder: Path) -> Iterator[tuple[Machine, list[Volume]]]:
    """A booted machine whose daemon, or helper, runs what :func:`run_inside` gives it; its disks are enrolled as ``usb``."""
    images = [
        make_image(folder / "ext4.img"),
        *(make_foreign_image(folder / f"{kind}.img", kind) for kind in ("ntfs", "exfat")),
    ]
    with container(images, {ROOT: "/opt/code", PACKAGES: "/opt/packages"}) as machine:
        for unit in (f"{DAEMON}.service", f"{HELPER}.service", f"{HELPER}.socket"):
            machine.write(f"/etc/systemd/system/{unit}", (ROOT / "systemd" / unit).read_text())
        start = f"[Service]\nExecStart=\nExecStart=/usr/bin/python3 -m distbackupd.helper.main\n{CODE}"
        machine.write(f"/etc/systemd/system/{HELPER}.service.d/code.conf", start)
        machine.write(f"/etc/systemd/system/{DAEMON}.service.d/probe.conf", PROBE)
        for kind in ("sysusers", "tmpfiles"):
            machine.write(f"/etc/{kind}.d/distbackupd.conf", (ROOT / f"packaging/{kind}.d/distbackupd.conf").read_text())
        machine.run("systemd-sysusers")
        machine.run("systemd-tmpfiles", "--create", "distbackupd.conf")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "start", f"{HELPER}.socket")
        disks = [image.volume for image in images]
        enrol(machine, "usb", disks)
        yield machine, disks


def enrol(machine: Machine, name: str, disks: list[Volume]) -> None:
    """As ``dsb disk add`` does."""
    code = "PYTHONPATH=/opt/code:/opt/packages"
    machine.run("env", code, "python3", "-c", ENROL, name, *(disk.filesystem_uuid for disk in disks))


def run_inside(machine: Machine, program: str, unit: str = DAEMON) -> list[str]:
    """Run Python in the daemon's sandbox, or in the helper's; the lines that it printed."""
    machine.write("/root/probe.py", PROLOGUE + textwrap.dedent(program))
    machine.run("rm", "--force", "/root/probe.log")
    probe = f"/etc/systemd/system/{HELPER}.service.d/probe.conf"
    if unit == HELPER:
        machine.run("systemctl", "stop", f"{HELPER}.service")
        machine.write(probe, PROBE)
        machine.run("systemctl", "daemon-reload")
    done = machine.attempt("systemctl", "start", f"{unit}.service")
    told = machine.path("/root/probe.log").read_text()
    if unit == HELPER:
        machine.path(probe).unlink()
        machine.run("systemctl", "daemon-reload")
    assert done.returncode == 0, told
    return told.splitlines()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, list[Volume]]]:
    with station(tmp_path_factory.mktemp("disks")) as machine_and_disks:
        yield machine_and_disks


def test_drivers_in_user_space_outlive_the_command_that_started_them(sandbox: tuple[Machine, list[Volume]]) -> None:
    machine, disks = sandbox
    told = run_inside(
        machine,
        f"""
        for volume in {disks!r}:
            with mounter.mounted(volume, "usb") as mount:
                with open(mount.root + b"/file", "w") as file:
                    file.write("content")
                assert mounter.mount_of(mount.root) == mount
            assert os.listdir("/run/distbackup-mnt") == []
            with mounter.mounted(volume, "usb") as mount, open(mount.root + b"/file") as file:
                print(mount.filesystem_type, file.read())
        """,
    )
    assert told == ["ext4 content", "ntfs content", "exfat content"]
    assert all(machine.mounts_of(volume.device) == [] for volume in disks)


def test_disk_that_others_keep_busy_is_released_when_they_let_go(sandbox: tuple[Machine, list[Volume]]) -> None:
    machine, disks = sandbox
    root = "/run/distbackup-mnt/usb"
    keeper = machine.start("sh", "-c", f"until mountpoint -q {root}; do :; done; cd {root}; touch keeps; exec sleep 1000")
    told = run_inside(
        machine,
        f"""
        try:
            with mounter.mounted({disks[0]!r}, "usb") as mount:
                while not os.path.exists(mount.root + b"/keeps"):
                    pass
        except DiskTrouble as trouble:
            print(trouble)
        """,
    )
    [sentence] = told
    assert sentence.startswith(f"usb is still mounted at {root}, in use by PID ")
    assert "(sleep); " in sentence
    machine.run("kill", sentence.split("PID ")[1].split()[0])
    keeper.wait(10)
    assert run_inside(machine, f'mounter.release({disks[0]!r}, "usb"); print(os.listdir("/run/distbackup-mnt"))') == ["[]"]


def test_name_of_a_disk_is_expanded_by_nobody(sandbox: tuple[Machine, list[Volume]]) -> None:
    machine, disks = sandbox
    name = "$HOME ${PATH} $$ %n %% 'a' \\n"
    enrol(machine, name, disks[:1])
    assert run_inside(
        machine,
        f"""
        with mounter.mounted({disks[0]!r}, "its own name"):
            print(os.listdir("/run/distbackup-mnt"))
        """,
    ) == [repr([name])]
    enrol(machine, "usb", disks[:1])


def test_killed_daemon_leaves_nothing_mounted(sandbox: tuple[Machine, list[Volume]]) -> None:
    machine, disks = sandbox
    told = run_inside(
        machine,
        f"""
        if child := os.fork():
            os.waitpid(child, 0)
            mounter._ask("leftovers")  # answered when the helper has done with the caller before
            print(os.listdir("/run/distbackup-mnt"))
        else:
            with mounter.mounted({disks[0]!r}, "usb") as mount:
                print(os.listdir("/run/distbackup-mnt"), flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    assert told == ["['usb']", "[]"]


def test_mount_has_no_programs_no_devices_and_no_links(sandbox: tuple[Machine, list[Volume]]) -> None:
    machine, disks = sandbox
    told = run_inside(
        machine,
        f"""
        for volume in {disks!r}:
            with mounter.mounted(volume, "usb") as mount:
                with open("/proc/self/mountinfo") as lines:
                    [options] = [line.split()[5] for line in lines if line.split()[4] == "/run/distbackup-mnt/usb"]
                print(volume.filesystem_type, options)
                if volume.filesystem_type == "ext4":
                    os.symlink("/etc/passwd", mount.root + b"/link")
                    try:
                        open(mount.root + b"/link")
                    except OSError as error:
                        print(error.strerror)
        """,
    )
    assert told[:2] == ["ext4 rw,nosuid,nodev,noexec,noatime,nosymfollow", "Too many levels of symbolic links"]
    # Drivers in user space forget some of it; on the machine's own mount it is put right.
    assert all("nosuid,nodev" in line for line in told[2:])


def test_kept_key_is_decrypted_by_pid_1(sandbox: tuple[Machine, list[Volume]]) -> None:
    machine, _ = sandbox
    machine.run("sh", "-c", "mkdir -p /etc/distbackupd/keys; printf 'a\\nkey' > /root/key")
    encrypt = ["systemd-creds", "encrypt", "--name=uuid", "/root/key", "/etc/distbackupd/keys/uuid.cred"]
    machine.run(*encrypt)
    assert run_inside(machine, 'print(KeptKeys(Commands(delegated=True)).read("uuid"))', HELPER) == ["b'a\\nkey'"]


def test_without_a_bus_it_is_said_in_one_sentence(sandbox: tuple[Machine, list[Volume]]) -> None:
    machine, disks = sandbox
    told = run_inside(
        machine,
        f"""
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = "unix:path=/nowhere"
        try:
            with SystemMounter(commands=Commands(delegated=True)).mounted({disks[0]!r}, "usb"):
                pass
        except DiskTrouble as trouble:
            print(trouble)
        """,
        HELPER,
    )
    [sentence] = told
    assert sentence == (
        f"usb ({disks[0].device}) cannot be mounted: systemd cannot be asked to run mount: Failed to connect to bus: "
        "No such file or directory; see to that, then plug it in again"
    )


def test_shutdown_that_has_begun_still_unmounts(tmp_path: Path) -> None:
    with station(tmp_path) as (machine, disks):
        machine.write(
            "/root/probe.py",
            PROLOGUE
            + textwrap.dedent(f"""
                import signal, socket
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
                with mounter.mounted({disks[0]!r}, "usb") as mount:
                    held = open(mount.root + b"/file", "w")
                    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
                    signal.sigwait([signal.SIGTERM])
                    held.close()
                subprocess.run(["systemd-cat", "echo", "left", *os.listdir("/run/distbackup-mnt")])
                """),
        )
        machine.write(f"/etc/systemd/system/{DAEMON}.service.d/stay.conf", "[Service]\nType=notify\n")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "start", DAEMON)
        assert machine.mounts_of(disks[0].device) == ["/run/distbackup-mnt/usb"]
        machine.power_off()
        machine.wait_for_journal("(?m)^left$")


# --- what cannot be done from inside ---

ATTACKS = """
libc = ctypes.CDLL(None, use_errno=True)

def called(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")

def command(*words):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise OSError(errno.EPERM, done.stderr)

def connect(path, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_UNIX, kind) as connection:
        connection.connect(path)

def by_handle():
    handle = ctypes.create_string_buffer((128).to_bytes(4, "little") + bytes(132))
    called(libc.name_to_handle_at(-100, b"/run/dbus", handle, ctypes.byref(ctypes.c_int()), 0))
    folder = os.open("/run/dbus", os.O_RDONLY)
    called(libc.open_by_handle_at(folder, handle, os.O_RDONLY))

def setuid_program():
    path = "/var/lib/distbackup/program"
    with open(path, "w") as file:
        os.fchown(file.fileno(), 0, 0)
    try:
        os.chmod(path, 0o4755)
    finally:
        os.unlink(path)

def read(path):
    with open(path, "rb") as file:
        if not file.read():
            raise OSError(errno.EACCES, "an empty file is mounted over it")

def key():
    read("/etc/distbackupd/keys/1111.key")

def transient():
    command("busctl", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
            "StartTransientUnit", "ssa(sv)a(sa(sv))", "proof.service", "fail", "1", "ExecStart", "a(sasb)", "1",
            "/usr/bin/touch", "2", "touch", "/etc/proof", "false", "0")

def errand(verb, uuid, message=b""):
    with connect_to_helper() as helper:
        if message:
            helper.send(message)
            if not helper.recv(1000):
                raise OSError(errno.EPERM, "hung up")
        elif ask(helper, Errand(verb, uuid)) is None:
            raise OSError(errno.EPERM, "hung up")

PID, STRANGER = int(sys.argv[1]), sys.argv[2]
ATTACKS = {
    "write /etc": lambda: open("/etc/proof", "w"),
    "write /etc/shadow": lambda: open("/etc/shadow", "a"),
    "write /usr": lambda: open("/usr/proof", "w"),
    "write a source": lambda: open("/home/guest/proof", "w"),
    "write root's list": lambda: open("/var/lib/distbackup-disks/1111", "w"),
    "write a kernel setting": lambda: open("/proc/sys/kernel/core_pattern", "w"),
    "write a cgroup": lambda: open("/sys/fs/cgroup/cgroup.procs", "w"),
    "systemd-run": lambda: command("systemd-run", "--quiet", "touch", "/etc/proof"),
    "start a transient unit": transient,
    "start a unit": lambda: command("systemctl", "start", "console-getty"),
    "stop a unit": lambda: command("systemctl", "stop", "systemd-journald"),
    "reload units": lambda: command("systemctl", "daemon-reload"),
    "speak to PID 1 itself": lambda: connect("/run/systemd/private"),
    "read a key": key,
    "read the machine's secret": lambda: read("/var/lib/systemd/credential.secret"),
    "signal PID 1": lambda: os.kill(1, signal.SIGRTMIN + 4),
    "signal root": lambda: os.kill(PID, signal.SIGTERM),
    "trace root": lambda: called(libc.ptrace(16, PID, 0, 0)),
    "read root's memory": lambda: open(f"/proc/{PID}/mem"),
    "root by /proc": lambda: os.listdir("/proc/1/root"),
    "root's environment": lambda: open(f"/proc/{PID}/environ"),
    "connect to root's socket": lambda: connect("/run/docker.sock"),
    "connect to LXD": lambda: connect("/var/lib/lxd/unix.socket"),
    "mount": lambda: called(libc.mount(b"tmpfs", b"/mnt", b"tmpfs", 0, None)),
    "unmount": lambda: called(libc.umount2(b"/etc/distbackupd/keys", 2)),
    "new user namespace": lambda: called(libc.unshare(0x10000000)),
    "open a disk": lambda: open(sys.argv[3]),
    "make a disk's node": lambda: os.mknod("/var/lib/distbackup/node", stat.S_IFBLK | 0o600, os.makedev(7, 0)),
    "open by handle": by_handle,
    "make a setuid program": setuid_program,
    "create a setuid program": lambda: os.open("/var/lib/distbackup/program", os.O_CREAT | os.O_WRONLY, 0o4755),
    "become root": lambda: os.setresuid(0, 0, 0),
    "io_uring": lambda: called(libc.syscall(425, 1, ctypes.create_string_buffer(120))),
    "speak to the network": lambda: socket.socket(socket.AF_INET),
    "set the clock": lambda: called(libc.settimeofday(ctypes.create_string_buffer(16), None)),
    "mount what is not enrolled": lambda: errand("mount", STRANGER),
    "release what is not enrolled": lambda: errand("release", STRANGER),
    "mount by device": lambda: errand("mount", "", b'{"verb": "mount", "device": "/dev/loop0"}'),
    "mount with options": lambda: errand("mount", "", b'{"verb": "mount", "uuid": "1111", "options": "suid"}'),
    "leave the list": lambda: errand("mount", "../../../etc/passwd"),
}
for name, attack in ATTACKS.items():
    try:
        attack()
        print("done:", name)
    except (OSError, DiskTrouble) as refused:
        print("refused:", name)
print("root:" in open("/etc/shadow").read(), open("/home/guest/secret").read())
"""


def test_code_inside_the_daemon_cannot(sandbox: tuple[Machine, list[Volume]], tmp_path: Path) -> None:
    machine, disks = sandbox
    machine.write("/etc/distbackupd/keys/1111.key", "secret", 0o600)
    machine.write("/home/guest/secret", "of guest", 0o600)
    machine.run("systemd-run", "--quiet", "--unit=bystander", "sleep", "1000")
    pid = machine.properties("bystander.service")["MainPID"]
    for path in ("/run/docker.sock", "/var/lib/lxd/unix.socket"):
        machine.run("mkdir", "-p", str(Path(path).parent))
        machine.run("systemd-run", "--quiet", f"--unit=s{Path(path).stem}", f"--socket-property=ListenStream={path}", "cat")
    stranger = machine.plug(make_image(tmp_path / "stranger.img"))
    machine.wait_for_device(stranger.device)
    told = run_inside(machine, f"sys.argv[1:] = {[pid, stranger.filesystem_uuid, disks[0].device]!r}\n" + ATTACKS)
    assert [line for line in told if line.startswith("done")] == []
    assert len(told) > 40
    # What it is for it can.
    assert told[-1] == "True of guest"
    assert not machine.path("/etc/proof").exists()
    assert machine.properties("bystander.service")["ActiveState"] == "active"
    assert machine.mounts_of(stranger.device) == []


def test_attacks_are_real(sandbox: tuple[Machine, list[Volume]]) -> None:
    """Root without a sandbox succeeds with what the daemon is refused: the refusals are the sandbox's."""
    machine, _ = sandbox
    program = (
        textwrap.dedent(ATTACKS.split("PID, STRANGER", maxsplit=1)[0])
        + "key()\nby_handle()\nsetuid_program()\ntransient()\n"
    )
    machine.write("/root/real.py", PROLOGUE + program)
    machine.write("/etc/distbackupd/keys/1111.key", "secret", 0o600)
    machine.run("env", "PYTHONPATH=/opt/code:/opt/packages", "python3", "/root/real.py")
    machine.run("sh", "-c", "until [ -e /etc/proof ]; do sleep 0.05; done; rm /etc/proof")


@pytest.mark.parametrize("unit", [DAEMON, HELPER])
def test_exposure_is_low(sandbox: tuple[Machine, list[Volume]], unit: str) -> None:
    machine, _ = sandbox
    place = f"/etc/systemd/system/{unit}.service"
    verified = machine.attempt("systemd-analyze", "verify", "--man=no", f"{place}")
    assert "Unknown" not in verified.stderr
    # In tenths: at the most 2.0.
    machine.run("systemd-analyze", "security", "--offline=true", "--threshold=20", place)
