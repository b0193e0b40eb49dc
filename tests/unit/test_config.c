#include "config_case.h"

#include "base/mem.h"

/* ---- the recorded vectors, spec §10.1 ---- */

static void vectors_1_to_20_hold(void **state)
{
    static const struct load_case cases[] = {
        { "1", PLUGIN, TIME_SLICING("{name: nvidia.com/gpu, replicas: 1}"),
          .error = "number of replicas must be >= 2" },
        { "2", PLUGIN, "sharing: {timeSlicing: {renameByDefault: true}}",
          .error = "no resources specified" },
        { "3", PLUGIN, TIME_SLICING("{name: gpu, replicas: 4}"),
          .wants = { "sharing=time-slicing", " [nvidia.com/gpu x4 as - on all] " } },
        { "4", PLUGIN,
          "sharing: {timeSlicing: {renameByDefault: true, resources: [{name: gpu, replicas: 4}]}}",
          .wants = { "default-rename=1",
                     " [nvidia.com/gpu x4 as nvidia.com/gpu.shared on all] " } },
        { "5", PLUGIN, TIME_SLICING("{name: gpu, rename: nvidia.com/foo, replicas: 2}"),
          .wants = { " [nvidia.com/gpu x2 as - on all] ",
                     "warning 1:57 Setting the 'rename' field in sharing.timeSlicing.resources is "
                     "not yet supported in the config. Ignoring..." } },
        { "6", PLUGIN, TIME_SLICING("{name: gpu, devices: [0], replicas: 2}"),
          .wants = { " [nvidia.com/gpu x2 as - on all] ",
                     "Customizing the 'devices' field in sharing.timeSlicing.resources is not yet "
                     "supported in the config. Ignoring..." } },
        { "7", PLUGIN, TIME_SLICING("{name: gpu, devices: some, replicas: 2}"),
          .error = "devices set as 'some' but the only valid string input is 'all'" },
        { "8a", PLUGIN, TIME_SLICING("{name: gpu, devices: -2, replicas: 2}"),
          .error = "devices set as '-2' but a count of devices must be > 0" },
        { "8b", PLUGIN, TIME_SLICING("{name: gpu, devices: [MIG-UUID], replicas: 2}"),
          .error = "unsupported type for device in devices list: MIG-UUID, string" },
        { "9", PLUGIN, TIME_SLICING("{name: $bad$, replicas: 2}"),
          .error = "incorrect format for resource name 'nvidia.com/$bad$': [" },
        { "10", PLUGIN,
          "{flags: {migStrategy: mixed}, sharing: {mps: {resources: [{name: gpu, replicas: 2}]}}}",
          .error = "using --mig-strategy=mixed is not supported with MPS" },
        { "11", PLUGIN, "sharing: {mps: {resources: [{name: gpu, replicas: 2}]}}",
          .error = "using MPS requires --mps-root to be specified" },
        { "12", PLUGIN,
          "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 10}]}, "
          "mps: {resources: [{name: gpu, replicas: 4}]}}",
          .env = { "MPS_ROOT=/run/nvidia/mps" },
          .wants = { "sharing=mps", " [nvidia.com/gpu x4 as - on all] ", "one-only=1",
                     "sharing.timeSlicing has no effect beside sharing.mps" } },
        { "13", PLUGIN, "version: v2",
          .error = FILE_PREFIX "config.yaml:1:10: unknown version: v2" },
        { "14", PLUGIN, "", .wants = { " mig=none/none fail=1 driver=/ dev=/ " } },
        { "15a", PLUGIN, "flags: {migStrategy: mixed}", .env = { "MIG_STRATEGY=single" },
          .argv = { "--mig-strategy=none" }, .wants = { "mig=none/none" } },
        { "15b", PLUGIN, "flags: {migStrategy: mixed}", .env = { "MIG_STRATEGY=single" },
          .wants = { "mig=single/single" } },
        { "15c", PLUGIN, "flags: {migStrategy: mixed}", .wants = { "mig=mixed/mixed" } },
        { "16a", PLUGIN, IN_PLUGIN("deviceListStrategy: 'envvar,cdi-cri'"),
          .error = "invalid strategy: envvar,cdi-cri" },
        { "16b", PLUGIN, NULL, .env = { "DEVICE_LIST_STRATEGY=envvar,cdi-cri" },
          .wants = { " list=9 " } },
        { "16c", PLUGIN, NULL, .argv = { "--device-list-strategy", "envvar,cdi-cri" },
          .wants = { " list=9 " } },
        { "17", PLUGIN, NULL, .env = { "IMEX_CHANNEL_IDS=1" },
          .error = "channelIDs must be [] or [0]; found [1]" },
        { "18a", PLUGIN, "flags: {deviceDiscoveryStrategy: vfio}",
          .error = "invalid --device-discovery-strategy option vfio" },
        { "18b", GFD, "flags: {deviceDiscoveryStrategy: vfio}", .wants = { "discovery=vfio" } },
        { "19a", GFD, NULL, .env = { "GFD_SLEEP_INTERVAL=60" },
          .error = "could not parse \"60\" from environment variable \"GFD_SLEEP_INTERVAL\" as "
                   "value for flag sleep-interval: time: missing unit in duration \"60\"" },
        { "19b", GFD, NULL, .env = { "GFD_SLEEP_INTERVAL=60s" },
          .wants = { "sleep=60000000000 " } },
        { "19c", GFD, NULL, .env = { "GFD_SLEEP_INTERVAL=infinite" },
          .wants = { "sleep=9223372036854775807 " } },
        { "19d", GFD, "flags: {gfd: {sleepInterval: 60}}", .wants = { "sleep=60 " } },
        { "20", PLUGIN, NULL, .env = { "FAIL_ON_INIT_ERROR=yes" },
          .error = "could not parse \"yes\" as bool value from environment variable "
                   "\"FAIL_ON_INIT_ERROR\" for flag fail-on-init-error: strconv.ParseBool: parsing "
                   "\"yes\": invalid syntax" },
    };

    CHECK(cases);
}

