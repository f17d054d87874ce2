#!/bin/sh
# Installs the real programs that the tests talk to: Orthanc with DICOMweb, dcmtk, dicom3tools,
# PostgreSQL, Chromium, poppler, rsyslog. Debian and Ubuntu only, only what is missing, and no service is started: the tests run
# every program themselves, on private ports. Without the right to install, the tests that need a
# missing program are skipped with a reason; under CI=true that is a failure.
set -u

packages="orthanc orthanc-dicomweb dcmtk dicom3tools postgresql chromium poppler-utils rsyslog rsyslog-gnutls"

give_up() {
    echo "peers: $1" >&2
    case "${CI:-}" in
        1 | true) exit 1 ;;
        *) echo "peers: the tests that need them will be skipped" >&2; exit 0 ;;
    esac
}

command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
    give_up "this is no Debian or Ubuntu; install by hand: $packages"

missing=""
for package in $packages; do
    status=$(dpkg-query --show --showformat='${db:Status-Abbrev}' "$package" 2>/dev/null)
    case "$status" in
        ii*) ;;
        *) missing="$missing $package" ;;
    esac
done
if [ -z "$missing" ]; then
    echo "peers: all there ($packages)"
    exit 0
fi

if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    give_up "no right to install$missing (neither root nor sudo without a password)"
fi

echo "peers: installing$missing"

# Debian starts what it installs. policy-rc.d is its own way to say no; it is put back as it was.
policy=/usr/sbin/policy-rc.d
made_policy=""
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null &&
        $as_root chmod 755 "$policy" && made_policy=yes
fi
remove_policy() { [ -z "$made_policy" ] || $as_root rm -f "$policy"; }
trap remove_policy EXIT

install() {
    $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --quiet --no-install-recommends $missing
}
install || { $as_root apt-get update --quiet && install; } ||
    give_up "apt-get could not install$missing"
echo "peers: installed$missing; no service was started"
