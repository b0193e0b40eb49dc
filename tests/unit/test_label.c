#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "fixture.h"
#include "share/label.h"

/*
 * The worked examples of spec/device-plugin §9.7 to the letter, and the test vectors 74 to 83 of
 * §10.6 as rows whose names begin with their numbers.
 */

enum { NO_TIMESTAMP = -1 };

/* "key=value\n" without nvidia.com/, or the error's sentence. */
static const char *labels_of(struct fixture *f, int64_t timestamp)
{
    auto_(buf_done) struct buf text = BUF_MAX(KIB(64));
    struct label_set *set;

    int r = label_build(f->inventory, &f->config, timestamp, &f->arena, &set, &f->err);
    if (r < 0) {
        assert_int_equal(r, -EINVAL);
        return f->err.text;
    }
    for (size_t i = 0; i < set->n; i++) {
        assert_true(text_starts(set->items[i].key, "nvidia.com/"));
        assert_true(i == 0 || strcmp(set->items[i - 1].key, set->items[i].key) < 0);
        assert_true(strlen(set->items[i].value) <= 63);
        buf_printf(&text, "%s=%s\n", set->items[i].key + strlen("nvidia.com/"),
                   set->items[i].value);
    }
    return arena_strdup(&f->arena, buf_text(&text));
}

#define COMMON_A                                                                                   \
    "cuda.driver-version.full=550.90.07\ncuda.driver-version.major=550\n"                          \
    "cuda.driver-version.minor=90\ncuda.driver-version.revision=07\n"                              \
    "cuda.driver.major=550\ncuda.driver.minor=90\ncuda.driver.rev=07\n"                            \
    "cuda.runtime-version.full=12.4\ncuda.runtime-version.major=12\n"                              \
    "cuda.runtime-version.minor=4\ncuda.runtime.major=12\ncuda.runtime.minor=4\n"

static void example_a_single_with_seven_slices(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "h100:7x1g.10gb");
    f.config.mig_strategy = MIG_STRATEGY_SINGLE;
    assert_string_equal(
        labels_of(&f, NO_TIMESTAMP),
        COMMON_A "gpu.compute.major=9\ngpu.compute.minor=0\ngpu.count=7\ngpu.engines.copy=1\n"
                 "gpu.engines.decoder=1\ngpu.engines.encoder=0\ngpu.engines.jpeg=1\n"
                 "gpu.engines.ofa=0\ngpu.family=hopper\ngpu.machine=PowerEdge-R750xa\n"
                 "gpu.memory=9984\ngpu.mode=compute\ngpu.multiprocessors=16\n"
                 "gpu.product=NVIDIA-H100-80GB-HBM3-MIG-1g.10gb\ngpu.replicas=1\n"
                 "gpu.sharing-strategy=none\ngpu.slices.ci=1\ngpu.slices.gi=1\n"
                 "mig.capable=true\nmig.strategy=single\nmps.capable=false\nvgpu.present=false\n");
}

