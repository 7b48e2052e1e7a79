#!/bin/bash
# prepare.sh build|test|demo|manual|deb...: sees to it that the Debian packages for these purposes are installed.
#
# Installs what is missing when root asks. Anybody else is told the command, and gets exit status 1 where there is no
# going on without (build, manual, deb); tests skip what they cannot run, and the demo takes folders for disks.
# Where all is installed, this asks nobody but dpkg and costs a few hundredths of a second.
set -eu

declare -A packages=(
    # systemd-python comes as source.
    [build]="gcc libc6-dev libsystemd-dev pkg-config python3-dev python3-venv"
    # File systems and block devices, broken ones too; a udevd of one's own; a booted systemd; a desktop; what a restore
    # is compared with; our own package, and what it depends on; linters.
    [test]="acl attr btrfs-progs build-essential cryptsetup-bin dbus debhelper dosfstools dunst e2fsprogs exfat-fuse
            exfatprogs fdisk fuse3 git imagemagick kmod libcap2-bin libnbd-bin lintian mmdebstrap mount nbdkit ntfs-3g
            polkitd procps python3-dbusmock rsync scdoc shellcheck sqlite3 strace systemd systemd-container tzdata udev
            util-linux xdotool xfce4-notifyd xfsprogs xvfb"
    # The unit tests alone.
    [unit]="acl attr e2fsprogs mount procps rsync tzdata util-linux"
    [demo]="e2fsprogs mount rsync udev util-linux"
    # Small file systems of all kinds, and a library that makes calls fail.
    [crash]="btrfs-progs e2fsprogs exfat-fuse exfatprogs gcc libc6-dev mount ntfs-3g util-linux xfsprogs"
    [manual]="scdoc"
    # A Debian with nothing in it.
    [fresh]="git mmdebstrap util-linux"
    # A virtual machine with USB disks, and a Debian for it.
    [vm]="mmdebstrap openssh-client qemu-system-x86 qemu-utils"
    [deb]="build-essential debhelper libsystemd-dev pkg-config python3-dev python3-venv scdoc"
)
indispensable=" build deb fresh manual vm "

is_installed() {
    [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

if ! command -v dpkg-query >/dev/null; then
    for purpose in "$@"; do
        echo "This is no Debian, nothing is installed here. For $purpose see to the likes of: ${packages[$purpose]}" >&2
    done
    exit 0
fi

missing=()
blocked=0
for purpose in "$@"; do
    for package in ${packages[$purpose]}; do
        if ! is_installed "$package"; then
            missing+=("$package")
            case $indispensable in *" $purpose "*) blocked=1 ;; esac
        fi
    done
done
[ ${#missing[@]} -gt 0 ] || exit 0

# None is named twice where two purposes want it.
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort --unique)
command=(apt-get install --yes --no-install-recommends "${missing[@]}")
if [ "$(id -u)" != 0 ]; then
    echo "Not installed: ${missing[*]}. As root: ${command[*]}" >&2
    exit "$blocked"
fi
echo "Installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get --quiet=2 update
if ! output=$("${command[@]}" --quiet=2 -o Dpkg::Use-Pty=0 2>&1); then
    printf '%s\n' "$output" >&2
    exit 1
fi