/* ---- the file, §2.4 ---- */

static void words_are_those_of_yaml_1_1(void **state)
{
    static const struct load_case cases[] = {
        { "yes", PLUGIN, IN_PLUGIN("passDeviceSpecs: yes"), .wants = { "specs=1" } },
        { "On", PLUGIN, IN_PLUGIN("passDeviceSpecs: On"), .wants = { "specs=1" } },
        { "n", PLUGIN, "flags: {failOnInitError: n}", .wants = { "fail=0" } },
        { "OFF", PLUGIN, "flags: {failOnInitError: OFF}", .wants = { "fail=0" } },
        { "010", PLUGIN, TIME_SLICING("{name: gpu, replicas: 010}"),
          .wants = { " x8 ", "`010` is read as 8" } },
        { "0o10", PLUGIN, TIME_SLICING("{name: gpu, replicas: 0o10}"), .wants = { " x8 " } },
        { "0x3", PLUGIN, TIME_SLICING("{name: gpu, replicas: 0x3}"), .wants = { " x3 " } },
        { "0b11", PLUGIN, TIME_SLICING("{name: gpu, replicas: 0b11}"), .wants = { " x3 " } },
        { "1_0", PLUGIN, TIME_SLICING("{name: gpu, replicas: 1_0}"), .wants = { " x10 " } },
        { "1e1", PLUGIN, TIME_SLICING("{name: gpu, replicas: 1e1}"), .wants = { " x10 " } },
        { "2.0", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2.0}"), .wants = { " x2 " } },
        { "2.5", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2.5}"),
          .error = DECODE_PREFIX "config.yaml:1:59: json: cannot unmarshal number 2.5 into Go "
                                 "struct field Sharing.sharing.timeSlicing of type int" },
        { "1:30", PLUGIN, TIME_SLICING("{name: gpu, replicas: 1:30}"),
          .error = "json: cannot unmarshal string into Go struct field Sharing.sharing.timeSlicing "
                   "of type int" },
        { "quoted", PLUGIN, TIME_SLICING("{name: gpu, replicas: '4'}"),
          .error = "json: cannot unmarshal string into Go struct field Sharing.sharing.timeSlicing "
                   "of type int" },
        { "quoted bool", PLUGIN, IN_PLUGIN("passDeviceSpecs: 'true'"),
          .error = "json: cannot unmarshal string into Go struct field PluginCommandLineFlags." },
        { "a number as a string", PLUGIN, "flags: {migStrategy: 5}",
          .error = "json: cannot unmarshal number into Go struct field "
                   "Flags.flags.CommandLineFlags.migStrategy of type string" },
        { "unknown keys", PLUGIN, "{foo: 1, 3: 4, true: x, flags: {bar: {}}, sharing: {baz: 1}}",
          .wants = { "mig=none", "unknown key `foo`, ignored" } },
        { "a list as a key", PLUGIN, "{[a]: 1}",
          .error =
              FILE_PREFIX "unmarshal error: error converting YAML to JSON: yaml: config.yaml:" },
        { "a version without quotes", PLUGIN, "version: 1", .error = "unknown version: 1" },
        { "a version of YAML 1.1", PLUGIN, "version: yes", .error = "unknown version: true" },
    };

    CHECK(cases);
}

static void documents_are_read_as_upstream_does(void **state)
{
    static const struct load_case cases[] = {
        { "comments only", PLUGIN, "# nothing\n", .wants = { "mig=none" } },
        { "null", PLUGIN, "null", .wants = { "mig=none" } },
        { "first document only", PLUGIN, "---\n---\nflags: {migStrategy: mixed}\n",
          .wants = { "mig=none" } },
        { "what follows is not even looked at", PLUGIN, "flags: {migStrategy: mixed}\n---\n\tx: [",
          .wants = { "mig=mixed" } },
        { "json", PLUGIN, "{\"flags\": {\"migStrategy\": \"single\"}}", .wants = { "mig=single" } },
        { "anchors and merges", PLUGIN,
          "flags: {plugin: &p {passDeviceSpecs: true}}\nx: &m {migStrategy: mixed}\n"
          "sharing: {timeSlicing: {resources: [&r {name: gpu, replicas: 3}]}}\n",
          .wants = { "specs=1", " x3 " } },
        { "merge key", PLUGIN, "x: &m {migStrategy: mixed}\nflags: {<<: *m}\n",
          .wants = { "mig=mixed" } },
        { "explicit tag", PLUGIN, TIME_SLICING("{name: gpu, replicas: !!int '4'}"),
          .wants = { " x4 " } },
        { "CRLF and BOM", PLUGIN,
          "\xef\xbb\xbf"
          "flags:\r\n  migStrategy: mixed\r\n",
          .wants = { "mig=mixed" } },
        { "duplicate keys", PLUGIN, "flags: {migStrategy: mixed, migStrategy: single}",
          .wants = { "mig=single",
                     "warning 1:9 key `migStrategy` is said again in line 1, and only that one "
                     "counts" } },
        { "tab", PLUGIN, "flags:\n\tmigStrategy: mixed\n",
          .error = "error converting YAML to JSON: yaml: config.yaml:2:" },
        { "control character", PLUGIN, "# \x01\n",
          .error = "error converting YAML to JSON: yaml: " },
        { "invalid UTF-8", PLUGIN, "# \xff\n", .error = "error converting YAML to JSON: yaml: " },
        { "top level list", PLUGIN, "- a",
          .error = "json: cannot unmarshal array into Go value of type v1.Config" },
        { "top level word", PLUGIN, "foo",
          .error = "json: cannot unmarshal string into Go value of type v1.Config" },
        { "a section that is none", PLUGIN, "flags: 3",
          .error =
              "json: cannot unmarshal number into Go struct field Config.flags of type v1.Flags" },
        { "a NUL inside", PLUGIN, "flags: {mpsRoot: \"/a\\0b\"}",
          .error = "a NUL inside a string" },
        { "a NUL in a name", PLUGIN, TIME_SLICING("{name: \"gpu\\0x\", replicas: 2}"),
          .error = "incorrect format for resource name 'nvidia.com/gpu" },
    };

    CHECK(cases);
}

