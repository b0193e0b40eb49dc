/* Flags, environment and defaults: spec §2.1 – §2.3. */
#include "config_case.h"

static void defaults_are_upstreams(void **state)
{
    static const struct load_case cases[] = {
        { "all", PLUGIN, NULL,
          .wants = { " mig=none/none fail=1 driver=/ dev=/ ctr=/driver-root gdrcopy=0 gds=0 "
                     "mofed=0 mps= discovery=auto specs=0 list=1 id=0 prefix=cdi.k8s.io/ "
                     "hook=/usr/bin/nvidia-ctk policy=0 imex=0/0 features= hooks= "
                     "socket=/var/lib/kubelet/device-plugins/kubelet.sock file= sharing=none "
                     "default-rename=0 one-only=0 per-device=0 nfd=1 oneshot=0 no-time=0 "
                     "sleep=60000000000 out=/etc/kubernetes/node-feature-discovery/features.d/gfd "
                     "machine=/sys/class/dmi/id/product_name kube= ns=default node= pod= qps=5 "
                     "burst=10 " } },
        { "discovery", GFD, NULL, .wants = { "mig=none/none fail=1", "nfd=1" } },
        { "mps", MPS, NULL, .wants = { "mig=none/none" } },
    };

    CHECK(cases);
}

/* Each option once through each door that it has. */
static void every_option_has_its_flag_variable_and_key(void **state)
{
    static const struct {
        const char *flag, *value, *variable, *key, *want;
        enum program program;
    } rows[] = {
        { "mig-strategy", "single", "MIG_STRATEGY", "flags.migStrategy", "mig=single/", PLUGIN },
        { "mig-strategy", "single", "GFD_MIG_STRATEGY", "flags.migStrategy", "mig=single/", GFD },
        { "mig-strategy", "single", "MIG_STRATEGY", "flags.migStrategy", "mig=single/", MPS },
        { "fail-on-init-error", "false", "FAIL_ON_INIT_ERROR", "flags.failOnInitError", "fail=0",
          PLUGIN },
        { "fail-on-init-error", "false", "GFD_FAIL_ON_INIT_ERROR", "flags.failOnInitError",
          "fail=0", GFD },
        { "driver-root", "/run/x", "NVIDIA_DRIVER_ROOT", "flags.nvidiaDriverRoot",
          "driver=/run/x dev=/run/x", PLUGIN },
        { "nvidia-driver-root", "/run/x", NULL, NULL, "driver=/run/x", PLUGIN },
        { "dev-root", "/run/d", "NVIDIA_DEV_ROOT", "flags.nvidiaDevRoot", "driver=/ dev=/run/d",
          PLUGIN },
        { "nvidia-dev-root", "/run/d", NULL, NULL, "dev=/run/d", PLUGIN },
        { "gdrcopy-enabled", "true", "GDRCOPY_ENABLED", "flags.gdrcopyEnabled", "gdrcopy=1",
          PLUGIN },
        { "gds-enabled", "true", "GDS_ENABLED", "flags.gdsEnabled", "gds=1", PLUGIN },
        { "mofed-enabled", "true", "MOFED_ENABLED", "flags.mofedEnabled", "mofed=1", PLUGIN },
        { "mps-root", "/m", "MPS_ROOT", "flags.mpsRoot", "mps=/m", PLUGIN },
        { "device-discovery-strategy", "tegra", "DEVICE_DISCOVERY_STRATEGY",
          "flags.deviceDiscoveryStrategy", "discovery=tegra", PLUGIN },
        { "device-discovery-strategy", "vfio", "DEVICE_DISCOVERY_STRATEGY",
          "flags.deviceDiscoveryStrategy", "discovery=vfio", GFD },
        { "pass-device-specs", "true", "PASS_DEVICE_SPECS", "flags.plugin.passDeviceSpecs",
          "specs=1", PLUGIN },
        { "device-list-strategy", "volume-mounts", "DEVICE_LIST_STRATEGY",
          "flags.plugin.deviceListStrategy", "list=2", PLUGIN },
        { "device-id-strategy", "index", "DEVICE_ID_STRATEGY", "flags.plugin.deviceIDStrategy",
          "id=1", PLUGIN },
        { "cdi-annotation-prefix", "x/", "CDI_ANNOTATION_PREFIX",
          "flags.plugin.cdiAnnotationPrefix", "prefix=x/", PLUGIN },
        { "nvidia-cdi-hook-path", "/h", "NVIDIA_CDI_HOOK_PATH", "flags.plugin.nvidiaCTKPath",
          "hook=/h", PLUGIN },
        { "nvidia-ctk-path", "/h", "NVIDIA_CTK_PATH", NULL, "hook=/h", PLUGIN },
        { "driver-root-ctr-path", "/c", "DRIVER_ROOT_CTR_PATH", "flags.plugin.containerDriverRoot",
          "ctr=/c", PLUGIN },
        { "container-driver-root", "/c", "CONTAINER_DRIVER_ROOT", NULL, "ctr=/c", GFD },
        { "shared-devices-allocation-policy", "packed", "SHARED_DEVICES_ALLOCATION_POLICY",
          "flags.plugin.sharedDevicesAllocationPolicy", "policy=1", PLUGIN },
        { "imex-channel-ids", "0", "IMEX_CHANNEL_IDS", NULL, "imex=1/0", PLUGIN },
        { "imex-required", "true", "IMEX_REQUIRED", "imex.required", "imex=0/1", PLUGIN },
        { "kubelet-socket", "/k", "KUBELET_SOCKET", NULL, "socket=/k", PLUGIN },
        { "config-file", "/f", "CONFIG_FILE", NULL, "file=/f", PLUGIN },
        { "config-file", "/f", "GFD_CONFIG_FILE", NULL, "file=/f", GFD },
        { "config-file", "/f", "CONFIG_FILE", NULL, "file=/f", MPS },
        { "cdi-feature-flags", "a,b", "CDI_FEATURE_FLAGS", NULL, "features=a,b", PLUGIN },
        { "cdi-disable-hooks", "all", "CDI_DISABLE_HOOKS", NULL, "hooks=all", PLUGIN },
        { "use-node-feature-api", "false", "GFD_USE_NODE_FEATURE_API", "flags.useNodeFeatureAPI",
          "nfd=0", GFD },
        { "use-node-feature-api", "false", "USE_NODE_FEATURE_API", NULL, "nfd=0", GFD },
        { "oneshot", "true", "GFD_ONESHOT", "flags.gfd.oneshot", "oneshot=1", GFD },
        { "no-timestamp", "true", "GFD_NO_TIMESTAMP", "flags.gfd.noTimestamp", "no-time=1", GFD },
        { "sleep-interval", "1m30s", "GFD_SLEEP_INTERVAL", "flags.gfd.sleepInterval",
          "sleep=90000000000", GFD },
        { "output-file", "/o", "GFD_OUTPUT_FILE", "flags.gfd.outputFile", "out=/o", GFD },
        { "output", "/o", NULL, NULL, "out=/o", GFD },
        { "o", "/o", NULL, NULL, "out=/o", GFD },
        { "machine-type-file", "/m", "GFD_MACHINE_TYPE_FILE", "flags.gfd.machineTypeFile",
          "machine=/m", GFD },
        { "kubeconfig", "/k", "KUBECONFIG", NULL, "kube=/k", GFD },
        { "kube-api-qps", "2.5", "KUBE_API_QPS", NULL, "qps=2.5", GFD },
        { "kube-api-burst", "7", "KUBE_API_BURST", NULL, "burst=7", GFD },
        { "namespace", "n", "NAMESPACE", NULL, "ns=n ", GFD },
        { "node-name", "n", "NODE_NAME", NULL, "node=n ", GFD },
        { "pod-name", "n", "POD_NAME", NULL, "pod=n ", GFD },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char flag[128], variable[128] = "", file[128] = "", tail[8] = "", *at = file;
        struct load_case c = { .word = rows[i].flag, .program = rows[i].program };
        c.wants[0] = rows[i].want;

        snprintf(flag, sizeof(flag), "--%s=%s", rows[i].flag, rows[i].value);
        c.argv[0] = flag;
        check_case(&c);
        c.argv[0] = NULL;
        if (rows[i].variable) {
            snprintf(variable, sizeof(variable), "%s=%s", rows[i].variable, rows[i].value);
            c.env[0] = variable;
            check_case(&c);
            c.env[0] = NULL;
        }
        if (!rows[i].key)
            continue;
        struct span rest = span_of(rows[i].key), part;
        for (bool more = true; span_split(&rest, '.', &more, &part);) {
            at +=
                snprintf(at, (size_t)(file + sizeof(file) - at), "{" SPAN_FMT ": ", SPAN_ARG(part));
            strcat(tail, "}");
        }
        snprintf(at, (size_t)(file + sizeof(file) - at), "%s%s", rows[i].value, tail);
        c.file = file;
        check_case(&c);
    }
}

