#!/bin/bash
# nvidia-mig-manager.service without systemd: the service's script and its hooks on simulated GPUs,
# with stand-ins for systemctl, reboot and nvidia-smi that write down what they were asked.
#
# usage: test_mig_service.sh TRANCHE BUILT-DEPLOY-FOLDER DEFAULT-CONFIGURATIONS
set -u

tranche=$1
deploy=$2
defaults=$3
work=$(mktemp -d /tmp/mig-service-test.XXXXXX)
node=$work/node
bin=$work/bin
root=$node/root
log=$work/log
timeout=$(command -v timeout)
failed=0
tests=0
trap 'rm -rf "$work"' EXIT
unset LD_LIBRARY_PATH # a test that has no library must not find the one of the build

for name in $(env | sed -n 's/^\(MIG_[A-Z_]*\)=.*/\1/p'); do
    unset "$name"
done
export TRANCHE_SIM=$node MIG_MANAGER_ROOT=$root

# ---- stand-ins ----

mkdir -p "$bin"
ln -s "$tranche" "$bin/nvidia-mig-parted"
ln -s "$tranche" "$bin/tranche"
for tool in sh cat cp mv ln rm mkdir grep sed sort tr awk xargs dirname readlink; do
    ln -s "$(command -v $tool)" "$bin/$tool"
done

cat >"$bin/systemctl" <<END
#!/bin/sh
case \$1 in
is-active) grep -qx "\$3" "$work/active" ;;
is-enabled) grep -qx "\$3" "$work/enabled" ;;
*) echo "systemctl \$*" >>"$log" ;;
esac
END
cat >"$bin/reboot" <<END
#!/bin/sh
echo reboot >>"$log"
END
cat >"$bin/nvidia-smi" <<END
#!/bin/sh
cat "$work/capability"
END
cat >"$bin/docker" <<END
#!/bin/sh
case \$1 in
ps) echo "c0ffee nvcr.io/nvidia/k8s-device-plugin:v0.17"; echo "decade registry/other:1" ;;
*) echo "docker \$*" >>"$log" ;;
esac
END
chmod +x "$bin"/*

# ---- words ----

fail()
{
    echo "FAILED: $test: $*"
    sed 's/^/    | /' "$work/said" "$log"
    failed=$((failed + 1))
}

sim()
{
    "$tranche" sim --dir "$node" "$@" >"$work/sim.out" 2>&1 || fail "sim $*: $(cat "$work/sim.out")"
}

etc()
{
    echo "$root$(sed -n 's/^etc=$root//p' "$deploy/mig-manager")"
}

# A node with these GPUs, the packaging's files in place, and hooks that find the stand-ins.
begin()
{
    test=$1
    tests=$((tests + 1))
    rm -rf "$node"
    : >"$log"
    : >"$work/said"
    : >"$work/active"
    : >"$work/enabled"
    echo "$3" >"$work/capability"
    sim create --gpus "$2"
    # resets go to the simulated node's own nvidia-smi
    sed -i "2i echo \"nvidia-smi \$*\" >>\"$log\"" "$root/usr/bin/nvidia-smi"
    config=$(etc)
    state=$root/var/lib/nvidia-mig-manager
    mkdir -p "$config"
    cp "$defaults" "$config/config-default.yaml"
    for hooks in default minimal; do
        sed "s|command: .*/mig-hooks|command: $deploy/mig-hooks\\n    envs: {PATH: '$bin', MIG_MANAGER_ROOT: '$root'}|" \
            "$deploy/hooks-$hooks.yaml" >"$config/hooks-$hooks.yaml"
    done
}

# start SELECTED: as systemd would; its exit status in $status.
start()
{
    PATH=$bin MIG_PARTED_SELECTED_CONFIG=$1 "$timeout" 60 "$bin/sh" "$deploy/mig-manager" \
        >"$work/said" 2>&1
    status=$?
}

succeeds()
{
    [ "$status" -eq 0 ] || fail "exit status $status"
}

fails()
{
    [ "$status" -eq 1 ] || fail "exit status $status, wanted 1"
}

said()
{
    grep -qF -- "$1" "$work/said" || fail "did not say: $1"
}

did()
{
    [ "$(cat "$log")" = "$1" ] || fail "wanted to be done: $1"
}

is_applied()
{
    "$bin/nvidia-mig-parted" assert -f "$config/config.yaml" -c "$1" >/dev/null 2>&1 || fail "is not $1"
}