static void example_b_mixed_with_three_profiles(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "h100:2x1g.10gb,1x2g.20gb,1x3g.40gb");
    f.config.mig_strategy = MIG_STRATEGY_MIXED;
    assert_string_equal(
        labels_of(&f, NO_TIMESTAMP), COMMON_A
        "gpu.compute.major=9\ngpu.compute.minor=0\ngpu.count=1\ngpu.family=hopper\n"
        "gpu.machine=PowerEdge-R750xa\ngpu.memory=81559\ngpu.mode=compute\n"
        "gpu.product=NVIDIA-H100-80GB-HBM3\ngpu.replicas=0\ngpu.sharing-strategy=none\n"
        "mig-1g.10gb.count=2\nmig-1g.10gb.engines.copy=1\nmig-1g.10gb.engines.decoder=1\n"
        "mig-1g.10gb.engines.encoder=0\nmig-1g.10gb.engines.jpeg=1\nmig-1g.10gb.engines.ofa=0\n"
        "mig-1g.10gb.memory=9984\nmig-1g.10gb.multiprocessors=16\n"
        "mig-1g.10gb.product=NVIDIA-H100-80GB-HBM3-MIG-1g.10gb\nmig-1g.10gb.replicas=1\n"
        "mig-1g.10gb.sharing-strategy=none\nmig-1g.10gb.slices.ci=1\nmig-1g.10gb.slices.gi=1\n"
        "mig-2g.20gb.count=1\nmig-2g.20gb.engines.copy=2\nmig-2g.20gb.engines.decoder=2\n"
        "mig-2g.20gb.engines.encoder=0\nmig-2g.20gb.engines.jpeg=2\nmig-2g.20gb.engines.ofa=0\n"
        "mig-2g.20gb.memory=20096\nmig-2g.20gb.multiprocessors=32\n"
        "mig-2g.20gb.product=NVIDIA-H100-80GB-HBM3-MIG-2g.20gb\nmig-2g.20gb.replicas=1\n"
        "mig-2g.20gb.sharing-strategy=none\nmig-2g.20gb.slices.ci=2\nmig-2g.20gb.slices.gi=2\n"
        "mig-3g.40gb.count=1\nmig-3g.40gb.engines.copy=3\nmig-3g.40gb.engines.decoder=3\n"
        "mig-3g.40gb.engines.encoder=0\nmig-3g.40gb.engines.jpeg=3\nmig-3g.40gb.engines.ofa=0\n"
        "mig-3g.40gb.memory=40448\nmig-3g.40gb.multiprocessors=60\n"
        "mig-3g.40gb.product=NVIDIA-H100-80GB-HBM3-MIG-3g.40gb\nmig-3g.40gb.replicas=1\n"
        "mig-3g.40gb.sharing-strategy=none\nmig-3g.40gb.slices.ci=3\nmig-3g.40gb.slices.gi=3\n"
        "mig.capable=true\nmig.strategy=mixed\nmps.capable=false\nvgpu.present=false\n");
}

static void example_c_a_t4_shared_four_times(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4");
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 4);
    assert_string_equal(
        labels_of(&f, 1700000000),
        COMMON_A "gfd.timestamp=1700000000\ngpu.compute.major=7\ngpu.compute.minor=5\ngpu.count=1\n"
                 "gpu.family=turing\ngpu.machine=PowerEdge-R750xa\ngpu.memory=15360\n"
                 "gpu.mode=compute\ngpu.product=Tesla-T4-SHARED\ngpu.replicas=4\n"
                 "gpu.sharing-strategy=time-slicing\nmig.capable=false\nmps.capable=false\n"
                 "vgpu.present=false\n");
}

/* Rows: a node, what is changed, and lines that must (or, with '!', must not) be there. */
struct row {
    const char *name, *layout;
    enum mig_strategy strategy;
    uint32_t replicas;
    enum sharing_strategy sharing;
    void (*change)(struct fixture *f);
    const char *lines; /* separated by newlines */
};

static void odd_machine(struct fixture *f)
{
    f->inventory->machine = "Standard PC (Q35 + ICH9, 2009)";
}

static void no_machine(struct fixture *f)
{
    f->inventory->machine = NULL;
}

static void empty_machine(struct fixture *f)
{
    f->inventory->machine = "";
}

static void two_part_driver(struct fixture *f)
{
    f->inventory->driver_version = "470.82";
}

static void four_part_driver(struct fixture *f)
{
    f->inventory->driver_version = "1.2.3.4";
}

static void rename_shared(struct fixture *f)
{
    f->config.sharing.rename_by_default = true;
    f->shared[0].rename = "nvidia.com/gpu.shared";
}

static void no_devices(struct fixture *f)
{
    f->inventory->platform = PLATFORM_NONE;
    f->inventory->driver_version = NULL;
}

static void mixed_classes(struct fixture *f)
{
    f->inventory->gpus[0].pci_class = READING(0x030000);
}

