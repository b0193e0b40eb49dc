#!/bin/sh
# Every check that needs no build: floors, formatting, shell scripts, traces of a machine.
set -u
cd "$(dirname "$0")/../.." || exit
failed=0
check() {
    name=$1
    shift
    if out=$("$@" 2>&1); then
        echo "ok    $name"
    else
        echo "FAIL  $name"
        echo "$out" | head -n 40
        failed=1
    fi
}

shell_scripts() {
    git ls-files deploy tools tests .ci | while read -r f; do
        case $(head -c 20 "$f" 2>/dev/null) in '#!/bin/sh'* | '#!/usr/bin/env bash'* | '#!/bin/bash'*) echo "$f" ;; esac
    done
}
no_machine_paths() {
    ! git grep -nE '(^|[^A-Za-z0-9_])/(work|root)/[a-z]' -- . ':!tests/lint/all.sh'
}
formatted() {
    command -v clang-format-14 >/dev/null || { echo "clang-format-14 is missing: tools/install-packages lint"; return 1; }
    git ls-files 'src/*.[ch]' 'tests/*.[ch]' | xargs clang-format-14 --dry-run --Werror
}
scripts_clean() {
    command -v shellcheck >/dev/null || { echo "shellcheck is missing: tools/install-packages lint"; return 1; }
    shell_scripts | xargs shellcheck -S warning
}
headers_once() {
    bad=$(git ls-files 'src/*.h' | xargs grep -L '#pragma once')
    [ -z "$bad" ] || { echo "no #pragma once: $bad"; return 1; }
}

check "includes go down the stairs" tests/lint/floors.sh
check "headers include themselves once" headers_once
check "no path of a machine" no_machine_paths
check "shell scripts" scripts_clean
check "formatting" formatted
exit $failed