static void precedence_is_flag_environment_file_default(void **state)
{
    static const struct load_case cases[] = {
        { "env over file", PLUGIN, IN_PLUGIN("passDeviceSpecs: true"),
          .env = { "PASS_DEVICE_SPECS=false" }, .wants = { "specs=0" } },
        { "flag over env", PLUGIN, NULL, .env = { "PASS_DEVICE_SPECS=false" },
          .argv = { "--pass-device-specs" }, .wants = { "specs=1" } },
        { "first variable present wins", PLUGIN, NULL,
          .env = { "NVIDIA_CTK_PATH=/b", "NVIDIA_CDI_HOOK_PATH=/a" }, .wants = { "hook=/a " } },
        { "first variable present, empty", PLUGIN, NULL,
          .env = { "NVIDIA_CTK_PATH=/b", "NVIDIA_CDI_HOOK_PATH=" }, .wants = { "hook= " } },
        { "discovery's own variable first", GFD, NULL,
          .env = { "MIG_STRATEGY=mixed", "GFD_MIG_STRATEGY=single" }, .wants = { "mig=single" } },
        { "the plugin does not see it", PLUGIN, NULL, .env = { "GFD_MIG_STRATEGY=single" },
          .wants = { "mig=none" } },
        { "flag list replaces env list", PLUGIN, NULL, .env = { "DEVICE_LIST_STRATEGY=cdi-cri" },
          .argv = { "--device-list-strategy=envvar" }, .wants = { " list=1 " } },
        { "a bad file value is an error all the same", PLUGIN, "flags: {failOnInitError: 3}",
          .argv = { "--fail-on-init-error=true" },
          .error = "json: cannot unmarshal number into Go struct field" },
        { "file values of others are kept", MPS, "flags: {mpsRoot: /m}", .wants = { "mps=/m " } },
        { "a variable that begins alike", PLUGIN, NULL, .env = { "MPS_ROOT_X=/a", "MPS_ROO=/b" },
          .wants = { "mps= " } },
    };

    CHECK(cases);
}

