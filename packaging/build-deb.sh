#!/bin/bash
# build-deb.sh: builds build/distbackupd_VERSION_ARCHITECTURE.deb with Debian's own tools, for the Debian it runs on.
#
# The repository's top level has no room for debian/, so a copy of what the package is made from is built in build/deb.
# Where nothing changed since the last time, the package is left as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

# Another Python in front of Debian's would be taken for it.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV
# Nor may pip take what another Python compiled, against other libraries, from the user's own cache.
export PIP_CACHE_DIR=$PWD/build/deb/cache

packaging/prepare.sh deb

made_from=(pyproject.toml README.md LICENSE CHANGELOG.md SECURITY.md RELIABILITY.md distbackupd systemd udev packaging)
version=$(sed --quiet 's/^__version__ = "\(.*\)"/\1/p' distbackupd/__init__.py)
package=build/distbackupd_${version}_$(dpkg --print-architecture).deb

mkdir -p build/deb
exec 9>build/deb/lock
flock 9

fingerprint=$(
    {
        find "${made_from[@]}" -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum
        python3 --version
        cat /etc/debian_version
    } | sha256sum
)
if [ -e "$package" ] && [ "$(cat build/deb/made-from 2>/dev/null)" = "$fingerprint" ]; then
    echo "$package is up to date"
    exit 0
fi

echo "Building $package"
rm -rf build/deb/source "$package"
mkdir build/deb/source
tar --create --exclude=__pycache__ "${made_from[@]}" | tar --extract --directory build/deb/source
mv build/deb/source/packaging/debian build/deb/source/debian

cat >build/deb/source/debian/changelog <<END
distbackupd ($version) unstable; urgency=medium

  * What changed is told in /usr/share/doc/distbackupd/CHANGELOG.md.gz.

 -- $(sed --quiet 's/^Maintainer: //p' packaging/debian/control)  $(date --rfc-email --reference CHANGELOG.md)
END

if ! (cd build/deb/source && dpkg-buildpackage --no-sign --build=binary) >build/deb/log 2>&1; then
    tail -n 40 build/deb/log >&2
    echo "No package was built; all that was said is in build/deb/log." >&2
    exit 1
fi
mv "build/deb/$(basename "$package")" "$package"
echo "$fingerprint" >build/deb/made-from
echo "Built $package; to install it, as root: apt install ./$package"
