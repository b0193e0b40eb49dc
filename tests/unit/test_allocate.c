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
#include "share/allocate.h"

/*
 * The test vectors 33 to 49 of spec/device-plugin §10.3 are rows of the table; a row's number is in
 * its name. (50, about the start, is in test_resource.c.) GPU-a and GPU-b are GPU-0 and GPU-1 here.
 */

#define UUID4 "0b4a6e2c-7a5e-4f0e-9c1d-2f6b8f3d1a77"

/* An answer as text, one thing a line, so that a row can say all of it. */
static const char *text_of(struct fixture *f, const struct allocation *a)
{
    auto_(buf_done) struct buf text = BUF_MAX(MIB(16));

    for (size_t i = 0; i < a->n_envs; i++)
        buf_printf(&text, "env %s=%s\n", a->envs[i].name, a->envs[i].value);
    for (size_t i = 0; i < a->n_annotations; i++)
        buf_printf(&text, "annotation %s=%s\n", a->annotations[i].name, a->annotations[i].value);
    for (size_t i = 0; i < a->n_cdi_devices; i++)
        buf_printf(&text, "cdi %s\n", a->cdi_devices[i]);
    for (size_t i = 0; i < a->n_mounts; i++)
        buf_printf(&text, "mount %s at %s%s\n", a->mounts[i].host_path, a->mounts[i].container_path,
                   a->mounts[i].read_only ? " (ro)" : "");
    for (size_t i = 0; i < a->n_devices; i++)
        buf_printf(&text, "node %s at %s %s\n", a->devices[i].host_path,
                   a->devices[i].container_path, a->devices[i].permissions);
    return arena_strdup(&f->arena, buf_text(&text));
}

/* The answer of the node's first resource, or the error's sentence. */
static const char *ask(struct fixture *f, const char *ids)
{
    struct allocation *allocation;
    size_t n_ids;
    const char **items = fixture_words(f, ids, &n_ids);

    fixture_resources(f);
    int r = allocate(&f->set->resources[0], f->inventory, &f->config, items, n_ids, UUID4,
                     &f->arena, &allocation, &f->err);
    if (r < 0) {
        assert_int_equal(r, -EINVAL);
        return f->err.text;
    }
    return text_of(f, allocation);
}

/* What a row changes; applied in this order of bits. */
enum {
    SLICED = 1 << 0,   /* time-slicing, four replicas */
    MPS = 1 << 1,      /* the same through MPS */
    RENAMED = 1 << 2,  /* … under nvidia.com/gpu.shared */
    ONLY_ONE = 1 << 3, /* failRequestsGreaterThanOne */
    BY_INDEX = 1 << 4,
    NODES = 1 << 5, /* passDeviceSpecs */
    IMEX = 1 << 6,
    GDRCOPY = 1 << 7,
    GDS = 1 << 8,
    MOFED = 1 << 9,
    DRIVER_CONTAINER = 1 << 10, /* nvidiaDevRoot=/run/nvidia/driver, no modeset node */
    CUT = 1 << 11,              /* migStrategy single */
};

static void set_up(struct fixture *f, const char *layout, unsigned lists, unsigned how)
{
    fixture_init(f, layout);
    if (lists)
        f->config.device_list = lists;
    if (how & (SLICED | MPS))
        fixture_share(f, how & MPS ? SHARING_MPS : SHARING_TIME_SLICING, "nvidia.com/gpu", 4)
            ->rename = how & RENAMED ? "nvidia.com/gpu.shared" : NULL;
    f->config.sharing.fail_requests_greater_than_one = how & ONLY_ONE;
    f->config.device_id = how & BY_INDEX ? DEVICE_ID_INDEX : DEVICE_ID_UUID;
    f->config.pass_device_specs = how & NODES;
    f->config.imex_channel0 = f->inventory->imex_channel0 = how & IMEX;
    f->config.gdrcopy_enabled = f->inventory->gdrcopy_nodes = how & GDRCOPY;
    f->config.gds_enabled = f->inventory->gds_nodes = how & GDS;
    f->config.mofed_enabled = f->inventory->mofed_nodes = how & MOFED;
    if (how & DRIVER_CONTAINER) {
        f->config.dev_root = "/run/nvidia/driver";
        f->inventory->n_control_nodes = 3;
    }
    if (how & CUT)
        f->config.mig_strategy = MIG_STRATEGY_SINGLE;
}

