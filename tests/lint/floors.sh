#!/bin/sh
# Prints every #include that climbs the stairs: a room may include rooms on floors below it, never
# beside or above (docs/architecture.md). Exit 1 when there is one.
set -eu
cd "$(dirname "$0")/../.."

# ROOM: the rooms it may include besides itself.
may_include() {
    case $1 in
    base) echo ;;
    codec | net | limit | sim/gpu) echo base ;;
    share) echo base codec ;;
    gpu | mps | kubelet | kube) echo base codec net share ;;
    sim/node) echo base codec net kubelet ;;
    agent | operator) echo base codec net share gpu mps kubelet kube limit ;;
    cli) echo base codec net share gpu mps kubelet kube agent operator sim/gpu sim/node ;;
    *) echo "?" ;;
    esac
}

find src -name '*.[ch]' | sort | {
    climbed=0
    while read -r file; do
        room=$(dirname "${file#src/}")
        allowed=" $room $(may_include "$room") "
        case $allowed in *" ? "*)
            echo "$file: the room '$room' is not in tests/lint/floors.sh"
            climbed=1
            continue
            ;;
        esac
        while IFS=: read -r line text; do
            [ -n "$line" ] || continue
            header=${text#*\"}
            header=${header%%\"*}
            target=$(dirname "$header")
            # Generated protobuf headers have no folder of ours and stay inside kubelet.
            case $header in *.pb-c.h) target=kubelet ;; esac
            case $allowed in *" $target "*) ;; *)
                echo "$file:$line: $room may not include \"$header\""
                climbed=1
                ;;
            esac
        done <<LINES
$(grep -n '^ *# *include *"' "$file" || true)
LINES
    done
    exit $climbed
}