static void graphics_class(struct fixture *f)
{
    f->inventory->gpus[0].pci_class = READING(0x030000);
}

static void accelerator_class(struct fixture *f)
{
    f->inventory->gpus[0].pci_class = READING(0x120000);
}

static void set_fabric(struct gpu *gpu, uint32_t clique)
{
    gpu->fabric = (struct gpu_fabric){ .attached = true, .clique_id = clique };
    snprintf(gpu->fabric.cluster_uuid, sizeof(gpu->fabric.cluster_uuid), "%s",
             "9b2a5c1e-7d3f-4a60-8e21-5f0c6d7b8a90");
}

static void one_clique(struct fixture *f)
{
    set_fabric(&f->inventory->gpus[0], 1);
    set_fabric(&f->inventory->gpus[1], 1);
}

static void two_cliques(struct fixture *f)
{
    set_fabric(&f->inventory->gpus[0], 1);
    set_fabric(&f->inventory->gpus[1], 2);
}

static void ada(struct fixture *f)
{
    f->inventory->gpus[0].cc_major = 8;
    f->inventory->gpus[0].cc_minor = 9;
}

static void a_vgpu(struct fixture *f)
{
    f->inventory->vgpu = (struct vgpu_info){ true, true, "460.16", "r460_00" };
}

static void no_pci_scan(struct fixture *f)
{
    f->inventory->vgpu.scanned = false;
}

static void unknown_strategy(struct fixture *f)
{
    f->config.mig_strategy_text = "sometimes";
}