#define CDI     "k8s.device-plugin.nvidia.com/"
#define VISIBLE "env NVIDIA_VISIBLE_DEVICES="
#define MOUNTED "/var/run/nvidia-container-devices"
#define TOO_MANY                                                                                   \
    "invalid allocation request for \"nvidia.com/gpu\": invalid request: maximum request size "    \
    "for shared resources is 1; found 2"
#define UNKNOWN                                                                                    \
    "invalid allocation request for \"nvidia.com/gpu\": invalid request: unknown device: "
#define CONTROL                                                                                    \
    "node /dev/nvidiactl at /dev/nvidiactl rw\n"                                                   \
    "node /dev/nvidia-uvm at /dev/nvidia-uvm rw\n"                                                 \
    "node /dev/nvidia-uvm-tools at /dev/nvidia-uvm-tools rw\n"                                     \
    "node /dev/nvidia-modeset at /dev/nvidia-modeset rw\n"
#define CHANNEL "/dev/nvidia-caps-imex-channels/channel0"

static const struct {
    const char *what, *layout;
    unsigned lists, how;
    const char *ids, *wanted;
} cases[] = {
    { "33: one GPU", "t4 t4", 0, 0, "GPU-0", VISIBLE "GPU-0\n" },
    { "34: in the order of the request", "t4 t4", 0, 0, "GPU-1 GPU-0", VISIBLE "GPU-1,GPU-0\n" },
    { "35: two replicas of a GPU are one GPU", "t4 t4", 0, SLICED, "GPU-0::3 GPU-0::1",
      VISIBLE "GPU-0\n" },
    { "36: more than one shared device", "t4 t4", 0, SLICED | ONLY_ONE, "GPU-0::0 GPU-1::0",
      TOO_MANY },
    { "36: two replicas of one device", "t4 t4", 0, SLICED | ONLY_ONE, "GPU-0::0 GPU-0::1",
      TOO_MANY },
    { "36: one shared device", "t4 t4", 0, SLICED | ONLY_ONE, "GPU-1::0", VISIBLE "GPU-1\n" },
    { "37: more than one through MPS", "t4 t4", 0, MPS | ONLY_ONE, "GPU-0::0 GPU-1::0", TOO_MANY },
    { "37: explicitly allowed", "t4 t4", 0, MPS, "GPU-0::0 GPU-1::0",
      "env CUDA_MPS_PIPE_DIRECTORY=/mps/nvidia.com/gpu/pipe\n" VISIBLE "GPU-0,GPU-1\n"
      "mount /run/nvidia/mps/nvidia.com/gpu/pipe at /mps/nvidia.com/gpu/pipe\n"
      "mount /run/nvidia/mps/shm at /dev/shm\n" },
    { "whole GPUs may be more than one", "t4 t4", 0, ONLY_ONE, "GPU-0 GPU-1",
      VISIBLE "GPU-0,GPU-1\n" },
    { "38: an unknown device", "t4 t4", 0, 0, "GPU-0 GPU-zzz", UNKNOWN "GPU-zzz" },
    { "a replica that is not there", "t4 t4", 0, SLICED, "GPU-0::4", UNKNOWN "GPU-0::4" },
    { "a physical device that is shared", "t4 t4", 0, SLICED, "GPU-0", UNKNOWN "GPU-0" },
    { "an unknown device is complained about first", "t4 t4", 0, SLICED | ONLY_ONE,
      "GPU-0::0 GPU-1::9", UNKNOWN "GPU-1::9" },
    { "39: a MIG device by index", "h100:2x1g.10gb", 0, CUT | BY_INDEX, "MIG-0-1",
      VISIBLE "0:1\n" },
    { "GPUs by index", "t4 t4 t4", 0, SLICED | BY_INDEX, "GPU-2::0 GPU-0::0 GPU-2::1",
      VISIBLE "2,0\n" },
    { "40: volume mounts", "t4 t4", LIST_VOLUME_MOUNTS, 0, "GPU-0",
      VISIBLE MOUNTED "\nmount /dev/null at " MOUNTED "/GPU-0\n" },
    { "volume mounts with a channel", "t4 t4", LIST_VOLUME_MOUNTS, IMEX, "GPU-1 GPU-0",
      VISIBLE MOUNTED "\nmount /dev/null at " MOUNTED "/GPU-1\nmount /dev/null at " MOUNTED
                      "/GPU-0\nmount /dev/null at " MOUNTED "/imex/0\n" },
    { "41: volume mounts win over the variable", "t4 t4", LIST_ENVVAR | LIST_VOLUME_MOUNTS, 0,
      "GPU-0", VISIBLE MOUNTED "\nmount /dev/null at " MOUNTED "/GPU-0\n" },
    { "both with a channel", "t4", LIST_ENVVAR | LIST_VOLUME_MOUNTS, IMEX, "GPU-0",
      "env NVIDIA_IMEX_CHANNELS=0\n" VISIBLE MOUNTED "\nmount /dev/null at " MOUNTED
      "/GPU-0\nmount /dev/null at " MOUNTED "/imex/0\n" },
    { "42: CDI annotations", "t4 t4", LIST_CDI_ANNOTATIONS, 0, "GPU-0 GPU-1",
      "annotation cdi.k8s.io/nvidia-device-plugin_" UUID4 "=" CDI "gpu=GPU-0," CDI "gpu=GPU-1\n" },
    { "44: CDI with everything", "t4 t4", LIST_CDI_CRI, GDS | MOFED | IMEX, "GPU-0",
      "env NVIDIA_GDS=enabled\nenv NVIDIA_MOFED=enabled\ncdi " CDI "gpu=GPU-0\ncdi " CDI
      "imex-channel=0\ncdi " CDI "gds=all\ncdi " CDI "mofed=all\n" },
    { "gdrcopy comes before gds", "t4", LIST_CDI_CRI, GDS | GDRCOPY, "GPU-0",
      "env NVIDIA_GDRCOPY=enabled\nenv NVIDIA_GDS=enabled\ncdi " CDI "gpu=GPU-0\ncdi " CDI
      "gdrcopy=all\ncdi " CDI "gds=all\n" },
    { "45: CDI and the variable", "t4 t4", LIST_ENVVAR | LIST_CDI_CRI, 0, "GPU-0",
      VISIBLE "GPU-0\ncdi " CDI "gpu=GPU-0\n" },
    { "both kinds of CDI", "t4", LIST_CDI_ANNOTATIONS | LIST_CDI_CRI, 0, "GPU-0",
      "annotation cdi.k8s.io/nvidia-device-plugin_" UUID4 "=" CDI "gpu=GPU-0\ncdi " CDI
      "gpu=GPU-0\n" },
    { "CDI by index", "h100:2x1g.10gb", LIST_CDI_CRI, CUT | BY_INDEX, "MIG-0-1",
      "cdi " CDI "gpu=0:1\n" },
    { "CDI names the GPU where MIG is not looked at", "h100:2x1g.10gb", LIST_CDI_CRI, 0, /* D11 */
      "GPU-0", "cdi " CDI "gpu=GPU-0\n" },
    { "CDI alone passes no nodes", "t4", LIST_CDI_CRI, NODES, "GPU-0", "cdi " CDI "gpu=GPU-0\n" },
    { "CDI with MPS", "t4", LIST_CDI_CRI, MPS, "GPU-0::0",
      "env CUDA_MPS_PIPE_DIRECTORY=/mps/nvidia.com/gpu/pipe\ncdi " CDI "gpu=GPU-0\n"
      "mount /run/nvidia/mps/nvidia.com/gpu/pipe at /mps/nvidia.com/gpu/pipe\n"
      "mount /run/nvidia/mps/shm at /dev/shm\n" },
    { "46: nodes below another root", "t4 t4", 0, NODES | DRIVER_CONTAINER, "GPU-0",
      VISIBLE "GPU-0\n"
              "node /run/nvidia/driver/dev/nvidiactl at /dev/nvidiactl rw\n"
              "node /run/nvidia/driver/dev/nvidia-uvm at /dev/nvidia-uvm rw\n"
              "node /run/nvidia/driver/dev/nvidia-uvm-tools at /dev/nvidia-uvm-tools rw\n"
              "node /run/nvidia/driver/dev/nvidia0 at /dev/nvidia0 rw\n" },
    { "nodes with a channel", "t4", 0, NODES | IMEX, "GPU-0",
      "env NVIDIA_IMEX_CHANNELS=0\n" VISIBLE "GPU-0\n" CONTROL
      "node /dev/nvidia0 at /dev/nvidia0 rw\nnode " CHANNEL " at " CHANNEL " rw\n" },
    { "a node is passed once", "t4 t4", 0, NODES | SLICED, "GPU-1::0 GPU-0::1 GPU-1::1", /* D12 */
      VISIBLE "GPU-1,GPU-0\n" CONTROL
              "node /dev/nvidia1 at /dev/nvidia1 rw\nnode /dev/nvidia0 at /dev/nvidia0 rw\n" },
    { "MIG devices share their GPU's node", "h100:2x1g.10gb", 0, NODES | CUT, "MIG-0-1 MIG-0-0",
      VISIBLE "MIG-0-1,MIG-0-0\n" CONTROL "node /dev/nvidia0 at /dev/nvidia0 rw\n"
              "node /dev/nvidia-caps/nvidia-cap102 at /dev/nvidia-caps/nvidia-cap102 rw\n"
              "node /dev/nvidia-caps/nvidia-cap103 at /dev/nvidia-caps/nvidia-cap103 rw\n"
              "node /dev/nvidia-caps/nvidia-cap100 at /dev/nvidia-caps/nvidia-cap100 rw\n"
              "node /dev/nvidia-caps/nvidia-cap101 at /dev/nvidia-caps/nvidia-cap101 rw\n" },
    { "47: MPS", "t4 t4", 0, MPS, "GPU-0::0",
      "env CUDA_MPS_PIPE_DIRECTORY=/mps/nvidia.com/gpu/pipe\n" VISIBLE "GPU-0\n"
      "mount /run/nvidia/mps/nvidia.com/gpu/pipe at /mps/nvidia.com/gpu/pipe\n"
      "mount /run/nvidia/mps/shm at /dev/shm\n" },
    { "48: MPS under another name", "t4 t4", 0, MPS | RENAMED, "GPU-0::0",
      "env CUDA_MPS_PIPE_DIRECTORY=/mps/nvidia.com/gpu.shared/pipe\n" VISIBLE "GPU-0\n"
      "mount /run/nvidia/mps/nvidia.com/gpu.shared/pipe at /mps/nvidia.com/gpu.shared/pipe\n"
      "mount /run/nvidia/mps/shm at /dev/shm\n" },
    { "MPS with volume mounts", "t4", LIST_VOLUME_MOUNTS, MPS, "GPU-0::0",
      "env CUDA_MPS_PIPE_DIRECTORY=/mps/nvidia.com/gpu/pipe\n" VISIBLE MOUNTED "\n"
      "mount /run/nvidia/mps/nvidia.com/gpu/pipe at /mps/nvidia.com/gpu/pipe\n"
      "mount /run/nvidia/mps/shm at /dev/shm\nmount /dev/null at " MOUNTED "/GPU-0\n" },
    { "49: an IMEX channel", "t4 t4", 0, IMEX, "GPU-0",
      "env NVIDIA_IMEX_CHANNELS=0\n" VISIBLE "GPU-0\n" },
    { "all extras", "t4", 0, GDRCOPY | GDS | MOFED, "GPU-0",
      "env NVIDIA_GDRCOPY=enabled\nenv NVIDIA_GDS=enabled\nenv NVIDIA_MOFED=enabled\n" VISIBLE
      "GPU-0\n" },
    { "nothing was asked for", "t4", 0, 0, "", VISIBLE "\n" },
    { "nothing was asked for, with CDI", "t4", LIST_CDI_ANNOTATIONS | LIST_CDI_CRI, 0, "", "" },
};

