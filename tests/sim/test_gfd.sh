#!/bin/bash
# gpu-feature-discovery as upstream's program of that name behaves (spec/device-plugin §9), on
# simulated GPUs: its labels against golden files, and what it does with files, signals and errors.
#
# usage: test_gfd.sh TRANCHE GOLDEN-FOLDER
set -u

tranche=$1
golden=$2
work=$(mktemp -d /tmp/gfd-test.XXXXXX)
node=$work/node
out=$work/features/gfd
failed=0
tests=0
pid=

cleanup()
{
    [ -n "$pid" ] && kill -KILL "$pid" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
unset LD_LIBRARY_PATH # a test that has no library must not find the one of the build

# What the environment of this test may have set is not for the program.
for name in $(env | sed -n 's/^\(\(GFD_\|NVIDIA_\|MIG_\|KUBE\|NODE_\|POD_\)[A-Z_]*\|NAMESPACE\|CONFIG_FILE\|FAIL_ON_INIT_ERROR\|USE_NODE_FEATURE_API\|DEVICE_DISCOVERY_STRATEGY\)=.*/\1/p'); do
    unset "$name"
done
mkdir -p "$work/features" "$work/bin"
ln -s "$(realpath "$tranche")" "$work/bin/gpu-feature-discovery"
gfd=$work/bin/gpu-feature-discovery
file_mode="--use-node-feature-api=false --output-file=$out"

# ---- tools ----

fail()
{
    echo "FAILED: $test: $*"
    failed=$((failed + 1))
}

begin()
{
    test=$1
    tests=$((tests + 1))
    rm -rf "$node" "$out" "$work/features"
    mkdir -p "$work/features"
}

sim()
{
    "$tranche" sim --dir "$node" "$@" >"$work/sim.out" 2>&1 || fail "sim $*: $(cat "$work/sim.out")"
}

make_node()
{
    sim create --driver 550.90.07 --machine "PowerEdge R750xa" "$@"
    export TRANCHE_SIM=$node
}

# Runs to its end; stdout and stderr are kept.
run()
{
    # shellcheck disable=SC2086
    timeout 60 "$gfd" "$@" >"$work/stdout" 2>"$work/stderr"
    status=$?
}

want_status()
{
    [ "$status" = "$1" ] || fail "exit status $status, wanted $1: $(cat "$work/stderr")"
}

want_error()
{
    grep -qF -- "$1" "$work/stderr" || fail "no such error: $1; but: $(cat "$work/stderr")"
}

want_labels()
{
    diff -u "$golden/$1.labels" "$2" >"$work/diff" || fail "labels differ: $(cat "$work/diff")"
}

label()
{
    sed -n "s|^nvidia.com/$1=||p" "${2:-$out}"
}

# Waits (at most 10 s) until a command succeeds.
until_true()
{
    for _ in $(seq 500); do
        "$@" && return 0
        sleep 0.02
    done
    fail "never: $*"
    return 1
}

start()
{
    "$gfd" "$@" >"$work/stdout" 2>"$work/stderr" &
    pid=$!
}

stop()
{
    kill "-$1" "$pid"
    wait "$pid"
    status=$?
    pid=
}

# ---- labels ----

check_labels() # name, options…
{
    local name=$1
    shift
    # shellcheck disable=SC2086
    run --oneshot --no-timestamp $file_mode "$@"
    want_status 0
    want_labels "$name" "$out"
}

sharing() # strategy, resource, replicas, more lines
{
    printf 'version: v1\nsharing:\n  %s:\n%b    resources:\n    - name: %s\n      replicas: %s\n' \
        "$1" "${4:-}" "$2" "$3" >"$work/config.yaml"
}

begin "eight whole GPUs have the labels of one and the count of all"
make_node --gpus 8xh100-80gb
check_labels h100-whole

begin "seven equal MIG devices under single are GPUs"
make_node --gpus h100-80gb
sim mig 0 1g.10gb:7
check_labels h100-single --mig-strategy=single

begin "seven equal MIG devices under single may be shared"
make_node --gpus h100-80gb
sim mig 0 1g.10gb:7
sharing timeSlicing nvidia.com/gpu 4
check_labels h100-single-shared --mig-strategy=single --config-file="$work/config.yaml"

begin "each profile under mixed has labels of its own"
make_node --gpus h100-80gb
sim mig 0 1g.10gb:2,2g.20gb,3g.40gb
check_labels h100-mixed --mig-strategy=mixed

begin "a GPU without MIG devices under single is invalid"
make_node --gpus h100-80gb
sim mig 0 on
check_labels h100-single-empty --mig-strategy=single

begin "time-sliced GPUs say so"
make_node --gpus t4
sharing timeSlicing nvidia.com/gpu 4
check_labels t4-shared --config-file="$work/config.yaml"

begin "renamed time-sliced GPUs keep their product's name"
make_node --gpus t4
sharing timeSlicing nvidia.com/gpu 4 '    renameByDefault: true\n'
check_labels t4-renamed --config-file="$work/config.yaml"

begin "GPUs shared by MPS say so"
make_node --gpus 2xa100-40gb
sharing mps nvidia.com/gpu 2
check_labels a100-mps --config-file="$work/config.yaml"

# What the reference program said on the same simulated nodes, too: docs/compatibility.md.
begin "each board's MIG profiles have their labels"
check_board() # name, GPUs, layout of GPU 0, strategy
{
    make_node --gpus "$2" --force
    sim mig 0 "$3"
    check_labels "$1" "--mig-strategy=$4"
}
check_board a30-mixed a30 1g.6gb:2,2g.12gb mixed
check_board a100-mixed 2xa100-40gb 1g.5gb:2,2g.10gb,3g.20gb mixed
check_board h100-compute-slices h100-80gb 1c.3g.40gb,2c.3g.40gb mixed
check_board h100-uneven 2xh100-80gb 1g.10gb:7 single
check_board h200-mixed h200 1g.18gb:2,2g.35gb,3g.71gb mixed
check_board b200-single b200 1g.23gb:7 single
check_board gh200-single gh200 1g.12gb:7 single
check_board rtx-pro-6000-graphics rtx-pro-6000 1g.24gb+gfx:4 mixed
check_board rtx-pro-6000-media rtx-pro-6000 1g.24gb+me.all,1g.24gb-me:3 mixed

begin "a profile with media engines may be shared under its own name"
make_node --gpus h100-80gb
sim mig 0 1g.10gb+me,1g.10gb:2
sharing timeSlicing nvidia.com/mig-1g.10gb.me 3
check_labels h100-media-shared --mig-strategy=mixed --config-file="$work/config.yaml"

begin "a GPU before MIG is told not to be capable of it"
make_node --gpus v100
check_labels v100-whole

begin "a fabric is named by its clique"
make_node --gpus 2xgb200
sim set all fabric-state=3 fabric-cluster=01234567-89ab-cdef-0123-456789abcdef fabric-clique=7
check_labels gb200-fabric

begin "of two models the one with the lowest index is told"
make_node --gpus t4,2xl4
run --oneshot --no-timestamp --use-node-feature-api=false --output-file="$out"
want_status 0
want_error "Multiple device types detected"
[ "$(label gpu.product) $(label gpu.count)" = "Tesla-T4 1" ] || fail "$(label gpu.product)"

# ---- output ----

begin "a oneshot run writes one file, whole and readable, and leaves it"
make_node --gpus t4
# shellcheck disable=SC2086
run --oneshot $file_mode
want_status 0
[ "$(stat -c %a "$out")" = 644 ] || fail "mode $(stat -c %a "$out")"
[ "$(ls -A "$work/features")" = gfd ] || fail "left behind: $(ls -A "$work/features")"
[ "$(label gfd.timestamp)" -gt 1700000000 ] || fail "timestamp $(label gfd.timestamp)"

begin "no output file is stdout"
make_node --gpus t4
run --oneshot --no-timestamp --use-node-feature-api=false --output-file=
want_status 0
[ "$(label gpu.product "$work/stdout")" = Tesla-T4 ] || fail "$(cat "$work/stdout")"

begin "a folder that is missing ends the run"
make_node --gpus t4
run --oneshot --use-node-feature-api=false --output-file="$work/none/gfd"
want_status 1
want_error "error atomically writing file '$work/none/gfd': open $work/none/.gfd"
want_error "no such file or directory"

begin "the labels are written again after each interval"
make_node --gpus t4
# shellcheck disable=SC2086
start $file_mode --sleep-interval=50ms
until_true test -s "$out"
first=$(stat -c %i "$out")
stamp=$(label gfd.timestamp)
is_another()
{
    [ "$(stat -c %i "$out" 2>/dev/null || echo "$first")" != "$first" ]
}
until_true is_another
[ "$(label gfd.timestamp)" = "$stamp" ] || fail "the timestamp is that of the load"
mkdir "$work/features/gfd-tmp"
stop TERM
want_status 0
[ -z "$(ls -A "$work/features")" ] || fail "left behind: $(ls -A "$work/features")"

begin "changes of the hardware are seen at the next interval"
make_node --gpus h100-80gb
# shellcheck disable=SC2086
start $file_mode --sleep-interval=50ms --mig-strategy=single
until_true test -s "$out"
sim mig 0 1g.10gb:7
is_sevenfold()
{
    [ "$(label gpu.count)" = 7 ]
}
until_true is_sevenfold
stop INT
want_status 0

begin "an infinite sleep leaves the labels when it is ended"
make_node --gpus t4
# shellcheck disable=SC2086
start $file_mode --sleep-interval=infinite
until_true test -s "$out"
stop QUIT
want_status 0
[ -s "$out" ] || fail "the labels are gone"

begin "a hangup loads the configuration again"
make_node --gpus t4
sharing timeSlicing nvidia.com/gpu 4
# shellcheck disable=SC2086
start $file_mode --sleep-interval=1h --config-file="$work/config.yaml"
until_true test -s "$out"
[ "$(label gpu.replicas)" = 4 ] || fail "replicas $(label gpu.replicas)"
sharing timeSlicing nvidia.com/gpu 9
kill -HUP "$pid"
is_ninefold()
{
    [ "$(label gpu.replicas 2>/dev/null)" = 9 ]
}
until_true is_ninefold 2>/dev/null
echo 'sharing: [' >"$work/config.yaml"
kill -HUP "$pid"
wait "$pid"
status=$?
pid=
want_status 1
want_error "unable to load config: unable to finalize config: unable to parse config file: error parsing config file: unmarshal error: error converting YAML to JSON: yaml:"
[ -e "$out" ] && fail "the labels of the last configuration are still there"

begin "an error in the loop removes the labels"
make_node --gpus h100-80gb
sharing mps nvidia.com/gpu 2
# shellcheck disable=SC2086
start $file_mode --sleep-interval=50ms --config-file="$work/config.yaml"
until_true test -s "$out"
sim mig 0 on
wait "$pid"
status=$?
pid=
want_status 1
want_error "error creating labeler: error creating sharing labeler: failed to check MPS-capable: MPS sharing is not supported for mig devices"
[ -e "$out" ] && fail "the labels are still there"

# ---- NVML in trouble ----

begin "a driver that is not loaded ends the run"
make_node --gpus t4
sim set node driver-loaded=off
# shellcheck disable=SC2086
run --oneshot $file_mode
want_status 1
want_error "error creating labeler: failed to initialize resource manager: Driver Not Loaded"
[ -e "$out" ] && fail "there are labels"

begin "a driver that is not loaded may mean no devices, until a hangup"
make_node --gpus t4
sim set node driver-loaded=off
# shellcheck disable=SC2086
start $file_mode --fail-on-init-error=false --sleep-interval=50ms
until_true test -s "$out"
sed 's/=.*//' "$out" | sort >"$work/keys"
printf 'nvidia.com/gfd.timestamp\nnvidia.com/vgpu.present\n' | cmp -s - "$work/keys" ||
    fail "$(cat "$work/keys")"
sim set node driver-loaded=on
sleep 0.3
[ -z "$(label gpu.product)" ] || fail "devices appeared without a hangup"
kill -HUP "$pid"
has_product()
{
    [ "$(label gpu.product 2>/dev/null)" = Tesla-T4 ]
}
until_true has_product 2>/dev/null
stop TERM
want_status 0

begin "a driver that goes ends the run, or means no devices"
make_node --gpus t4
# shellcheck disable=SC2086
start $file_mode --sleep-interval=50ms
until_true test -s "$out"
sim set node driver-loaded=off
wait "$pid"
status=$?
pid=
want_status 1
want_error "error creating labeler: failed to initialize resource manager: Driver Not Loaded"
[ -e "$out" ] && fail "the labels are still there"
sim set node driver-loaded=on
# shellcheck disable=SC2086
start $file_mode --sleep-interval=50ms --fail-on-init-error=false
until_true test -s "$out"
sim set node driver-loaded=off
has_no_product()
{
    [ -s "$out" ] && [ -z "$(label gpu.product)" ]
}
until_true has_no_product
stop TERM
want_status 0

begin "a lost GPU does not take the labels of the others away"
make_node --gpus 3xh100-80gb
sim lose 1
# shellcheck disable=SC2086
run --oneshot $file_mode
want_status 0
[ "$(label gpu.count)" = 2 ] || fail "count $(label gpu.count)"
want_error "cannot read GPU, leaving it out gpu=1"

begin "when every GPU is lost there are no labels"
make_node --gpus 2xh100-80gb
sim lose all
# shellcheck disable=SC2086
run --oneshot $file_mode
want_status 1
want_error "error creating labeler: GPU 0: "

if ! ldconfig -p 2>/dev/null | grep -q 'libnvidia-ml\.so\.1\|libdxcore\.so'; then
    begin "without a library strategy auto is not supported"
    unset TRANCHE_SIM
    # shellcheck disable=SC2086
    run --oneshot $file_mode
    want_status 1
    want_error "failed to create resource manager: unsupported strategy auto"

    begin "without a library there may be no devices"
    # shellcheck disable=SC2086
    run --oneshot $file_mode --fail-on-init-error=false
    want_status 0
    want_error "using empty manager"
    [ -z "$(label gpu.product)" ] || fail "a product without a library"
    [ -n "$(label gfd.timestamp)" ] || fail "no timestamp"

    begin "without a library strategy nvml fails as NVML would"
    # shellcheck disable=SC2086
    run --oneshot $file_mode --device-discovery-strategy=nvml
    want_status 1
    want_error "error creating labeler: failed to initialize resource manager: ERROR_LIBRARY_NOT_FOUND"

    begin "without a library strategy nvml may be told to go on without devices"
    # shellcheck disable=SC2086
    run --oneshot $file_mode --device-discovery-strategy=nvml --fail-on-init-error=false
    want_status 0
    [ "$(label vgpu.present)" = false ] || fail "$(cat "$out")"
    [ -z "$(label gpu.product)" ] || fail "a product without a library"
fi

# ---- options ----

begin "NodeFeature mode needs a client configuration first, then the node's name"
make_node --gpus t4
run --oneshot
want_status 1
want_error "failed to create clientsets: create client configuration: create in-cluster client configuration: unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"
want_error "--use-node-feature-api=false"
touch "$work/kubeconfig"
run --oneshot --kubeconfig="$work/kubeconfig"
want_status 1
want_error "failed to create label outputer: required flag node-name not set"
run --oneshot --kubeconfig="$work/none"
want_status 1
want_error "failed to create clientsets: create client configuration: create out-of-cluster client configuration: stat $work/none: no such file or directory"

begin "a MIG strategy that does not exist is found out about late"
make_node --gpus h100-80gb
# shellcheck disable=SC2086
run --oneshot $file_mode --mig-strategy=double
want_status 1
want_error "unknown strategy: double"

begin "a wrong flag shows the usage on stdout"
run --bogus
want_status 1
want_error "flag provided but not defined: -bogus"
grep -qF "Incorrect Usage: flag provided but not defined: -bogus" "$work/stdout" || fail "no usage"

begin "a wrong variable shows the usage on stdout"
export GFD_SLEEP_INTERVAL=60
run --oneshot
unset GFD_SLEEP_INTERVAL
want_status 1
want_error 'could not parse "60" from environment variable "GFD_SLEEP_INTERVAL" as value for flag sleep-interval: time: missing unit in duration "60"'

begin "version and help are answers"
run --version
want_status 0
grep -q '^gpu-feature-discovery version' "$work/stdout" || fail "$(cat "$work/stdout")"
run --help
want_status 0
grep -q -- '--sleep-interval' "$work/stdout" || fail "$(cat "$work/stdout")"

begin "a machine type file of one's own is read where it lies"
make_node --gpus t4
echo "  My Own (Box) " >"$work/machine"
# shellcheck disable=SC2086
run --oneshot $file_mode --machine-type-file="$work/machine"
[ "$(label gpu.machine)" = My-Own-Box ] || fail "machine $(label gpu.machine)"
# shellcheck disable=SC2086
run --oneshot $file_mode --machine-type-file="$work/none"
[ "$(label gpu.machine)" = unknown ] || fail "machine $(label gpu.machine)"

begin "a pipe is written through, never replaced"
make_node --gpus t4
mkfifo "$work/pipe"
cat "$work/pipe" >"$work/read" &
reader=$!
run --oneshot --use-node-feature-api=false --output-file="$work/pipe"
want_status 0
[ -p "$work/pipe" ] || { fail "the pipe is gone" && kill "$reader"; }
wait "$reader"
grep -q '^nvidia.com/gpu.product=Tesla-T4$' "$work/read" || fail "$(cat "$work/read")"

echo "$tests tests, $failed failures"
[ "$failed" = 0 ]