static const struct row rows[] = {
    { "74: a product with a slash", "quadro", .lines = "gpu.product=Quadro-RTX-60008000" },
    { "74: a machine with brackets", "t4", .change = odd_machine,
      .lines = "gpu.machine=Standard-PC-Q35-ICH9-2009" },
    { "a machine that cannot be read", "t4", .change = no_machine, .lines = "gpu.machine=unknown" },
    { "a machine without a name", "t4", .change = empty_machine, .lines = "gpu.machine=" },
    { "75: a driver version of two parts", "t4", .change = two_part_driver,
      .lines = "cuda.driver.major=470\ncuda.driver.minor=82\ncuda.driver.rev=\n"
               "cuda.driver-version.revision=\ncuda.driver-version.full=470.82" },
    { "75: a driver version of four parts", "t4", .change = four_part_driver,
      .lines = "error creating labeler: failed to construct version labeler: error getting driver "
               "version: Version \"1.2.3.4\" does not match format \"X.Y[.Z]\"" },
    { "76: MIG on and off under none, shared twice", "h100:7x1g.10gb h100", .replicas = 2,
      .sharing = SHARING_TIME_SLICING,
      .lines = "gpu.count=2\ngpu.replicas=2\ngpu.product=NVIDIA-H100-80GB-HBM3-SHARED\n"
               "gpu.sharing-strategy=time-slicing\n!mig.strategy=" },
    { "77: of two models the one with the lowest index", "t4 h100",
      .lines = "gpu.product=Tesla-T4\ngpu.count=1\ngpu.memory=15360\ngpu.family=turing" },
    { "77: and the other way round", "h100 t4",
      .lines = "gpu.product=NVIDIA-H100-80GB-HBM3\ngpu.count=1\ngpu.family=hopper" },
    { "78: single with an empty MIG GPU", "h100:", .strategy = MIG_STRATEGY_SINGLE,
      .lines = "gpu.product=NVIDIA-H100-80GB-HBM3-MIG-INVALID\ngpu.count=0\ngpu.replicas=0\n"
               "gpu.sharing-strategy=\ngpu.memory=0\nmig.strategy=single\ngpu.family=hopper" },
    { "22: single with MIG on and off", "h100:7x1g.10gb h100", .strategy = MIG_STRATEGY_SINGLE,
      .lines = "gpu.product=NVIDIA-H100-80GB-HBM3-MIG-INVALID\ngpu.count=0" },
    { "single with and without media extensions", "h100:1x1g.10gb,1x1g.10gb+me",
      .strategy = MIG_STRATEGY_SINGLE, .lines = "gpu.product=NVIDIA-H100-80GB-HBM3-MIG-INVALID" },
    { "single without MIG is like none", "t4", .strategy = MIG_STRATEGY_SINGLE,
      .lines = "mig.strategy=single\ngpu.count=1\ngpu.product=Tesla-T4" },
    { "29: none with MIG on", "h100:7x1g.10gb", .lines = "gpu.replicas=0\ngpu.count=1\n!mig-" },
    { "mixed, shared GPUs: one with MIG on is none", "h100:2x1g.10gb",
      .strategy = MIG_STRATEGY_MIXED, .replicas = 3, .sharing = SHARING_TIME_SLICING,
      .lines = "gpu.replicas=0\ngpu.sharing-strategy=none" },
    { "A: single, slices shared four times", "h100:7x1g.10gb", .strategy = MIG_STRATEGY_SINGLE,
      .replicas = 4, .sharing = SHARING_TIME_SLICING,
      .lines = "gpu.product=NVIDIA-H100-80GB-HBM3-MIG-1g.10gb-SHARED\ngpu.replicas=4\n"
               "gpu.sharing-strategy=time-slicing\ngpu.count=7" },
    { "C: renamed by default", "t4", .replicas = 4, .sharing = SHARING_TIME_SLICING,
      .change = rename_shared,
      .lines = "gpu.product=Tesla-T4\ngpu.replicas=4\ngpu.sharing-strategy=time-slicing" },
    { "C: MPS", "t4", .replicas = 4, .sharing = SHARING_MPS,
      .lines = "gpu.sharing-strategy=mps\nmps.capable=true\ngpu.product=Tesla-T4-SHARED" },
    { "79: MPS with MIG on", "h100:7x1g.10gb", .replicas = 4, .sharing = SHARING_MPS,
      .lines = "error creating labeler: error creating sharing labeler: failed to check "
               "MPS-capable: MPS sharing is not supported for mig devices" },
    { "80: no GPU", "", .change = no_devices,
      .lines = "vgpu.present=false\n!gpu.count\n!gpu.product\n!cuda.\n!mig" },
    { "81: two kinds of PCI class", "t4 t4", .change = mixed_classes, .lines = "gpu.mode=unknown" },
    { "graphics boards", "t4", .change = graphics_class, .lines = "gpu.mode=graphics" },
    { "D20: another PCI class", "t4", .change = accelerator_class, .lines = "gpu.mode=unknown" },
    { "82: one clique", "h100 h100", .change = one_clique,
      .lines = "gpu.clique=9b2a5c1e-7d3f-4a60-8e21-5f0c6d7b8a90.1" },
    { "82: two cliques", "h100 h100", .change = two_cliques, .lines = "!gpu.clique" },
    { "83: 8.9", "a10", .change = ada, .lines = "gpu.family=ada-lovelace" },
    { "83: 8.6", "a10", .lines = "gpu.family=ampere" },
    { "83: 12.0", "rtxpro", .lines = "gpu.family=blackwell" },
    { "83: 10.3", "b300", .lines = "gpu.family=blackwell" },
    { "83: 7.0", "v100", .lines = "gpu.family=volta" },
    { "a vGPU", "t4", .change = a_vgpu,
      .lines = "vgpu.present=true\nvgpu.host-driver-version=460.16\n"
               "vgpu.host-driver-branch=r460_00" },
    { "a PCI scan that failed", "t4", .change = no_pci_scan, .lines = "!vgpu" },
    { "an unknown MIG strategy", "t4", .change = unknown_strategy,
      .lines = "unknown strategy: sometimes" },
};