static void keys_of_structs_match_in_any_case_and_inside_sharing_exactly(void **state)
{
    static const struct load_case cases[] = {
        { "any case", PLUGIN, "FLAGS: {MIGstrategy: mixed, Plugin: {PASSDEVICESPECS: true}}",
          .wants = { "mig=mixed", "specs=1" } },
        { "two cases, canonical first", PLUGIN, "flags: {migStrategy: mixed, MIGSTRATEGY: single}",
          .wants = { "mig=mixed", "warning 1:29 `migStrategy` in line 1 is the same key" } },
        { "two cases, canonical last", PLUGIN, "flags: {MIGSTRATEGY: single, migStrategy: mixed}",
          .wants = { "mig=mixed" } },
        { "sharing itself", PLUGIN,
          "Sharing: {TimeSlicing: {resources: [{name: gpu, replicas: 2}]}}",
          .wants = { " [nvidia.com/gpu x2 " } },
        { "Resources", PLUGIN, "sharing: {timeSlicing: {Resources: [{name: gpu, replicas: 2}]}}",
          .error = "no resources specified" },
        { "Name", PLUGIN, TIME_SLICING("{Name: gpu, replicas: 2}"),
          .error = "no resource name specified" },
        { "Replicas", PLUGIN, TIME_SLICING("{name: gpu, Replicas: 2}"),
          .error = "no replicas specified" },
        { "RenameByDefault", PLUGIN,
          "sharing: {timeSlicing: {RenameByDefault: true, resources: [{name: gpu, replicas: 2}]}}",
          .wants = { "default-rename=0" } },
        { "Pattern", PLUGIN, "resources: {GPUS: [{Pattern: '*', name: gpu}]}",
          .error = "resources must have a 'pattern' field set" },
    };

    CHECK(cases);
}

static void null_is_absent_except_inside_an_item(void **state)
{
    static const struct load_case cases[] = {
        { "everything", PLUGIN, "{version: , flags: , sharing: , resources: , imex: }",
          .wants = { "mig=none", "sharing=none" } },
        { "flags", PLUGIN, "flags: {migStrategy: ~, plugin: ~, gfd: ~}", .wants = { "mig=none" } },
        { "list strategy", PLUGIN, IN_PLUGIN("deviceListStrategy: null"), .wants = { " list=1 " } },
        { "fail in mps", PLUGIN,
          "sharing: {mps: {failRequestsGreaterThanOne: , resources: [{name: gpu, replicas: 2}]}}",
          .argv = { "--mps-root=/m" }, .wants = { "one-only=1" } },
        { "mps", PLUGIN, "sharing: {mps: }", .wants = { "sharing=none" } },
        { "timeSlicing", PLUGIN, "sharing: {timeSlicing: }", .error = "no resources specified" },
        { "empty timeSlicing", PLUGIN, "sharing: {timeSlicing: {}}",
          .error = "no resources specified" },
        { "empty mps", PLUGIN, "sharing: {mps: {}}", .error = "no resources specified" },
        { "resources", PLUGIN, "sharing: {timeSlicing: {resources: }}",
          .error = "no resources specified" },
        { "an item", PLUGIN, TIME_SLICING("null"), .error = "no resource name specified" },
        { "name", PLUGIN, TIME_SLICING("{name: , replicas: 2}"),
          .error = "incorrect format for resource name 'nvidia.com/'" },
        { "rename", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2, rename: }"),
          .error = "incorrect format for resource name 'nvidia.com/'" },
        { "replicas", PLUGIN, TIME_SLICING("{name: gpu, replicas: }"),
          .error = "number of replicas must be >= 2" },
        { "devices", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2, devices: }"),
          .error = "devices set as '' but the only valid string input is 'all'" },
    };

    CHECK(cases);
}

static void list_strategy_is_a_word_or_a_list(void **state)
{
    static const struct load_case cases[] = {
        { "word", PLUGIN, IN_PLUGIN("deviceListStrategy: cdi-cri"), .wants = { " list=8 " } },
        { "list", PLUGIN, IN_PLUGIN("deviceListStrategy: [cdi-annotations, cdi-cri]"),
          .wants = { " list=12 " } },
        { "number", PLUGIN, IN_PLUGIN("deviceListStrategy: 5"),
          .error = "invalid deviceListStrategy: 5" },
        { "map", PLUGIN, IN_PLUGIN("deviceListStrategy: {b: 1, a: [x]}"),
          .error = "invalid deviceListStrategy: {\"a\":[\"x\"],\"b\":1}" },
        { "mixed list", PLUGIN, IN_PLUGIN("deviceListStrategy: [envvar, 1.0]"),
          .error = "invalid deviceListStrategy: [\"envvar\",1]" },
        { "empty list", PLUGIN, IN_PLUGIN("deviceListStrategy: []"),
          .error = "invalid --device-list-strategy option: no device list strategy specified" },
        { "a null element", PLUGIN, IN_PLUGIN("deviceListStrategy: [~]"),
          .error = "invalid --device-list-strategy option: invalid strategy: " },
    };

    CHECK(cases);
}

static void durations_are_gos_or_nanoseconds(void **state)
{
    static const struct load_case cases[] = {
        { "text", GFD, "flags: {gfd: {sleepInterval: 1h}}", .wants = { "sleep=3600000000000 " } },
        { "infinite", GFD, "flags: {gfd: {sleepInterval: infinite}}",
          .wants = { "sleep=9223372036854775807 " } },
        { "number", GFD, "flags: {gfd: {sleepInterval: 1.5e9}}", .wants = { "sleep=1500000000 " } },
        { "quoted number", GFD, "flags: {gfd: {sleepInterval: '60'}}",
          .error = "time: missing unit in duration \"60\"" },
        { "list", GFD, "flags: {gfd: {sleepInterval: [60s]}}", .error = "invalid duration" },
        { "null", GFD, "flags: {gfd: {sleepInterval: ~}}", .wants = { "sleep=60000000000 " } },
    };

    CHECK(cases);
}

