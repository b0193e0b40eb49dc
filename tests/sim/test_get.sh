#!/bin/bash
# `tranche get` and `tranche describe` as a user runs them, on simulated GPUs and without any.
#
# usage: test_get.sh TRANCHE
set -u

tranche=$1
work=$(mktemp -d /tmp/get-test.XXXXXX)
node=$work/node
failed=0
tests=0
trap 'rm -rf "$work"' EXIT
unset LD_LIBRARY_PATH # a test that has no library must not find the one of the build

for name in $(env | sed -n 's/^\(\(NVIDIA_\|MIG_\|MPS_\|CDI_\)[A-Z_]*\|CONFIG_FILE\|FAIL_ON_INIT_ERROR\|DEVICE_[A-Z_]*\)=.*/\1/p'); do
    unset "$name"
done
export TRANCHE_SIM=$node

fail()
{
    echo "FAILED: $test: $*"
    failed=$((failed + 1))
}

begin()
{
    test=$1
    tests=$((tests + 1))
    rm -rf "$node"
}

sim()
{
    "$tranche" sim --dir "$node" "$@" >"$work/sim.out" 2>&1 || fail "sim $*: $(cat "$work/sim.out")"
}

run()
{
    timeout 60 "$tranche" "$@" >"$work/stdout" 2>"$work/stderr"
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

want_line()
{
    grep -qE -- "$1" "$work/stdout" || fail "no line like: $1; but: $(cat "$work/stdout")"
}

lines()
{
    wc -l <"$work/stdout"
}

# A value in JSON, by a Python expression over `it`.
json()
{
    python3 -c 'import json,sys; it=json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' \
        "$work/stdout" "$1"
}

want_json()
{
    local got
    got=$(json "$1" 2>&1)
    [ "$got" = "$2" ] || fail "$1 is $got, wanted $2"
}

# ---- what there is ----

begin "GPUs and their MIG devices are listed"
sim create --gpus 2xh100-80gb
sim mig 1 1g.10gb:7
run get gpus
want_status 0
[ "$(lines)" = 10 ] || fail "$(lines) lines"
want_line '^GPU +NAME +UUID +MEMORY +MIG +NUMA +BUS ID +HEALTH$'
want_line '^0 +NVIDIA H100 80GB HBM3 +GPU-[0-9a-f-]{36} +81559 MiB +off .* healthy$'
want_line '^1:6 +MIG 1g.10gb +MIG-[0-9a-f-]{36} +9984 MiB +instance 13/0 .* healthy$'

begin "GPUs are told to programs with all that is known"
sim create --gpus 2xh100-80gb
sim mig 1 1g.10gb:7
run get gpus -o json
want_status 0
want_json "len(it['gpus'])" 2
want_json "it['gpus'][1]['mig']['enabled'], len(it['gpus'][1]['mig']['devices'])" "(True, 7)"
want_json "it['gpus'][1]['mig']['devices'][0]['gpuInstanceNode'].startswith('/dev/nvidia-caps/nvidia-cap')" True
want_json "it['gpus'][0]['memoryBytes'] >> 20" 81559
want_json "it['gpus'][0]['links'][0]['gpu']" 1
want_json "it['unreadable']" "[]"

begin "devices are those that the kubelet would be offered"
sim create --gpus h100-80gb
sim mig 0 1g.10gb:2,3g.40gb
run get devices --mig-strategy mixed -o json
want_status 0
want_json "sorted(d['resource'] for d in it['devices'])" \
    "['nvidia.com/mig-1g.10gb', 'nvidia.com/mig-1g.10gb', 'nvidia.com/mig-3g.40gb']"
want_json "all(len(d['nodes']) == 3 for d in it['devices'])" True

begin "resources follow the config file"
sim create --gpus 4xt4
printf 'sharing:\n  timeSlicing:\n    resources:\n    - {name: nvidia.com/gpu, replicas: 4}\n' >"$work/config.yaml"
run get resources --config-file "$work/config.yaml"
want_status 0
want_line '^nvidia.com/gpu +16 +16 +time-slicing +4$'
run get resources --config-file="$work/config.yaml" -o yaml
want_status 0
want_line '^- name: nvidia.com/gpu$'
want_line '^  devices: 16$'

begin "labels are those of feature discovery"
sim create --gpus 4xt4
run get labels
want_status 0
want_line '^nvidia.com/gpu.product +Tesla-T4$'
run get labels --output=json
want_json "it['labels']['nvidia.com/gpu.count']" 4

begin "a page has everything"
sim create --gpus 2xa100-40gb
run describe node
want_status 0
want_line '^  Driver +570\.124\.06$'
want_line '^GPU 1  NVIDIA A100-SXM4-40GB$'
want_line '^  GPU0 +x +NV12$'
want_line '^  nvidia.com/gpu +2 +2 +none$'
want_line '^  nvidia.com/gpu.count=2$'
run describe node -o json
want_json "it['driverVersion'], it['cudaVersion'], len(it['gpus']), it['resources'][0]['devices']" \
    "('570.124.06', 12080, 2, 2)"

begin "what does not go together is told without hiding the rest"
sim create --gpus 2xh100-80gb
sim mig 0 1g.10gb:7
run describe node --mig-strategy single
want_status 0
want_line 'all devices on the node must be configured with the same migEnabled value'
want_line '^GPU 1 '
run get resources --mig-strategy single
want_status 1
want_error "all devices on the node must be configured with the same migEnabled value"

# ---- trouble ----

begin "a lost GPU is named"
sim create --gpus 2xh100-80gb
sim lose 1
run get gpus
want_status 0
want_line '^1 .*GPU is lost$'
run get gpus -o json
want_json "it['unreadable'][0]['index']" 1

begin "a GPU that hangs is named after a while"
sim create --gpus 2xh100-80gb
sim set 1 hung=on
run get gpus
want_status 0
want_line '^0 .* healthy$'
want_line '^1 .*NVML has not answered for 5 s$'

begin "a driver that is not loaded is said, with what to look for"
sim create --gpus t4
sim set node driver-loaded=off
run get gpus
want_status 1
want_error "says: Driver Not Loaded"
want_error "lsmod"

if ! ldconfig -p 2>/dev/null | grep -q 'libnvidia-ml\.so\.1\|libdxcore\.so'; then
    begin "where there is no driver, a simulated one is offered"
    TRANCHE_SIM='' run get gpus
    want_status 1
    want_error "there is no NVIDIA driver here"
    want_error "tranche sim create"
fi

begin "a simulated node that is not there is asked for"
TRANCHE_SIM=$work/none run get gpus
want_status 1
want_error "there is no simulated node in $work/none"

begin "a root of one's own is looked at"
sim create --gpus t4
TRANCHE_SIM=$node run get gpus --root "$node/root"
want_status 0
want_line 'Tesla T4'
run get gpus --root "$work/none"
want_status 1
want_error "--root $work/none: there is no such directory"

# ---- misuse ----

begin "misuse is told apart from failure"
sim create --gpus t4
while read -r wanted words; do
    # shellcheck disable=SC2086
    run $words
    want_status "$wanted"
    [ -s "$work/stderr" ] || fail "nothing said about: $words"
done <<'CASES'
2 get
2 get gups
2 get gpus -o xml
2 get gpus -o
2 get gpus extra
2 get -o json
2 describe
2 describe gpu
1 get gpus --bogus
1 get gpus --config-file /nonexistent/config.yaml
CASES
run get gups
want_error "did you mean gpus?"

begin "help has examples"
for verb in get describe; do
    run "$verb" --help
    want_status 0
    want_line '^Examples:$'
done
run get gpus --help
want_status 0

echo "$tests tests, $failed failures"
[ "$failed" = 0 ]