static void the_labels_of_a_node_are_upstreams(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_(fixture_done) struct fixture f = {};
        struct span rest = span_of(rows[i].lines), line;
        bool more = true;

        fixture_init(&f, rows[i].layout);
        f.config.mig_strategy = rows[i].strategy;
        if (rows[i].replicas)
            fixture_share(&f, rows[i].sharing, "nvidia.com/gpu", rows[i].replicas);
        if (rows[i].change)
            rows[i].change(&f);
        const char *labels = labels_of(&f, NO_TIMESTAMP);
        while (span_split(&rest, '\n', &more, &line)) {
            char *wanted = arena_spandup(&f.arena, line);
            bool unwanted = wanted[0] == '!';

            if (unwanted == (strstr(labels, wanted + unwanted) != NULL))
                fail_msg("%s: %s in\n%s", rows[i].name, wanted, labels);
        }
    }
}

static void a_mig_resource_that_is_shared_says_so(void **state) /* 30 */
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "h100:2x1g.10gb");
    f.config.mig_strategy = MIG_STRATEGY_MIXED;
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/mig-1g.10gb", 3);
    const char *labels = labels_of(&f, NO_TIMESTAMP);
    assert_non_null(
        strstr(labels, "mig-1g.10gb.product=NVIDIA-H100-80GB-HBM3-MIG-1g.10gb-SHARED\n"));
    assert_non_null(strstr(labels, "mig-1g.10gb.replicas=3\n"));
    assert_non_null(strstr(labels, "mig-1g.10gb.count=2\n"));
    assert_non_null(strstr(labels, "mig-1g.10gb.sharing-strategy=time-slicing\n"));
}

static void no_timestamp_means_none(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4");
    f.config.gfd.no_timestamp = true;
    assert_null(strstr(labels_of(&f, 1700000000), "timestamp"));
}

static void values_are_cleaned_up(void **state)
{
    static const struct {
        const char *text, *value;
    } cases[] = {
        { "Tesla T4", "Tesla-T4" },
        { "  two   spaces ", "two-spaces" },
        { "a/b(c)+d", "abcd" },
        { "under_score.dot-dash", "under_score.dot-dash" },
        { "", "" },
        { "ümlaut", "mlaut" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));

        assert_string_equal(label_sanitise(&arena, cases[i].text), cases[i].value);
    }
}

static void lack_of_memory_is_always_said(void **state)
{
    int r = -ENOMEM;

    for (unsigned long n = 1; r == -ENOMEM; n++) {
        auto_(fixture_done) struct fixture f = {};
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
        struct label_set *set;

        fixture_init(&f, "h100:2x1g.10gb,1x3g.40gb t4");
        f.config.mig_strategy = MIG_STRATEGY_MIXED;
        mem_fail_from(n);
        r = label_build(f.inventory, &f.config, 1, &arena, &set, NULL);
        mem_fail_from(0);
        assert_true(r == 0 || r == -ENOMEM);
        assert_true(n < 10000);
    }
}

static const char *value_of(struct fixture *f, const char *key)
{
    struct label_set *set;

    assert_int_equal(label_build(f->inventory, &f->config, NO_TIMESTAMP, &f->arena, &set, NULL), 0);
    for (size_t i = 0; i < set->n; i++)
        if (text_equal(set->items[i].key, key))
            return set->items[i].value;
    return NULL;
}

/* D15: 63 bytes, a letter or digit at both ends, and what people select by is kept. */
static void a_product_too_long_for_a_label_loses_the_end_of_the_model(void **state)
{
    auto_(fixture_done) struct fixture f = {};
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    char long_name[200];

    fixture_init(&f, "rtxpro:1x1g.24gb+me.all");
    f.config.mig_strategy = MIG_STRATEGY_MIXED;
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/mig-1g.24gb.me.all", 2);
    assert_string_equal(value_of(&f, "nvidia.com/mig-1g.24gb.me.all.product"),
                        "NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-W-MIG-1g.24gb.me.all-SHARED");
    assert_string_equal(value_of(&f, "nvidia.com/gpu.product"),
                        "NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Workstation-Edition");

    for (size_t len = 60; len < 70; len++) {
        memset(long_name, 'x', len);
        long_name[61] = long_name[62] = '.';
        long_name[len] = '\0';
        char *value = label_sanitise(&arena, long_name);
        assert_int_equal(strlen(value), len < 61 ? len : 61);
        assert_int_equal(value[strlen(value) - 1], 'x');
    }
    assert_string_equal(label_sanitise(&arena, "_-. (R) x -._"), "R-x");
    assert_string_equal(label_sanitise(&arena, "-._"), "");
}