static void the_container_gets_what_upstream_gives_it(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(fixture_done) struct fixture f = {};
        set_up(&f, cases[i].layout, cases[i].lists, cases[i].how);
        const char *answer = ask(&f, cases[i].ids);
        if (!text_equal(answer, cases[i].wanted))
            fail_msg("%s:\n%s\nnot\n%s", cases[i].what, answer, cases[i].wanted);
    }
}

static void another_annotation_prefix_stands_before_the_same_key(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    set_up(&f, "t4", LIST_CDI_ANNOTATIONS, 0); /* 43 */
    f.config.cdi_annotation_prefix = "custom.cdi.k8s.io/";
    assert_string_equal(ask(&f, "GPU-0"), "annotation custom.cdi.k8s.io/nvidia-device-plugin_" UUID4
                                          "=" CDI "gpu=GPU-0\n");
}

static void what_is_enabled_but_not_there_has_no_cdi_name(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    set_up(&f, "t4", LIST_CDI_CRI, GDRCOPY | GDS | MOFED | IMEX);
    f.inventory->gdrcopy_nodes = f.inventory->gds_nodes = f.inventory->mofed_nodes = false;
    f.inventory->imex_channel0 = false;
    assert_string_equal(ask(&f, "GPU-0"), "env NVIDIA_GDRCOPY=enabled\nenv NVIDIA_GDS=enabled\n"
                                          "env NVIDIA_MOFED=enabled\ncdi " CDI "gpu=GPU-0\n");
}