static void empty_values_mean_what_their_type_says(void **state)
{
    static const struct load_case cases[] = {
        { "string", PLUGIN, NULL, .env = { "MIG_STRATEGY=" },
          .error = "unable to validate flags: unknown MIG strategy: " },
        { "string over file", PLUGIN, "flags: {nvidiaDriverRoot: /x}",
          .env = { "NVIDIA_DRIVER_ROOT=" }, .wants = { "driver= " } },
        { "bool is false", PLUGIN, NULL, .env = { "FAIL_ON_INIT_ERROR=" }, .wants = { "fail=0" } },
        { "duration is ignored", GFD, "flags: {gfd: {sleepInterval: 5s}}",
          .env = { "GFD_SLEEP_INTERVAL=" }, .wants = { "sleep=5000000000 " } },
        { "int is ignored", GFD, NULL, .env = { "KUBE_API_BURST=", "KUBE_API_QPS=" },
          .wants = { "qps=5 burst=10" } },
        { "int list is ignored", PLUGIN, "imex: {channelIDs: [0]}", .env = { "IMEX_CHANNEL_IDS=" },
          .wants = { "imex=1" } },
        { "string list has one empty element", PLUGIN, NULL, .env = { "DEVICE_LIST_STRATEGY=" },
          .error = "invalid --device-list-strategy option: invalid strategy: " },
        { "string list ends in a comma", PLUGIN, NULL, .env = { "DEVICE_LIST_STRATEGY=envvar," },
          .error = "invalid strategy: " },
        { "int list ends in a comma", PLUGIN, NULL, .env = { "IMEX_CHANNEL_IDS=0," },
          .error = "could not parse \"0,\" as int slice value from environment variable "
                   "\"IMEX_CHANNEL_IDS\" for flag imex-channel-ids: strconv.ParseInt: parsing "
                   "\"\": invalid syntax" },
        { "int list in a flag", PLUGIN, NULL, .argv = { "--imex-channel-ids=" },
          .error = "invalid value \"\" for flag -imex-channel-ids: strconv.ParseInt: parsing "
                   "\"\": invalid syntax" },
        { "socket", PLUGIN, NULL, .argv = { "--kubelet-socket=" }, .wants = { "socket= " } },
        { "dev root in the file", PLUGIN, "flags: {nvidiaDevRoot: '', nvidiaDriverRoot: /x}",
          .wants = { "dev=/x " } },
    };

    CHECK(cases);
}