static void replicas_and_name_follow_the_entry_that_selects_the_device(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 t4 h100:2x1g.10gb");
    f.config.mig_strategy = MIG_STRATEGY_MIXED;
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 4);
    fixture_select(&f, "1");
    assert_string_equal(value_of(&f, "nvidia.com/gpu.product"), "Tesla-T4"); /* GPU 0 speaks */
    assert_string_equal(value_of(&f, "nvidia.com/gpu.replicas"), "1");
    assert_string_equal(value_of(&f, "nvidia.com/gpu.sharing-strategy"), "none");
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 2)->rename = "nvidia.com/half";
    fixture_select(&f, "0");
    assert_string_equal(value_of(&f, "nvidia.com/gpu.product"), "Tesla-T4"); /* renamed */
    assert_string_equal(value_of(&f, "nvidia.com/gpu.replicas"), "2");
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/mig-1g.10gb", 3);
    fixture_select(&f, "2:0");
    assert_string_equal(value_of(&f, "nvidia.com/mig-1g.10gb.replicas"), "3");
    assert_string_equal(value_of(&f, "nvidia.com/mig-1g.10gb.count"), "2");
}

static void selectors_that_match_nothing_are_errors_here_too(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4");
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 4);
    fixture_select(&f, "3");
    assert_string_equal(labels_of(&f, NO_TIMESTAMP),
                        "error creating labeler: error creating sharing labeler: unable to get IDs "
                        "of devices to replicate for 'nvidia.com/gpu' resource: no matching device "
                        "at index: 3");
}

static void mps_on_selected_gpus_leaves_mig_on_others_alone(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 h100:2x1g.10gb");
    fixture_share(&f, SHARING_MPS, "nvidia.com/gpu", 2);
    fixture_select(&f, "0");
    assert_string_equal(value_of(&f, "nvidia.com/mps.capable"), "true");
    assert_string_equal(value_of(&f, "nvidia.com/gpu.sharing-strategy"), "mps");
    fixture_select(&f, "0 1"); /* strategy none: GPU 1 itself, with MIG on */
    assert_non_null(strstr(labels_of(&f, NO_TIMESTAMP), "MPS sharing is not supported"));
}

/* Upstream's second step overrides its first: whole GPUs speak before those with MIG. */
static void whole_gpus_speak_before_those_with_mig(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "h100:7x1g.10gb t4 a10 t4");
    assert_string_equal(value_of(&f, "nvidia.com/gpu.product"), "Tesla-T4");
    assert_string_equal(value_of(&f, "nvidia.com/gpu.count"), "2");
    assert_string_equal(value_of(&f, "nvidia.com/mig.capable"), "true");
}