static void a_channel_that_nobody_asked_for_stays_out(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    set_up(&f, "t4", LIST_ENVVAR | LIST_CDI_CRI, NODES);
    f.inventory->imex_channel0 = true;
    assert_null(strstr(ask(&f, "GPU-0"), "imex"));
}

static void host_paths_are_joined_as_go_joins_them(void **state)
{
    static const char *const roots[][2] = {
        { "/", "/dev/nvidia0" },
        { "", "/dev/nvidia0" },
        { "/run/nvidia/driver/", "/run/nvidia/driver/dev/nvidia0" },
        { "//run//nvidia/./driver", "/run/nvidia/driver/dev/nvidia0" },
        { "/run/nvidia/../driver", "/run/driver/dev/nvidia0" },
        { "/../..", "/dev/nvidia0" },
    };

    for (size_t i = 0; i < ARRAY_LEN(roots); i++) {
        auto_(fixture_done) struct fixture f = {};
        char wanted[200];
        set_up(&f, "t4", 0, NODES);
        f.inventory->n_control_nodes = 0;
        f.config.dev_root = roots[i][0];
        snprintf(wanted, sizeof(wanted), VISIBLE "GPU-0\nnode %s at /dev/nvidia0 rw\n",
                 roots[i][1]);
        assert_string_equal(ask(&f, "GPU-0"), wanted);
    }
}