static void scalars_and_lists_parse_as_in_go(void **state)
{
    static const struct load_case cases[] = {
        { "t", PLUGIN, NULL, .env = { "GDS_ENABLED=t" }, .wants = { "gds=1" } },
        { "T", PLUGIN, NULL, .env = { "GDS_ENABLED=T" }, .wants = { "gds=1" } },
        { "1", PLUGIN, NULL, .env = { "GDS_ENABLED=1" }, .wants = { "gds=1" } },
        { "True", PLUGIN, NULL, .env = { "GDS_ENABLED=True" }, .wants = { "gds=1" } },
        { "TRUE", PLUGIN, NULL, .env = { "GDS_ENABLED=TRUE" }, .wants = { "gds=1" } },
        { "F", PLUGIN, NULL, .env = { "FAIL_ON_INIT_ERROR=F" }, .wants = { "fail=0" } },
        { "False", PLUGIN, NULL, .env = { "FAIL_ON_INIT_ERROR=False" }, .wants = { "fail=0" } },
        { "tRUE", PLUGIN, NULL, .env = { "GDS_ENABLED=tRUE" },
          .error = "could not parse \"tRUE\" as bool value" },
        { "blank", PLUGIN, NULL, .env = { "GDS_ENABLED= true" },
          .error = "could not parse \" true\" as bool value" },
        { "hex", PLUGIN, NULL, .env = { "IMEX_CHANNEL_IDS=0x0" }, .wants = { "imex=1" } },
        { "two", PLUGIN, NULL, .env = { "IMEX_CHANNEL_IDS=0, 010" },
          .error = "channelIDs must be [] or [0]; found [0 8]" },
        { "int", GFD, NULL, .env = { "KUBE_API_BURST=x" },
          .error = "could not parse \"x\" as int value from environment variable "
                   "\"KUBE_API_BURST\" for flag kube-api-burst: strconv.ParseInt: parsing \"x\": "
                   "invalid syntax" },
        { "int range", GFD, NULL, .env = { "KUBE_API_BURST=9223372036854775808" },
          .error = "value out of range" },
        { "float", GFD, NULL, .env = { "KUBE_API_QPS=1.5x" },
          .error = "could not parse \"1.5x\" as float64 value" },
        { "elements are trimmed", PLUGIN, NULL,
          .env = { "DEVICE_LIST_STRATEGY= envvar , cdi-cri " }, .wants = { " list=9 " } },
        { "quoted as in Go", PLUGIN, NULL, .env = { "GDS_ENABLED=a\"\n\x01\xc3\xa9\xff" },
          .error = "could not parse \"a\\\"\\n\\x01\xc3\xa9\\xff\" as bool value" },
    };

    CHECK(cases);
}

static void flags_parse_as_in_go(void **state)
{
    static const struct load_case cases[] = {
        { "one dash", PLUGIN, NULL, .argv = { "-mig-strategy", "mixed" },
          .wants = { "mig=mixed" } },
        { "two dashes", PLUGIN, NULL, .argv = { "--mig-strategy", "mixed" },
          .wants = { "mig=mixed" } },
        { "last one wins", PLUGIN, NULL,
          .argv = { "--mig-strategy=mixed", "--mig-strategy=single" }, .wants = { "mig=single" } },
        { "lists add up", PLUGIN, NULL,
          .argv = { "--device-list-strategy=envvar", "--device-list-strategy", "cdi-cri,cdi-cri",
                    "--cdi-feature-flags=a", "--cdi-feature-flags=b" },
          .wants = { " list=9 ", "features=a,b " } },
        { "a switch takes no word", PLUGIN, NULL, .argv = { "--pass-device-specs", "false" },
          .wants = { "specs=1" } },
        { "a word ends the flags", PLUGIN, NULL,
          .argv = { "--gds-enabled", "word", "--mig-strategy=mixed" },
          .wants = { "gds=1", "mig=none" } },
        { "two dashes end the flags", PLUGIN, NULL, .argv = { "--", "--nonsense" },
          .wants = { "mig=none" } },
        { "a lone dash ends the flags", PLUGIN, NULL, .argv = { "-", "--nonsense" },
          .wants = { "mig=none" } },
        { "a value may look like a flag", PLUGIN, NULL, .argv = { "--mps-root", "--x" },
          .wants = { "mps=--x " } },
        { "a value may hold =", PLUGIN, NULL, .argv = { "--mps-root=a=b" },
          .wants = { "mps=a=b " } },
        { "unknown", PLUGIN, NULL, .argv = { "--nonsense=3" },
          .error = "flag provided but not defined: -nonsense" },
        { "another program's", PLUGIN, NULL, .argv = { "--oneshot" },
          .error = "flag provided but not defined: -oneshot" },
        { "the plugin's in the MPS daemon", MPS, NULL, .argv = { "--mps-root=/m" },
          .error = "flag provided but not defined: -mps-root" },
        { "no value", PLUGIN, NULL, .argv = { "--mig-strategy" },
          .error = "flag needs an argument: -mig-strategy" },
        { "bad switch", PLUGIN, NULL, .argv = { "--gds-enabled=maybe" },
          .error = "invalid boolean value \"maybe\" for -gds-enabled: parse error" },
        { "bad duration", GFD, NULL, .argv = { "--sleep-interval=60" },
          .error = "invalid value \"60\" for flag -sleep-interval: time: missing unit in duration "
                   "\"60\"" },
        { "bad int", GFD, NULL, .argv = { "--kube-api-burst=x" },
          .error = "invalid value \"x\" for flag -kube-api-burst: parse error" },
        { "three dashes", PLUGIN, NULL, .argv = { "---x" }, .error = "bad flag syntax: ---x" },
        { "no name", PLUGIN, NULL, .argv = { "--=x" }, .error = "bad flag syntax: --=x" },
        { "two forms", PLUGIN, NULL, .argv = { "--nvidia-driver-root=/a", "--driver-root=/b" },
          .error = "Cannot use two forms of the same flag: nvidia-driver-root driver-root" },
        { "variables are looked at first", PLUGIN, NULL, .env = { "GDS_ENABLED=x" },
          .argv = { "--nonsense" }, .error = "could not parse \"x\"" },
    };

    CHECK(cases);
}