static void imex_channels_are_none_or_zero(void **state)
{
    static const struct load_case cases[] = {
        { "none", PLUGIN, "imex: {channelIDs: []}", .wants = { "imex=0/0" } },
        { "zero", PLUGIN, "imex: {channelIDs: [0], required: true}", .wants = { "imex=1/1" } },
        { "two", PLUGIN, "imex: {channelIDs: [0, 1]}",
          .error = "unable to validate flags: config.yaml:1:20: invalid IMEX channel IDs: invalid "
                   "IMEX config: channelIDs must be [] or [0]; found [0 1]" },
        { "word", PLUGIN, "imex: {channelIDs: 0}",
          .error =
              "json: cannot unmarshal number into Go struct field Imex.imex.channelIDs of type "
              "[]int" },
        { "text", PLUGIN, "imex: {channelIDs: [a]}",
          .error =
              "json: cannot unmarshal string into Go struct field Imex.imex.channelIDs of type "
              "int" },
        { "discovery does not mind", GFD, "imex: {channelIDs: [1]}", .wants = { "mig=none" } },
    };

    CHECK(cases);
}

/* ---- the error table of §2.4 ---- */

static void each_mistake_has_upstreams_sentence_and_its_place(void **state)
{
    static const struct load_case cases[] = {
        { "no name", PLUGIN, "sharing:\n  timeSlicing:\n    resources:\n    - replicas: 2\n",
          .error = DECODE_PREFIX "config.yaml:4:7: no resource name specified" },
        { "no replicas", PLUGIN, "sharing:\n  timeSlicing:\n    resources:\n    - name: gpu\n",
          .error = DECODE_PREFIX "config.yaml:4:7: no replicas specified" },
        { "no resources", PLUGIN, "sharing:\n  timeSlicing: {}\n",
          .error = DECODE_PREFIX "config.yaml:2:16: no resources specified" },
        { "timeSlicing left out", PLUGIN, "sharing:\n  timeSlicing:\n",
          .error = DECODE_PREFIX "config.yaml:2:" },
        { "replicas 0", PLUGIN, TIME_SLICING("{name: gpu, replicas: 0}"),
          .error = "config.yaml:1:59: number of replicas must be >= 2" },
        { "replicas -3", PLUGIN, TIME_SLICING("{name: gpu, replicas: -3}"),
          .error = "number of replicas must be >= 2" },
        { "replicas 65537", PLUGIN, TIME_SLICING("{name: gpu, replicas: 65537}"),
          .error = "number of replicas must be <= 65536" },
        { "devices 0", PLUGIN, TIME_SLICING("{name: gpu, devices: 0, replicas: 2}"),
          .error = "devices set as '0' but a count of devices must be > 0" },
        { "devices true", PLUGIN, TIME_SLICING("{name: gpu, devices: true, replicas: 2}"),
          .error = "unrecognized type for devices spec: true" },
        { "devices 1.5", PLUGIN, TIME_SLICING("{name: gpu, devices: 1.5, replicas: 2}"),
          .error = "unrecognized type for devices spec: 1.5" },
        { "devices map", PLUGIN, TIME_SLICING("{name: gpu, devices: {a: b}, replicas: 2}"),
          .error = "unrecognized type for devices spec: {\"a\":\"b\"}" },
        { "element -1", PLUGIN, TIME_SLICING("{name: gpu, devices: [-1], replicas: 2}"),
          .error = "unsupported type for device in devices list: , string" },
        { "element 1.5", PLUGIN, TIME_SLICING("{name: gpu, devices: [1.5], replicas: 2}"),
          .error = "unsupported type for device in devices list: , string" },
        { "element GPU-x", PLUGIN, TIME_SLICING("{name: gpu, devices: [GPU-x], replicas: 2}"),
          .error = "unsupported type for device in devices list: GPU-x, string" },
        { "64 bytes", PLUGIN,
          TIME_SLICING(
              "{name: abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyza, replicas: 2}"),
          .error = "fully-qualified resource name must be 63 characters or less: nvidia.com/abc" },
        { "63 bytes", PLUGIN,
          TIME_SLICING("{name: abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz, replicas: 2}"),
          .wants = { " [nvidia.com/abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz x2 " } },
        { "another prefix", PLUGIN, TIME_SLICING("{name: foo.com/x, replicas: 2}"),
          .error = "incorrect format for resource name 'nvidia.com/foo.com/x': [a lowercase RFC "
                   "1123 subdomain must consist of" },
        { "upper case", PLUGIN, TIME_SLICING("{name: GPU, replicas: 2}"),
          .error = "incorrect format for resource name 'nvidia.com/GPU'" },
        { "a plus", PLUGIN, TIME_SLICING("{name: mig-1g.10gb+me, replicas: 2}"),
          .error = "a `+` in a profile is a `.` in its resource name" },
        { "a name that is a boolean", PLUGIN, TIME_SLICING("{name: y, replicas: 2}"),
          .error = "json: cannot unmarshal bool into Go struct field Sharing.sharing.timeSlicing "
                   "of type string; write it in quotes" },
        { "a name that is a number", PLUGIN, TIME_SLICING("{name: 5, replicas: 2}"),
          .error = "json: cannot unmarshal number into Go struct field Sharing.sharing.timeSlicing "
                   "of type string" },
        { "a bad rename", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2, rename: A}"),
          .error = "incorrect format for resource name 'nvidia.com/A'" },
        { "resources is a word", PLUGIN, "sharing: {timeSlicing: {resources: abc}}",
          .error = "json: cannot unmarshal string into Go struct field Sharing.sharing.timeSlicing "
                   "of type []v1.ReplicatedResource" },
        { "an item is a word", PLUGIN, TIME_SLICING("abc"),
          .error = "json: cannot unmarshal string into Go struct field Sharing.sharing.timeSlicing "
                   "of type map[string]json.RawMessage" },
        { "timeSlicing is a word", PLUGIN, "sharing: {timeSlicing: abc}",
          .error = "json: cannot unmarshal string into Go struct field Sharing.sharing.timeSlicing "
                   "of type map[string]json.RawMessage" },
        { "renameByDefault is a word", PLUGIN,
          "sharing: {timeSlicing: {renameByDefault: maybe, resources: [{name: gpu, replicas: 2}]}}",
          .error = "json: cannot unmarshal string into Go struct field Sharing.sharing.timeSlicing "
                   "of type bool" },
        { "an mps item is a word", PLUGIN, "sharing: {mps: {resources: [abc]}}",
          .error = "json: cannot unmarshal string into Go struct field Sharing.sharing.mps of type "
                   "map[string]json.RawMessage" },
        { "a MIG pattern's name is a number", PLUGIN, "resources: {mig: [{pattern: '*', name: 3}]}",
          .error = "json: cannot unmarshal number into Go struct field Resources.resources.mig of "
                   "type string" },
        { "no pattern", PLUGIN, "resources: {gpus: [{name: gpu}]}",
          .error = "resources must have a 'pattern' field set" },
        { "no pattern name", PLUGIN, "resources: {mig: [{pattern: '*'}]}",
          .error = "resources must have a 'name' field set" },
        { "gpus is a word", PLUGIN, "resources: {gpus: x}",
          .error = "json: cannot unmarshal string into Go struct field Resources.resources.gpus of "
                   "type []v1.Resource" },
    };

    CHECK(cases);
}

