#!/usr/bin/env bash
# Builds the container image localhost/kluis:VERSION, as root: Debian's packages by mmdebstrap, Kluis's wheels by
# pip, an image from scratch by buildah. No image is pulled from a registry.
#
#   examples/deploy/container/build.sh [DIST]    DIST: the folder of wheels that `make dist` writes
set -euo pipefail

cd "$(dirname "$0")/../../.."
dist="$(realpath "${1:-dist}")"
python="${KLUIS_VENV:-.venv}/bin/python"
version="$("$python" -c 'import kluis; print(kluis.__version__)')"
extras="services,rooms"

stop() {
    printf 'build: error: %s\nbuild: hint: %s\n' "$1" "$2" >&2
    exit 7
}

for tool in mmdebstrap buildah; do
    command -v "$tool" >/dev/null || stop "$tool: want it, got none" "apt-get install mmdebstrap buildah"
done
[ "$(id -u)" = 0 ] || stop "user: want root, got $(id -un)" "sudo $0"
compgen -G "$dist/kluis_runtime-*-cp313-*.whl" >/dev/null ||
    stop "$dist: want wheels of kluis and kluis-runtime for CPython 3.13, got none" "make dist"

work="$(mktemp -d)"
container=""
finish() {
    [ -z "$container" ] || buildah rm "$container" >/dev/null
    rm -rf "$work"
}
trap finish EXIT

# The wheels of Kluis, of what it imports, and of what goes into the services' images: a container needs no index.
mkdir "$work/wheels"
cp "$dist"/kluis-*.whl "$dist"/kluis_runtime-*-cp313-*.whl "$work/wheels/"
fetch() {
    "$python" -m pip download -q --disable-pip-version-check --only-binary=:all: --dest "$work/wheels" \
        --implementation cp --python-version 3.13 --abi cp313 --abi abi3 --abi none \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform any \
        --find-links "$dist" "$@"
}
fetch "kluis[$extras]==$version"
for lock in src/kluis/serve/images/*/requirements.cpython-313.lock; do
    fetch --no-deps --require-hashes -r "$lock"
done

# Debian's root file system, with Kluis in /opt/kluis.
mmdebstrap --quiet --variant=minbase --format=tar \
    --include=python3,python3-venv,bubblewrap,util-linux,ca-certificates \
    --customize-hook="mkdir -p \"\$1/opt/wheels\" && cp \"$work\"/wheels/*.whl \"\$1/opt/wheels\"" \
    --customize-hook='printf "[global]\nno-index = true\nfind-links = /opt/wheels\n" >"$1/etc/pip.conf"' \
    --customize-hook='chroot "$1" python3 -m venv /opt/kluis' \
    --customize-hook="chroot \"\$1\" /opt/kluis/bin/pip install -q --no-cache-dir 'kluis[$extras]==$version'" \
    --customize-hook='chroot "$1" useradd --system --user-group --home-dir /var/lib/kluis --create-home --shell /usr/sbin/nologin kluis && rm -f "$1"/var/lib/kluis/.[a-z]* && chmod 0700 "$1/var/lib/kluis"' \
    --customize-hook='rm -rf "$1"/var/cache/apt "$1"/var/lib/apt/lists/*' \
    trixie "$work/root.tar"

container="$(buildah from scratch)"
buildah add -q "$container" "$work/root.tar" / >/dev/null
buildah config \
    --env PATH=/opt/kluis/bin:/usr/sbin:/usr/bin:/sbin:/bin --env LANG=C.UTF-8 \
    --entrypoint '["/opt/kluis/bin/kluis"]' --cmd '["doctor"]' \
    --label org.opencontainers.image.title=kluis --label "org.opencontainers.image.version=$version" \
    --stop-signal SIGTERM "$container"
buildah commit -q "$container" "localhost/kluis:$version" >/dev/null
echo "localhost/kluis:$version"