static void compute_instances_share_their_gpu_instances_node(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    set_up(&f, "h100:2x1c.3g.40gb", 0, NODES | CUT);
    f.inventory->n_control_nodes = 0;
    f.inventory->gpus[0].mig_devices[1].gi_cap_path =
        f.inventory->gpus[0].mig_devices[0].gi_cap_path;
    assert_string_equal(
        ask(&f, "MIG-0-0 MIG-0-1"),
        VISIBLE "MIG-0-0,MIG-0-1\nnode /dev/nvidia0 at /dev/nvidia0 rw\n"
                "node /dev/nvidia-caps/nvidia-cap100 at /dev/nvidia-caps/nvidia-cap100 rw\n"
                "node /dev/nvidia-caps/nvidia-cap101 at /dev/nvidia-caps/nvidia-cap101 rw\n"
                "node /dev/nvidia-caps/nvidia-cap103 at /dev/nvidia-caps/nvidia-cap103 rw\n");
}

static void the_unshared_rest_stays_clear_of_mps(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 t4");
    fixture_share(&f, SHARING_MPS, "nvidia.com/gpu", 2);
    fixture_select(&f, "0");
    assert_string_equal(ask(&f, "GPU-1"), VISIBLE "GPU-1\n");
    assert_non_null(strstr(ask(&f, "GPU-0::1"), "CUDA_MPS_PIPE_DIRECTORY"));
}