static void the_first_sentence_is_the_one_that_upstream_gives(void **state)
{
    static const struct load_case cases[] = {
        { "keys in byte order, not in the file's", PLUGIN,
          "{sharing: {timeSlicing: {}}, resources: {gpus: [{name: gpu}]}}",
          .error = "resources must have a 'pattern' field set" },
        { "what stops the decoder before a wrong type", PLUGIN,
          "{flags: {failOnInitError: 3}, sharing: {timeSlicing: {}}}",
          .error = "no resources specified" },
        { "the version last", PLUGIN, "{version: v2, flags: {failOnInitError: 3}}",
          .error = "json: cannot unmarshal number" },
        { "name before devices before replicas", PLUGIN,
          TIME_SLICING("{replicas: 1, devices: some, name: A}"), .error = "incorrect format" },
        { "devices before replicas", PLUGIN, TIME_SLICING("{replicas: 1, devices: some, name: a}"),
          .error = "devices set as 'some'" },
        { "mps before timeSlicing", PLUGIN,
          "sharing: {timeSlicing: {}, mps: {resources: [{name: gpu, replicas: 1}]}}",
          .error = "number of replicas" },
        { "the file before validation", PLUGIN, "{version: v2, flags: {migStrategy: x}}",
          .error = "unknown version" },
    };

    CHECK(cases);
}

static void device_references_have_five_forms(void **state)
{
#define UUID "b1028956-cfa2-0990-bf4a-5da9abb51763"
    static const struct load_case cases[] = {
        { "all forms", PLUGIN,
          "sharing: {perDevice: true, timeSlicing: {resources: [{name: gpu, replicas: 2, devices: "
          "[0, '1', 2.0, '3:1', GPU-" UUID ", MIG-" UUID ", MIG-GPU-" UUID "/3/0]}]}}",
          .wants = { " on 0,1,2,3:1,GPU-" UUID ",MIG-" UUID ",MIG-GPU-" UUID "/3/0] " } },
        { "GPU without dashes", PLUGIN,
          TIME_SLICING("{name: gpu, replicas: 2, devices: [GPU-b1028956cfa20990bf4a5da9abb51763]}"),
          .wants = { " x2 " } },
        { "three parts", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2, devices: ['0:1:2']}"),
          .error = "unsupported type for device in devices list: 0:1:2, string" },
        { "one id", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2, devices: [MIG-GPU-" UUID "/3]}"),
          .error = "unsupported type for device" },
        { "short uuid", PLUGIN,
          TIME_SLICING(
              "{name: gpu, replicas: 2, devices: [GPU-b1028956-cfa2-0990-bf4a-5da9abb5176]}"),
          .error = "unsupported type for device" },
        { "bare uuid", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2, devices: [" UUID "]}"),
          .error = "unsupported type for device" },
        { "an empty list", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2, devices: []}"),
          .wants = { " on all] " } },
        { "an empty element", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2, devices: [~]}"),
          .wants = { "an empty element of a devices list means GPU 0" } },
    };

    CHECK(cases);
}

/* ---- §2.5, §2.6 ---- */

static void renames_and_devices_are_stripped_with_a_warning(void **state)
{
    static const struct load_case cases[] = {
        { "resources", PLUGIN, "resources: {gpus: [{pattern: '*', name: gpu}]}",
          .wants = { "warning 1:12 Customizing the 'resources' field is not yet supported in the "
                     "config. Ignoring..." } },
        { "a rename beside renameByDefault", PLUGIN,
          "sharing: {timeSlicing: {renameByDefault: true, resources: [{name: gpu, rename: x, "
          "replicas: 2}]}}",
          .wants = { " as nvidia.com/gpu.shared on", "Setting the 'rename' field" } },
        { "for mps too", PLUGIN,
          "sharing: {mps: {resources: [{name: gpu, replicas: 2, rename: x, devices: 1}]}}",
          .argv = { "--mps-root=/m" },
          .wants = { " as - on all]", "Setting the 'rename' field in sharing.mps.resources is not",
                     "Customizing the 'devices' field in sharing.mps.resources is not" } },
        { "feature discovery too", GFD, TIME_SLICING("{name: gpu, replicas: 2, rename: x}"),
          .wants = { " as - on all]" } },
    };

    CHECK(cases);
}

static void the_usual_rename_is_no_reason_to_warn(void **state)
{
    static const struct load_case c = {
        .word = "usual",
        .file = "sharing: {timeSlicing: {renameByDefault: true, resources: [{name: gpu, rename: "
                "gpu.shared, replicas: 2, devices: all}]}}",
    };
    auto_(arena_done) struct arena arena = ARENA_MAX(CONFIG_ARENA_BYTES);
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));

    assert_int_equal(load(&c, &arena, &out, NULL), 0);
    assert_null(strstr(buf_text(&out), "warning"));
}