static void options_alone_say_the_file_and_the_request(void **state)
{
    static const struct {
        const char *argv[3], *env[2];
        enum program program;
        enum config_request request;
        const char *file;
    } cases[] = {
        { {}, {}, PLUGIN, CONFIG_RUN, "" },
        { { "--config-file=/a" }, { "CONFIG_FILE=/b" }, PLUGIN, CONFIG_RUN, "/a" },
        { {}, { "CONFIG_FILE=/b" }, PLUGIN, CONFIG_RUN, "/b" },
        { {}, { "GFD_CONFIG_FILE=/b" }, GFD, CONFIG_RUN, "/b" },
        { { "--help" }, {}, PLUGIN, CONFIG_SHOW_HELP, "" },
        { { "-h" }, {}, PLUGIN, CONFIG_SHOW_HELP, "" },
        { { "help" }, {}, PLUGIN, CONFIG_SHOW_HELP, "" },
        { { "--version" }, {}, PLUGIN, CONFIG_SHOW_VERSION, "" },
        { { "-v" }, {}, MPS, CONFIG_SHOW_VERSION, "" },
        { { "--version", "--help" }, {}, PLUGIN, CONFIG_SHOW_HELP, "" },
        { { "--help=false" }, {}, PLUGIN, CONFIG_RUN, "" },
        { { "word", "--help" }, {}, PLUGIN, CONFIG_RUN, "" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
        struct config_input input = { .program = cases[i].program,
                                      .argc = count_of(cases[i].argv, 3),
                                      .argv = cases[i].argv,
                                      .environ = cases[i].env };
        enum config_request request;
        const char *file;
        assert_int_equal(config_options(&input, &arena, &file, &request, NULL), 0);
        assert_int_equal(request, cases[i].request);
        assert_string_equal(file, cases[i].file);
    }
}

static void help_names_every_flag_with_its_variables(void **state)
{
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));

    assert_int_equal(config_help(PROGRAM_FEATURE_DISCOVERY, "gpu-feature-discovery", &out), 0);
    assert_non_null(strstr(buf_text(&out), "gpu-feature-discovery - "));
    assert_non_null(strstr(buf_text(&out), "--output-file, --output, -o value\n"));
    assert_non_null(strstr(buf_text(&out), "(default: none) [$GFD_MIG_STRATEGY] [$MIG_STRATEGY]"));
    assert_null(strstr(buf_text(&out), "--pass-device-specs"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_upstreams),
        cmocka_unit_test(every_option_has_its_flag_variable_and_key),
        cmocka_unit_test(precedence_is_flag_environment_file_default),
        cmocka_unit_test(empty_values_mean_what_their_type_says),
        cmocka_unit_test(scalars_and_lists_parse_as_in_go),
        cmocka_unit_test(flags_parse_as_in_go),
        cmocka_unit_test(options_alone_say_the_file_and_the_request),
        cmocka_unit_test(help_names_every_flag_with_its_variables),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