static void an_unhealthy_device_is_handed_out(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4"); /* the kubelet decided before it knew */
    f.inventory->gpus[0].healthy = false;
    assert_string_equal(ask(&f, "GPU-0"), VISIBLE "GPU-0\n");
}

static void other_platforms_pass_what_they_have(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    set_up(&f, "t4", 0, NODES);
    f.inventory->platform = PLATFORM_WSL;
    assert_string_equal(ask(&f, "all"), VISIBLE "all\nnode /dev/dxg at /dev/dxg rw\n");
    f.inventory->platform = PLATFORM_TEGRA;
    assert_string_equal(ask(&f, "tegra"), VISIBLE "tegra\n");
    f.config.device_id = DEVICE_ID_INDEX;
    assert_string_equal(ask(&f, "tegra"), VISIBLE "0\n");
}

static void a_hundred_thousand_replicas_can_be_asked_for_at_once(void **state)
{
    auto_(fixture_done) struct fixture f = {};
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(64));
    struct allocation *allocation;

    fixture_init(&f, "t4 t4");
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 50000);
    fixture_resources(&f);
    const struct resource *resource = &f.set->resources[0];
    const char **ids = arena_new_array(&arena, const char *, resource->n_devices);
    assert_non_null(ids);
    for (size_t i = 0; i < resource->n_devices; i++)
        ids[i] = resource->devices[i].id;
    assert_int_equal(allocate(resource, f.inventory, &f.config, ids, resource->n_devices, UUID4,
                              &arena, &allocation, &f.err),
                     0);
    assert_string_equal(text_of(&f, allocation), VISIBLE "GPU-0,GPU-1\n");
}

static void lack_of_memory_is_always_said(void **state)
{
    static const unsigned lists[] = { LIST_ENVVAR, LIST_VOLUME_MOUNTS,
                                      LIST_CDI_ANNOTATIONS | LIST_CDI_CRI };

    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        int r = -ENOMEM;
        for (unsigned long n = 1; r == -ENOMEM; n++) {
            auto_(fixture_done) struct fixture f = {};
            auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
            struct allocation *allocation = NULL;
            const char *ids[] = { "GPU-0::1", "GPU-2::0", "GPU-1::3" };
            struct err err = {};

            set_up(&f, "t4 t4 t4", lists[i], MPS | NODES | IMEX | GDRCOPY | GDS | MOFED);
            fixture_resources(&f);
            mem_fail_from(n);
            r = allocate(&f.set->resources[0], f.inventory, &f.config, ids, ARRAY_LEN(ids), UUID4,
                         &arena, &allocation, &err);
            mem_fail_from(0);
            assert_true(r == 0 || r == -ENOMEM);
            assert_int_equal(allocation != NULL, r == 0);
            assert_int_equal(err.code, -r);
            assert_true(n < 10000);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_container_gets_what_upstream_gives_it),
        cmocka_unit_test(another_annotation_prefix_stands_before_the_same_key),
        cmocka_unit_test(what_is_enabled_but_not_there_has_no_cdi_name),
        cmocka_unit_test(a_channel_that_nobody_asked_for_stays_out),
        cmocka_unit_test(host_paths_are_joined_as_go_joins_them),
        cmocka_unit_test(compute_instances_share_their_gpu_instances_node),
        cmocka_unit_test(the_unshared_rest_stays_clear_of_mps),
        cmocka_unit_test(an_unhealthy_device_is_handed_out),
        cmocka_unit_test(other_platforms_pass_what_they_have),
        cmocka_unit_test(a_hundred_thousand_replicas_can_be_asked_for_at_once),
        cmocka_unit_test(lack_of_memory_is_always_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