static void what_is_odd_is_warned_about(void **state)
{
    static const struct {
        const char *layout;
        enum mig_strategy strategy;
        const char *warning;
    } cases[] = {
        { "t4 h100 t4", MIG_STRATEGY_NONE,
          "Multiple device types detected: [Tesla T4 NVIDIA H100 80GB HBM3]" },
        { "h100: h100", MIG_STRATEGY_SINGLE,
          "Invalid configuration detected for mig-strategy=single: at least one MIG device is "
          "enabled but empty" },
        { "h100:1x1g.10gb h100", MIG_STRATEGY_SINGLE,
          "Invalid configuration detected for mig-strategy=single: devices with MIG enabled and "
          "disable detected" },
        { "h100:1x1g.10gb,1x3g.40gb", MIG_STRATEGY_SINGLE,
          "Invalid configuration detected for mig-strategy=single: more than one MIG device type "
          "present on node" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(fixture_done) struct fixture f = {};
        struct label_set *set;
        fixture_init(&f, cases[i].layout);
        f.config.mig_strategy = cases[i].strategy;
        assert_int_equal(label_build(f.inventory, &f.config, NO_TIMESTAMP, &f.arena, &set, NULL),
                         0);
        assert_int_equal(set->n_warnings, 1);
        assert_string_equal(set->warnings[0], cases[i].warning);
    }
}

static void what_the_driver_did_not_tell_is_not_labelled(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4");
    f.inventory->cuda_version.known = false;
    f.inventory->gpus[0].memory_bytes.known = false;
    f.inventory->gpus[0].cc_major = 0;
    f.inventory->gpus[0].pci_class.known = false;
    assert_null(value_of(&f, "nvidia.com/cuda.runtime.major"));
    assert_null(value_of(&f, "nvidia.com/gpu.memory"));
    assert_null(value_of(&f, "nvidia.com/gpu.family"));
    assert_null(value_of(&f, "nvidia.com/gpu.compute.major"));
    assert_string_equal(value_of(&f, "nvidia.com/gpu.mode"), "unknown");
}

static void tegras_driver_version_is_unknown(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4");
    f.inventory->platform = PLATFORM_TEGRA;
    f.inventory->driver_version = NULL;
    assert_string_equal(value_of(&f, "nvidia.com/cuda.driver-version.full"),
                        "unknown.unknown.unknown");
    assert_string_equal(value_of(&f, "nvidia.com/cuda.driver.rev"), "unknown");
}

static void a_lost_gpu_does_not_make_the_node_invalid(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "h100: h100:2x1g.10gb");
    f.config.mig_strategy = MIG_STRATEGY_SINGLE;
    f.inventory->gpus[0].healthy = false;
    assert_string_equal(value_of(&f, "nvidia.com/gpu.product"),
                        "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb");
    assert_string_equal(value_of(&f, "nvidia.com/gpu.count"), "2");
}

static void kinds_of_mig_devices_differ_by_any_attribute(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "h100:2x1g.10gb"); /* D19: one name, two kinds */
    f.config.mig_strategy = MIG_STRATEGY_SINGLE;
    f.inventory->gpus[0].mig_devices[1].attributes.multiprocessors++;
    assert_string_equal(value_of(&f, "nvidia.com/gpu.product"),
                        "NVIDIA-H100-80GB-HBM3-MIG-INVALID");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(example_a_single_with_seven_slices),
        cmocka_unit_test(example_b_mixed_with_three_profiles),
        cmocka_unit_test(example_c_a_t4_shared_four_times),
        cmocka_unit_test(the_labels_of_a_node_are_upstreams),
        cmocka_unit_test(a_mig_resource_that_is_shared_says_so),
        cmocka_unit_test(no_timestamp_means_none),
        cmocka_unit_test(values_are_cleaned_up),
        cmocka_unit_test(lack_of_memory_is_always_said),
        cmocka_unit_test(a_product_too_long_for_a_label_loses_the_end_of_the_model),
        cmocka_unit_test(replicas_and_name_follow_the_entry_that_selects_the_device),
        cmocka_unit_test(selectors_that_match_nothing_are_errors_here_too),
        cmocka_unit_test(mps_on_selected_gpus_leaves_mig_on_others_alone),
        cmocka_unit_test(whole_gpus_speak_before_those_with_mig),
        cmocka_unit_test(what_is_odd_is_warned_about),
        cmocka_unit_test(what_the_driver_did_not_tell_is_not_labelled),
        cmocka_unit_test(tegras_driver_version_is_unknown),
        cmocka_unit_test(a_lost_gpu_does_not_make_the_node_invalid),
        cmocka_unit_test(kinds_of_mig_devices_differ_by_any_attribute),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