static void requests_above_one_fail_under_mps_unless_said_otherwise(void **state)
{
#define MPS_WITH(pair) "sharing: {mps: {" pair "resources: [{name: gpu, replicas: 2}]}}"
#define TS_WITH(pair)  "sharing: {timeSlicing: {" pair "resources: [{name: gpu, replicas: 2}]}}"
    static const struct load_case cases[] = {
        { "mps", GFD, MPS_WITH(""), .wants = { "one-only=1" } },
        { "mps false", GFD, MPS_WITH("failRequestsGreaterThanOne: false, "),
          .wants = { "one-only=0" } },
        { "timeSlicing", PLUGIN, TS_WITH(""), .wants = { "one-only=0" } },
        { "timeSlicing true", PLUGIN, TS_WITH("failRequestsGreaterThanOne: true, "),
          .wants = { "one-only=1" } },
    };

    CHECK(cases);
}

static void of_two_entries_for_a_resource_the_larger_counts(void **state)
{
    static const struct load_case cases[] = {
        { "larger last", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2}, {name: gpu, replicas: 5}"),
          .wants = { "per-device=0 [nvidia.com/gpu x5 as - on all] nfd",
                     "nvidia.com/gpu is shared twice, in line 1 too; the larger number of replicas "
                     "counts, 5" } },
        { "larger first", PLUGIN,
          TIME_SLICING("{name: gpu, replicas: 5}, {name: nvidia.com/gpu, replicas: 2}"),
          .wants = { "per-device=0 [nvidia.com/gpu x5 as - on all] nfd", "shared twice" } },
        { "others stay", PLUGIN,
          TIME_SLICING("{name: a, replicas: 5}, {name: b, replicas: 3}, {name: a, replicas: 6}"),
          .wants = { " [nvidia.com/a x6 as - on all] [nvidia.com/b x3 as - on all] nfd" } },
    };

    CHECK(cases);
}

static void per_device_honours_devices_and_renames(void **state)
{
#define PER_DEVICE(items) "sharing: {perDevice: true, timeSlicing: {resources: [" items "]}}"
    static const struct load_case cases[] = {
        { "two entries", PLUGIN,
          PER_DEVICE(
              "{name: gpu, replicas: 2, devices: [0]}, {name: gpu, replicas: 5, devices: [1, "
              "'2'], rename: big}"),
          .wants = { "per-device=1 [nvidia.com/gpu x2 as - on 0] [nvidia.com/gpu x5 as "
                     "nvidia.com/big on 1,2] nfd" } },
        { "a count", PLUGIN, PER_DEVICE("{name: gpu, replicas: 2, devices: 3}"),
          .wants = { " on count 3]" } },
        { "with mps", GFD,
          "sharing: {perDevice: yes, mps: {resources: [{name: gpu, replicas: 2, devices: [1]}]}}",
          .wants = { "sharing=mps", " on 1]" } },
        { "overlap", PLUGIN,
          PER_DEVICE(
              "{name: gpu, replicas: 2, devices: [0]}, {name: gpu, replicas: 5, devices: [1, "
              "'0']}"),
          .error = "config.yaml:1:132: devices of nvidia.com/gpu are in the entry of line 1 too" },
        { "all beside a list", PLUGIN,
          PER_DEVICE("{name: gpu, replicas: 2}, {name: gpu, replicas: 5, devices: [1]}"),
          .error = "devices of nvidia.com/gpu are in the entry of line 1 too" },
        { "the same in one list", PLUGIN, PER_DEVICE("{name: gpu, replicas: 2, devices: [0, '0']}"),
          .wants = { "this device is in the list already" } },
        { "a MIG device is not its GPU", PLUGIN,
          PER_DEVICE("{name: gpu, replicas: 2, devices: [0]}, {name: gpu, replicas: 5, devices: "
                     "['0:0', '0:1']}"),
          .wants = { " on 0] ", " on 0:0,0:1]" } },
        { "with the usual rename", PLUGIN,
          "sharing: {perDevice: true, timeSlicing: {renameByDefault: true, resources: [{name: gpu, "
          "replicas: 2, rename: own, devices: [0]}, {name: gpu, replicas: 2, devices: [1]}]}}",
          .wants = { " as nvidia.com/own on 0]", " as nvidia.com/gpu.shared on 1]" } },
        { "quoted", PLUGIN, "sharing: {perDevice: 'true'}",
          .error = "json: cannot unmarshal string into Go value of type bool" },
        { "off", PLUGIN,
          "sharing: {perDevice: false, timeSlicing: {resources: [{name: gpu, replicas: 2, devices: "
          "[0]}]}}",
          .wants = { "per-device=0 [nvidia.com/gpu x2 as - on all]" } },
        { "nothing shared", PLUGIN, "sharing: {perDevice: true}",
          .wants = { "sharing.perDevice has no effect without timeSlicing or mps" } },
    };

    CHECK(cases);
}

/* ---- validation, §2.7 ---- */

