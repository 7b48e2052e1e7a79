"""The virtual machine's image: a Debian, booted and frozen. Built once, kept between runs, found by its recipe's hash.

It is the host's own release, from wherever the host's apt gets its packages. ``python -m tests.vm.image`` builds it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.vm.machine import Origin, tell, virtual_machine
from tests.vm.qemu import HARDWARE, PROGRAM

_PACKAGES = [
    *("linux-image-amd64", "initramfs-tools", "kmod", "systemd-sysv", "udev", "dbus", "openssh-server", "procps", "rsync"),
    *("btrfs-progs", "cryptsetup-bin", "dosfstools", "e2fsprogs", "exfatprogs", "fdisk", "ntfs-3g", "xfsprogs"),
    *("polkitd", "python3", "tzdata", "udisks2"),  # with the kernel's and systemd's friends, what our package wants
]
"""The kernel must be this one: the one for clouds knows no USB."""

_FILES = {
    "etc/hostname": "shelf",
    "etc/fstab": "/dev/vda / ext4 defaults,noatime 0 1\n",
    "etc/systemd/network/20-wired.network": "[Match]\nName=en* eth*\n[Network]\nAddress=10.0.2.15/24\nIPv6AcceptRA=no\n",
    "etc/systemd/journald.conf.d/keep.conf": "[Journal]\nStorage=persistent\nRateLimitBurst=0\n",
}
_NOT_NEEDED = ["apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"]


def the_image() -> Origin:
    """A booted and frozen machine, built if it is not there yet. Building needs root and takes some minutes."""
    folder = _cache() / f"vm-{_recipe_hash()}"
    if not folder.exists():
        _build(folder)
    return _image(folder)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distbackupd-tests"


def _recipe_hash() -> str:
    recipe = hashlib.sha256(Path(__file__).read_bytes())
    recipe.update(repr(HARDWARE).encode())
    recipe.update(_output(PROGRAM, "--version"))
    recipe.update(_apt_sources())
    return recipe.hexdigest()[:16]


def _image(folder: Path) -> Origin:
    return Origin(folder / "vmlinuz", folder / "initrd.img", folder / "key", folder / "root.qcow2", folder / "memory")


def _build(folder: Path) -> None:
    """Build all beside ``folder`` and rename it at the end, so that half an image is never found."""
    if os.geteuid():
        sys.exit("There is no virtual machine yet, and only root can install one: sudo make test-vm")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
        place = Path(name)
        image = _image(place / "image")
        image.key.parent.mkdir()
        tell("There is no virtual machine of this recipe yet. Installing a Debian for it, once; this takes some minutes")
        _output("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(image.key))
        installed = _install(image, place)
        tell("Starting it for the first time")
        with virtual_machine(installed, place / "run") as machine:
            tell(f"It is {machine.run('systemctl is-system-running --wait').strip()}")
            frozen = machine.freeze()
        _output("qemu-img", "convert", "-O", "qcow2", str(frozen.disk), str(image.disk))
        shutil.move(str(frozen.memory), str(image.memory))
        image.key.parent.rename(folder)
    size = sum(file.stat().st_blocks * 512 for file in folder.iterdir())
    tell(f"It is kept in {folder} ({size >> 20} MiB); remove that folder to have it built anew")


def _install(image: Origin, place: Path) -> Origin:
    """Install a Debian for which ``image`` has the key already, and fetch the kernel and initrd for it; a cold machine."""
    root, disk, sources = place / "root", place / "root.raw", place / "sources.list"
    sources.write_bytes(_apt_sources())
    release = _output("sh", "-c", '. /etc/os-release && echo "$VERSION_CODENAME"').decode().strip()
    _output(
        *("nice", "mmdebstrap", "--variant=apt", f"--include={','.join(_PACKAGES)}", '--aptopt=Acquire::Languages "none"'),
        *("--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*"),
        *(release, str(root), str(sources)),
    )
    for name, text in _FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    _output("systemctl", f"--root={root}", "enable", "systemd-networkd.service", "ssh.service")
    _output("systemctl", f"--root={root}", "mask", *_NOT_NEEDED)
    keys = root / "root" / ".ssh" / "authorized_keys"
    keys.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(image.key.with_suffix(".pub"), keys)
    shutil.copy(root / "vmlinuz", image.kernel)
    shutil.copy(root / "initrd.img", image.initrd)
    _output("truncate", "--size=4G", str(disk))
    _output("mkfs.ext4", "-q", "-L", "root", "-d", str(root), str(disk))
    return dataclasses.replace(image, disk=disk, memory=None)


def _apt_sources() -> bytes:
    """Where this host gets Debian from, as lines of a ``sources.list``."""
    form = ["--format", "deb $(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages", "Origin: Debian"]
    return b"".join(sorted(set(_output("apt-get", "indextargets", *form).splitlines(keepends=True))))


def _output(*command: str) -> bytes:
    done = subprocess.run(command, check=False, capture_output=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr.decode('utf-8', 'replace')}")
    return done.stdout


if __name__ == "__main__":
    the_image()