resettable()
{
    for device in "$root"/sys/bus/pci/devices/*; do
        : >"$device/reset"
    done
}

hooks_are()
{
    [ "$(readlink "$config/hooks.yaml")" = "$1" ] || fail "hooks.yaml is not $1"
}

# ---- what is proved ----

begin "the first start divides the GPUs as selected" 2xh100-80gb 9.0
start all-balanced
succeeds
is_applied all-balanced
hooks_are hooks-minimal.yaml
said "  current:"
grep -q 'all-1g.10gb:' "$config/config.yaml" || fail "no configurations of the node's own"
did "systemctl daemon-reload
systemctl daemon-reload"
[ ! -e "$state/reboot_attempted" ] || fail "noted a reboot"

begin "a second start changes nothing" 1xh100-80gb 9.0
start all-1g.10gb
succeeds
before=$("$tranche" sim show)
start all-1g.10gb
succeeds
[ "$before" = "$("$tranche" sim show)" ] || fail "the GPU is another one"

begin "without a selection MIG is off" 1xh100-80gb 9.0
sim mig 0 1g.10gb:7
start ""
succeeds
is_applied all-disabled

begin "a pending mode is reset for" 2xa100-40gb 8.0
resettable
start all-1g.5gb
succeeds
is_applied all-1g.5gb
hooks_are hooks-default.yaml
grep -q '^nvidia-smi -r' "$log" || fail "no reset"
grep -q reboot "$log" && fail "rebooted"

begin "without a way to reset the node reboots once" 2xa100-40gb 8.0
start all-1g.5gb
succeeds
grep -qx reboot "$log" || fail "no reboot"
grep -q 'nvidia-smi -r' "$log" && fail "a reset"
[ -e "$state/reboot_attempted" ] || fail "no note of the reboot"
said "rebooting once"

: >"$log"
test="a reboot that did not help is not tried again"
tests=$((tests + 1))
start all-1g.5gb
fails
said "still not that of all-1g.5gb after a reboot"
grep -qx reboot "$log" && fail "rebooted again"

: >"$log"
test="after the reboot the instances are made"
tests=$((tests + 1))
sim reboot
start all-1g.5gb
succeeds
is_applied all-1g.5gb
[ ! -e "$state/reboot_attempted" ] || fail "the note of the reboot is still there"
grep -qx reboot "$log" && fail "rebooted again"

begin "where a mode takes effect at once nobody reboots" 1xh100-80gb 9.0
start all-enabled
succeeds
grep -qx reboot "$log" && fail "rebooted"

begin "without the module there is nothing to do" 1xh100-80gb 9.0
sed -i '/^nvidia/d' "$root/proc/modules"
rm -rf "$root/sys/module/nvidia"
start all-1g.10gb
succeeds
said "the nvidia module is not loaded"
did ""
[ -s "$config/config.yaml" ] || fail "no configurations"

begin "a configuration file that cannot be made anew stays" 1xt4 7.5
printf 'version: v1\nmig-configs:\n  mine:\n  - {devices: all, mig-enabled: false}\n' >"$config/config.yaml"
start mine
succeeds
said "the one that is there stays"
grep -q mine "$config/config.yaml" || fail "it is gone"
[ ! -e "$config/config.yaml.new" ] || fail "a half-made one is left"

begin "without one the default configurations do" 1xt4 7.5
start all-disabled
succeeds
said "the default configurations will do"
cmp -s "$config/config.yaml" "$defaults" || fail "it is another file"

begin "without any it fails" 1xt4 7.5
rm "$config/config-default.yaml"
start all-disabled
fails
said "no configurations"

begin "an unknown configuration fails before anything happens" 1xh100-80gb 9.0
start all-nonsense
fails
said "selected mig-config not present: all-nonsense"
did ""

begin "an operator's own hooks are left alone" 1xh100-80gb 9.0
printf 'version: v1\nhooks: {}\n' >"$config/mine.yaml"
ln -s mine.yaml "$config/hooks.yaml"
start all-disabled
succeeds
hooks_are mine.yaml
did ""

begin "a hooks file that is no link is the operator's" 1xh100-80gb 9.0
printf 'version: v1\nhooks: {}\n' >"$config/hooks.yaml"
start all-disabled
succeeds
[ ! -L "$config/hooks.yaml" ] || fail "it was replaced"

begin "hooks follow the GPU" 1xh100-80gb 9.0
ln -s hooks-default.yaml "$config/hooks.yaml"
start all-disabled
succeeds
hooks_are hooks-minimal.yaml

begin "an operator's own configurations are left alone" 1xh100-80gb 9.0
printf 'version: v1\nmig-configs:\n  mine:\n  - {devices: all, mig-enabled: true, mig-devices: {7g.80gb: 1}}\n' \
    >"$work/mine.yaml"
MIG_PARTED_CONFIG_FILE=$work/mine.yaml start mine
succeeds
[ ! -e "$config/config.yaml" ] || fail "made one"
"$bin/nvidia-mig-parted" assert -f "$work/mine.yaml" -c mine >/dev/null || fail "is not mine"

begin "what runs is stopped for a reset and started again" 1xa100-40gb 8.0
resettable
printf 'kubelet.service\nnvidia-dcgm.service\n' >"$work/active"
echo nvidia-cdi-refresh.service >"$work/enabled"
start all-1g.5gb
succeeds
is_applied all-1g.5gb
grep -qx 'systemctl stop kubelet.service' "$log" || fail "the kubelet ran on"
grep -qx 'systemctl stop nvidia-dcgm.service' "$log" || fail "DCGM ran on"
grep -q 'stop nvsm' "$log" && fail "stopped what did not run"
grep -qx 'docker kill c0ffee' "$log" || fail "the plugin's container was not killed"
grep -qx 'systemctl start --no-block kubelet.service nvidia-dcgm.service' "$log" || fail "not started again"
grep -qx 'systemctl restart --no-block nvidia-cdi-refresh.service' "$log" || fail "CDI is old"
[ ! -e "$root/run/nvidia-mig-manager/stopped" ] || fail "a list of stopped services is left"

begin "the selection is kept for the next boot" 1xh100-80gb 9.0
start all-2g.20gb
succeeds
cat >"$work/want" <<END
[Service]
Environment="MIG_PARTED_SELECTED_CONFIG=all-2g.20gb"
Environment="MIG_PARTED_CONFIG_FILE=$config/config.yaml"
Environment="MIG_PARTED_HOOKS_FILE=$config/hooks.yaml"
END
drop_in=$(dirname "$config")/systemd/system/nvidia-mig-manager.service.d/override.conf
cmp "$work/want" "$drop_in" || fail "$(cat "$drop_in")"

test="what systemd would read differently is quoted"
tests=$((tests + 1))
MIG_PARTED_SELECTED_CONFIG='a"b%c' MIG_PARTED_CONFIG_FILE=config.yaml PATH=$bin \
    "$bin/sh" "$deploy/mig-hooks" remember >"$work/said" 2>&1 || fail "exit status $?"
cat >"$work/want" <<'END'
[Service]
Environment="MIG_PARTED_SELECTED_CONFIG=a\"b%%c"
END
cmp "$work/want" "$drop_in" || fail "$(cat "$drop_in")"

begin "tranche-mig.service brings back what a reboot of a Hopper takes" 2xh100-80gb 9.0
"$bin/tranche" mig apply all-balanced >"$work/said" 2>&1 || fail "exit status $?"
"$bin/tranche" mig checkpoint "$work/before.json" >"$work/said" 2>&1 || fail "exit status $?"
unit=$deploy/tranche-mig.service
[ -s "$root$(sed -n 's/^ConditionPathExists=//p' "$unit")" ] || fail "the service would not start"
sim reboot
"$bin/nvidia-mig-parted" export | grep -q 'mig-enabled: true' && fail "the reboot took nothing"
# shellcheck disable=SC2046 # the words of the unit
"$bin/tranche" $(sed -n 's/^ExecStart=[^ ]* //p' "$unit") >"$work/said" 2>&1 || fail "exit status $?"
"$bin/tranche" mig checkpoint "$work/after.json" >/dev/null 2>&1 || fail "no checkpoint"
cmp "$work/before.json" "$work/after.json" || fail "it is another layout"

test="the files that are shipped are right"
tests=$((tests + 1))
"$tranche" check "$defaults" "$deploy/hooks-default.yaml" "$deploy/hooks-minimal.yaml" \
    >"$work/said" 2>&1 || fail "exit status $?"
[ "$(grep -c 'no mistakes' "$work/said")" -eq 3 ] || fail "not clean"

echo "$tests tests, $failed failed"
[ "$failed" -eq 0 ]