static void values_are_validated_with_upstreams_sentences(void **state)
{
    static const struct load_case cases[] = {
        { "list", PLUGIN, NULL, .argv = { "--device-list-strategy=x" },
          .error = "unable to validate flags: invalid --device-list-strategy option: invalid "
                   "strategy: x; want envvar, volume-mounts, cdi-annotations or cdi-cri; the flag "
                   "--device-list-strategy says this" },
        { "cdi without nvml", PLUGIN, NULL, .argv = { "--device-list-strategy=cdi-cri" },
          .no_nvml = true,
          .error =
              "unable to validate flags: CDI --device-list-strategy options are only supported "
              "on NVML-based systems" },
        { "envvar without nvml", PLUGIN, NULL, .no_nvml = true, .wants = { "list=1" } },
        { "id", PLUGIN, IN_PLUGIN("deviceIDStrategy: x"),
          .error =
              "unable to validate flags: config.yaml:1:36: invalid --device-id-strategy option: "
              "x" },
        { "policy", PLUGIN, NULL, .env = { "SHARED_DEVICES_ALLOCATION_POLICY=x" },
          .error =
              "unable to validate flags: invalid --shared-devices-allocation-policy option: x; "
              "want distributed or packed; the variable SHARED_DEVICES_ALLOCATION_POLICY says "
              "this" },
        { "mixed", PLUGIN, MPS_WITH(""), .argv = { "--mig-strategy=mixed", "--mps-root=/m" },
          .error =
              "unable to validate flags: using --mig-strategy=mixed is not supported with MPS" },
        { "mps root", PLUGIN, MPS_WITH(""),
          .error = "unable to validate flags: using MPS requires --mps-root to be specified" },
        { "discovery", PLUGIN, NULL, .argv = { "--device-discovery-strategy=x" },
          .error = "unable to validate flags: invalid --device-discovery-strategy option x" },
        { "mig", PLUGIN, NULL, .argv = { "--mig-strategy=x" },
          .error = "unable to validate flags: unknown MIG strategy: x" },
        { "imex", PLUGIN, NULL, .argv = { "--imex-channel-ids=0,1" },
          .error = "unable to validate flags: invalid IMEX channel IDs: invalid IMEX config: "
                   "channelIDs must be [] or [0]; found [0 1]" },
        { "discovery in discovery", GFD, NULL, .argv = { "--device-discovery-strategy=x" },
          .error = "unable to load config: unable to validate flags: invalid "
                   "--device-discovery-strategy option x" },
        { "mig in discovery comes later", GFD, NULL, .argv = { "--mig-strategy=x" },
          .wants = { "mig=none/x " } },
        { "mps in discovery", GFD, MPS_WITH(""), .wants = { "sharing=mps" } },
        { "nothing in the MPS daemon", MPS, "flags: {deviceDiscoveryStrategy: x, migStrategy: yy}",
          .wants = { "mig=none/yy", "discovery=auto" } },
    };

    CHECK(cases);
}

static void validation_keeps_upstreams_order(void **state)
{
    /* Each step mends the first thing that is wrong, and the next one comes up. */
    static const struct {
        const char *mend, *error;
    } steps[] = {
        { NULL, "invalid strategy: x" },
        { "--device-list-strategy=cdi-cri", "only supported on NVML-based systems" },
        { "--device-list-strategy=envvar", "invalid --device-id-strategy option: x" },
        { "--device-id-strategy=uuid", "invalid --shared-devices-allocation-policy option: x" },
        { "--shared-devices-allocation-policy=packed", "using --mig-strategy=mixed is not" },
        { "--mig-strategy=x", "using MPS requires --mps-root" },
        { "--mps-root=/m", "invalid --device-discovery-strategy option x" },
        { "--device-discovery-strategy=nvml", "unknown MIG strategy: x" },
        { "--mig-strategy=single", "invalid IMEX channel IDs" },
        { "--imex-channel-ids=0", NULL },
    };
    static const char *argv[ARRAY_LEN(steps)];
    static const char file_text[] =
        "{flags: {migStrategy: mixed, deviceDiscoveryStrategy: x, plugin: {deviceListStrategy: x, "
        "deviceIDStrategy: x, sharedDevicesAllocationPolicy: x}}, imex: {channelIDs: [1]}, "
        "sharing: {mps: {resources: [{name: gpu, replicas: 2}]}}}";
    struct span file = span_of(file_text);
    int argc = 0;

    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
        struct config *config = NULL;
        struct err err = {};
        /* the strategy of the second step would add to that of the third */
        if (steps[i].mend && i == 2)
            argc--;
        if (steps[i].mend)
            argv[argc++] = steps[i].mend;
        struct config_input input = { .program = PLUGIN, .argc = argc, .argv = argv };
        int r = config_load(&input, &file, "c", false, &arena, &config, NULL, &err);
        if (steps[i].error ? r != -EINVAL || !strstr(err.text, steps[i].error) : r != 0)
            fail_msg("step %zu: %d %s", i, r, err.text);
    }
}

static void a_complete_sentence_reads_like_this(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    struct span file = SPAN("version: v1\nflags:\n  migStrategy: none\nsharing:\n  timeSlicing:\n"
                            "    resources:\n    - name: nvidia.com/gpu\n      replicas: 1\n");
    struct config_input input = { .program = PLUGIN };
    struct config *config = NULL;
    struct err err = {};

    assert_int_equal(config_load(&input, &file, "config.yaml", true, &arena, &config, NULL, &err),
                     -EINVAL);
    assert_string_equal(err.text,
                        DECODE_PREFIX "config.yaml:8:17: number of replicas must be >= 2; a GPU "
                                      "that is not shared needs no entry");
}

static void an_unreadable_file_has_upstreams_sentence(void **state)
{
    struct err err = {};

    assert_int_equal(config_unreadable(-ENOENT, "/c.yaml", &err), -ENOENT);
    assert_string_equal(err.text,
                        "unable to load config: unable to finalize config: unable to parse "
                        "config file: error opening config file: open /c.yaml: no such "
                        "file or directory");
    assert_int_equal(config_unreadable(-EISDIR, "/c", &err), -EISDIR);
    assert_non_null(
        strstr(err.text, "error parsing config file: read error: read /c: is a directory"));
}

/* ---- limits and memory ---- */

static void limits_are_sentences(void **state)
{
    auto_(buf_done) struct buf text = BUF_MAX(MIB(4));
    auto_(arena_done) struct arena arena = ARENA_MAX(CONFIG_ARENA_BYTES);
    struct config_input input = { .program = PLUGIN };
    struct config *config = NULL;
    struct err err = {};

    buf_add_text(&text, "sharing: {timeSlicing: {resources: [");
    for (int i = 0; i < 300; i++)
        buf_printf(&text, "{name: r%d, replicas: 2}, ", i);
    buf_add_text(&text, "]}}");
    struct span file = buf_span(&text);
    assert_int_equal(config_load(&input, &file, "c", true, &arena, &config, NULL, &err), -EINVAL);
    assert_non_null(strstr(err.text, "300 shared resources, more than 256"));

    buf_reset(&text);
    buf_add_text(&text, "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 2, devices: [");
    for (int i = 0; i < 1025; i++)
        buf_add_text(&text, "1,");
    buf_add_text(&text, "]}]}}");
    file = buf_span(&text);
    assert_int_equal(config_load(&input, &file, "c", true, &arena, &config, NULL, &err), -EINVAL);
    assert_non_null(strstr(err.text, "a devices list of 1025 elements, more than 1024"));

    buf_reset(&text);
    while (text.len <= CONFIG_MAX_FILE_BYTES)
        buf_add_text(&text, "# a comment that goes on and on and on and on and on and on and on\n");
    file = buf_span(&text);
    assert_true(config_load(&input, &file, "c", true, &arena, &config, NULL, &err) < 0);
    assert_non_null(strstr(err.text, "error converting YAML to JSON: yaml: "));
}

/* ---- lack of memory ---- */

static const struct load_case scarce[] = {
    { "everything", PLUGIN,
      "version: v1\nfoo: 1\nflags: {migStrategy: none, MIGSTRATEGY: x, plugin: "
      "{deviceListStrategy: [envvar, cdi-cri]}, gfd: {sleepInterval: 5s}}\n"
      "resources: {gpus: [{pattern: '*', name: gpu}]}\nimex: {channelIDs: [0]}\n"
      "sharing: {perDevice: true, timeSlicing: {renameByDefault: true, resources: [{name: gpu, "
      "replicas: 010, rename: x, devices: [0, '1:2', GPU-" UUID "]}, {name: gpu, replicas: 2, "
      "devices: [3]}]}, mps: {resources: [{name: gpu, replicas: 2, devices: 3, rename: yy}, "
      "{name: gpu, replicas: 3}]}}\n",
      .env = { "MPS_ROOT=/m" }, .argv = { "--cdi-feature-flags=a,b" },
      .error = "devices of nvidia.com/gpu are in the entry" },
    { "warnings", PLUGIN,
      TIME_SLICING("{name: gpu, replicas: 3, devices: [0]}, {name: gpu, replicas: 2, x: y}"),
      .wants = { " x3 " } },
    { "a wrong type", PLUGIN, IN_PLUGIN("passDeviceSpecs: [{a: b}], deviceListStrategy: {a: b}"),
      .error = "invalid deviceListStrategy" },
    { "a wrong variable", PLUGIN, NULL, .env = { "GDS_ENABLED=x" },
      .error = "could not parse \"x\"" },
    { "a wrong flag", PLUGIN, NULL, .argv = { "--gds-enabled=x" }, .error = "parse error" },
    { "a wrong value", PLUGIN, NULL, .argv = { "--mig-strategy=x" },
      .error = "unknown MIG strategy" },
};

/* One load with the nth allocation of the system failing (0: none), in an arena of that size. */
static int load_scarcely(const struct load_case *c, unsigned long n, size_t arena_bytes)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(arena_bytes);
    struct span file = c->file ? span_of(c->file) : (struct span){};
    const char *env[2] = { c->env[0] };
    struct config_input input = { .program = c->program,
                                  .argc = count_of(c->argv, ARRAY_LEN(c->argv)),
                                  .argv = c->argv,
                                  .environ = env };
    struct config_warnings warnings = {};
    struct config *config = NULL;
    struct err err = {};

    mem_fail_from(n);
    int r = config_load(&input, c->file ? &file : NULL, "config.yaml", true, &arena, &config,
                        &warnings, &err);
    mem_fail_from(0);
    assert_true(r == 0 || !config);
    assert_true(r == 0 || err.code == -r);
    return r;
}

/* Each time one allocation more succeeds, until none is left to fail. */
static void lack_of_memory_is_said_wherever_it_strikes(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(scarce); i++) {
        unsigned long n = 1;
        while (n < 2000 && load_scarcely(&scarce[i], n, CONFIG_ARENA_BYTES) == -ENOMEM)
            n++;
        assert_in_range(n, 2, 1999);
        check_case(&scarce[i]);
    }
}

static void a_full_arena_is_lack_of_memory(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(scarce); i++) {
        size_t bytes = 0;
        while (bytes < MIB(1) && load_scarcely(&scarce[i], 0, bytes) == -ENOMEM)
            bytes += 16;
        assert_in_range(bytes, 16, MIB(1) - 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_1_to_20_hold),
        cmocka_unit_test(words_are_those_of_yaml_1_1),
        cmocka_unit_test(documents_are_read_as_upstream_does),
        cmocka_unit_test(keys_of_structs_match_in_any_case_and_inside_sharing_exactly),
        cmocka_unit_test(null_is_absent_except_inside_an_item),
        cmocka_unit_test(list_strategy_is_a_word_or_a_list),
        cmocka_unit_test(durations_are_gos_or_nanoseconds),
        cmocka_unit_test(imex_channels_are_none_or_zero),
        cmocka_unit_test(each_mistake_has_upstreams_sentence_and_its_place),
        cmocka_unit_test(the_first_sentence_is_the_one_that_upstream_gives),
        cmocka_unit_test(device_references_have_five_forms),
        cmocka_unit_test(renames_and_devices_are_stripped_with_a_warning),
        cmocka_unit_test(the_usual_rename_is_no_reason_to_warn),
        cmocka_unit_test(requests_above_one_fail_under_mps_unless_said_otherwise),
        cmocka_unit_test(of_two_entries_for_a_resource_the_larger_counts),
        cmocka_unit_test(per_device_honours_devices_and_renames),
        cmocka_unit_test(values_are_validated_with_upstreams_sentences),
        cmocka_unit_test(validation_keeps_upstreams_order),
        cmocka_unit_test(a_complete_sentence_reads_like_this),
        cmocka_unit_test(an_unreadable_file_has_upstreams_sentence),
        cmocka_unit_test(limits_are_sentences),
        cmocka_unit_test(lack_of_memory_is_said_wherever_it_strikes),
        cmocka_unit_test(a_full_arena_is_lack_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
