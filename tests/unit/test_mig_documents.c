#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "mig_boards.h"
#include "share/mig_config.h"
#include "share/mig_config_write.h"
#include "share/mig_documents.h"

static void assert_text(const struct buf *got, const char *want, const char *word)
{
    if (!text_equal(buf_text(got), want))
        fail_msg("%s\n--- wanted\n%s|\n--- got\n%s|", word, want, buf_text(got));
}

/* ---- export ---- */

static void seven(struct mig_gpu *gpu, const char *profile)
{
    for (uint32_t i = 0; i < 7; i++)
        board_put(gpu, profile, i);
}

static void make_nothing(struct mig_node *node)
{
    (void)node;
}

static void make_h100(struct mig_node *node)
{
    seven(&node->gpus[0], "1g.10gb");
}

/* T29 */
static void make_halves(struct mig_node *node)
{
    seven(&node->gpus[0], "1g.5gb");
    seven(&node->gpus[1], "1g.5gb");
}

/* As halves, but in the number of instances; and kinds in another order than their ids. */
static void make_uneven(struct mig_node *node)
{
    board_put(&node->gpus[0], "1g.10gb", 0);
    board_put(&node->gpus[1], "1g.10gb", 0);
    board_put(&node->gpus[1], "1g.10gb", 2);
}

static void make_mixture(struct mig_node *node)
{
    seven(&node->gpus[0], "1g.5gb");
    node->gpus[2].enabled = true;
}

static void make_a30(struct mig_node *node)
{
    struct mig_gpu_instance *gi = board_put_empty(&node->gpus[0], "2g.12gb", 0);

    board_cut(gi, 0, 0);
    board_cut(gi, 0, 1);
    board_put(&node->gpus[0], "1g.6gb+me", 2);
    board_put_empty(&node->gpus[0], "1g.6gb", 3); /* no device, so not in an export */
}

static void make_graphics(struct mig_node *node)
{
    board_put(&node->gpus[0], "1g.24gb+gfx", 0);
    board_put(&node->gpus[0], "1g.24gb+gfx", 3);
    board_put(&node->gpus[0], "1g.24gb-me", 6);
}

static void make_unread(struct mig_node *node)
{
    node->gpus[1].problem = "GPU is lost";
}

static void make_unknown(struct mig_node *node)
{
    make_unread(node);
    node->gpus[1].pci_device_id = 0;
}

/* Bytes as nvidia-mig-parted v0.15 printed them on the same simulated nodes. */
static void an_export_is_upstreams_byte_for_byte(void **state)
{
    static const struct {
        const char *word, *gpus;
        void (*make)(struct mig_node *node);
        enum mig_document_format format;
        const char *want;
    } cases[] = {
        { "T28", "1xh100-80gb", make_h100, MIG_YAML,
          "version: v1\nmig-configs:\n  current:\n  - devices: all\n    mig-enabled: true\n"
          "    mig-devices:\n      1g.10gb: 7\n" },
        { "T29", "4xa100-40gb", make_halves, MIG_YAML,
          "version: v1\nmig-configs:\n  current:\n  - devices: [0, 1]\n    mig-enabled: true\n"
          "    mig-devices:\n      1g.5gb: 7\n  - devices: [2, 3]\n    mig-enabled: false\n"
          "    mig-devices: {}\n" },
        { "kinds and filters", "1xa100-40gb,1xt4,1xh100-80gb,1xa100-40gb", make_mixture, MIG_YAML,
          "version: v1\nmig-configs:\n  current:\n  - device-filter: \"0x20B010DE\"\n"
          "    devices: [0]\n    mig-enabled: true\n    mig-devices:\n      1g.5gb: 7\n"
          "  - device-filter: [\"0x1EB810DE\", \"0x20B010DE\"]\n    devices: [1, 3]\n"
          "    mig-enabled: false\n    mig-devices: {}\n  - device-filter: \"0x233010DE\"\n"
          "    devices: all\n    mig-enabled: true\n    mig-devices: {}\n" },
        { "the same in JSON", "1xa100-40gb,1xt4,1xh100-80gb,1xa100-40gb", make_mixture, MIG_JSON,
          "{\n  \"version\": \"v1\",\n  \"mig-configs\": {\n    \"current\": [\n      {\n"
          "        \"device-filter\": \"0x20B010DE\",\n        \"devices\": [\n          0\n"
          "        ],\n        \"mig-enabled\": true,\n        \"mig-devices\": {\n"
          "          \"1g.5gb\": 7\n        }\n      },\n      {\n        \"device-filter\": [\n"
          "          \"0x1EB810DE\",\n          \"0x20B010DE\"\n        ],\n"
          "        \"devices\": [\n          1,\n          3\n        ],\n"
          "        \"mig-enabled\": false,\n        \"mig-devices\": {}\n      },\n      {\n"
          "        \"device-filter\": \"0x233010DE\",\n        \"devices\": \"all\",\n"
          "        \"mig-enabled\": true,\n        \"mig-devices\": {}\n      }\n    ]\n  }\n}" },
        { "numbers count", "1xh100-80gb,1xa100-40gb,1xh100-80gb,1xt4", make_uneven, MIG_YAML,
          "version: v1\nmig-configs:\n  current:\n  - device-filter: \"0x233010DE\"\n"
          "    devices: [0]\n    mig-enabled: true\n    mig-devices:\n      1g.10gb: 1\n"
          "  - device-filter: \"0x20B010DE\"\n    devices: all\n    mig-enabled: true\n"
          "    mig-devices:\n      1g.10gb: 2\n"
          "  - device-filter: [\"0x1EB810DE\", \"0x233010DE\"]\n    devices: [2, 3]\n"
          "    mig-enabled: false\n    mig-devices: {}\n" },
        { "compute instances", "1xa30,1xt4", make_a30, MIG_YAML,
          "version: v1\nmig-configs:\n  current:\n  - device-filter: \"0x20B710DE\"\n"
          "    devices: all\n    mig-enabled: true\n    mig-devices:\n      1c.2g.12gb: 2\n"
          "      1g.6gb+me: 1\n  - device-filter: \"0x1EB810DE\"\n    devices: all\n"
          "    mig-enabled: false\n    mig-devices: {}\n" },
        { "attributes", "1xrtx-pro-6000", make_graphics, MIG_YAML,
          "version: v1\nmig-configs:\n  current:\n  - devices: all\n    mig-enabled: true\n"
          "    mig-devices:\n      1g.24gb+gfx: 2\n      1g.24gb-me: 1\n" },
        { "equal though of two kinds", "1xa100-40gb,1xh100-80gb", make_nothing, MIG_YAML,
          "version: v1\nmig-configs:\n  current:\n  - devices: all\n    mig-enabled: false\n"
          "    mig-devices: {}\n" },
        { "no GPUs", "", make_nothing, MIG_YAML, "version: v1\nmig-configs:\n  current: []\n" },
        { "no GPUs", "", make_nothing, MIG_JSON,
          "{\n  \"version\": \"v1\",\n  \"mig-configs\": {\n    \"current\": []\n  }\n}" },
        { "a GPU that nobody knows is not included", "2xh100-80gb", make_unread, MIG_YAML,
          "version: v1\nmig-configs:\n  current:\n  - devices: [0]\n    mig-enabled: false\n"
          "    mig-devices: {}\n" },
        { "nor is one of an unknown kind", "3xh100-80gb", make_unknown, MIG_YAML,
          "version: v1\nmig-configs:\n  current:\n  - device-filter: \"0x233010DE\"\n"
          "    devices: [0, 2]\n    mig-enabled: false\n    mig-devices: {}\n" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
        auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
        struct mig_node *node = boards(&arena, cases[i].gpus);
        cases[i].make(node);
        assert_int_equal(mig_export_write(node, "current", cases[i].format, &out, NULL), 0);
        assert_text(&out, cases[i].want, cases[i].word);
    }
}

static void a_label_is_quoted_where_yaml_would_read_it_as_something_else(void **state)
{
    static const struct {
        const char *label, *yaml, *json;
    } cases[] = {
        { "current", "current", "current" },
        { "all-1g.10gb.me", "all-1g.10gb.me", "all-1g.10gb.me" },
        { "yes", "\"yes\"", "yes" },
        { "N", "\"N\"", "N" },
        { "1", "\"1\"", "1" },
        { "010", "\"010\"", "010" },
        { "1:30", "\"1:30\"", "1:30" },
        { "2001-01-01", "\"2001-01-01\"", "2001-01-01" },
        { "12e3", "\"12e3\"", "12e3" },
        { "", "\"\"", "" },
        { "null", "\"null\"", "null" },
        { "123abc", "123abc", "123abc" },
        { "a b", "a b", "a b" },
        { "a: b", "'a: b'", "a: b" },
        { "a:", "'a:'", "a:" },
        { "- a", "'- a'", "- a" },
        { "-", "'-'", "-" },
        { "-x", "-x", "-x" },
        { "#x", "'#x'", "#x" },
        { "a #b", "'a #b'", "a #b" },
        { "'q'", "'''q'''", "'q'" },
        { "\"q\"", "'\"q\"'", "\\\"q\\\"" },
        { "{a}", "'{a}'", "{a}" },
        { "*a", "'*a'", "*a" },
        { " a", "' a'", " a" },
        { "---", "'---'", "---" },
        { "x\ty", "\"x\\ty\"", "x\\ty" },
        { "a&b<c>", "a&b<c>", "a\\u0026b\\u003cc\\u003e" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
        auto_(buf_done) struct buf out = BUF_MAX(MIB(1)), want = BUF_MAX(MIB(1));
        struct mig_node *node = boards(&arena, "");
        assert_int_equal(mig_export_write(node, cases[i].label, MIG_YAML, &out, NULL), 0);
        buf_printf(&want, "version: v1\nmig-configs:\n  %s: []\n", cases[i].yaml);
        assert_text(&out, buf_text(&want), cases[i].label);
        buf_reset(&out);
        buf_reset(&want);
        assert_int_equal(mig_export_write(node, cases[i].label, MIG_JSON, &out, NULL), 0);
        buf_printf(&want, "{\n  \"version\": \"v1\",\n  \"mig-configs\": {\n    \"%s\": []\n  }\n}",
                   cases[i].json);
        assert_text(&out, buf_text(&want), cases[i].label);
    }
}

/* As Go's yaml library sorted them. */
static void keys_are_in_the_natural_order_of_yaml(void **state)
{
    static const char *const sorted[] = {
        "1c.2g.10gb",    "1c.3g.40gb",   "1c.7g.80gb",   "1g.5gb",     "1g.05gb",
        "1g.100gb",      "1g.10gb",      "1g.10gb+gfx",  "1g.10gb+me", "1g.10gb+me.all",
        "1g.10gb-me",    "1g.10gb.me",   "2c.3g.40gb",   "2g.10gb",    "02g.020gb",
        "3g.40gb",       "7c.7g.80gb",   "7g.80gb",      "all-1g.5gb", "all-1g.5gb-me",
        "all-1g.5gb.me", "all-balanced", "all-disabled",
    };

    for (size_t i = 0; i < ARRAY_LEN(sorted); i++)
        for (size_t k = 0; k < ARRAY_LEN(sorted); k++) {
            int order = mig_config_key_order(sorted[i], sorted[k]);
            if ((order > 0) - (order < 0) != (i > k) - (i < k))
                fail_msg("%s and %s: %d", sorted[i], sorted[k], order);
        }
}

/* ---- generate-config ---- */

static const char a30_yaml[] =
    "version: v1\nmig-configs:\n"
    "  all-1g.6gb:\n  - devices: all\n    mig-enabled: true\n    mig-devices:\n"
    "      1g.6gb: 4\n"
    "  all-1g.6gb.me:\n  - devices: all\n    mig-enabled: true\n    mig-devices:\n"
    "      1g.6gb+me: 1\n"
    "  all-2g.12gb:\n  - devices: all\n    mig-enabled: true\n    mig-devices:\n"
    "      2g.12gb: 2\n"
    "  all-2g.12gb.me:\n  - devices: all\n    mig-enabled: true\n    mig-devices:\n"
    "      2g.12gb+me: 1\n"
    "  all-4g.24gb:\n  - devices: all\n    mig-enabled: true\n    mig-devices:\n"
    "      4g.24gb: 1\n"
    "  all-balanced:\n  - devices: all\n    mig-enabled: true\n    mig-devices:\n"
    "      1g.6gb: 2\n      2g.12gb: 1\n"
    "  all-disabled:\n  - devices: all\n    mig-enabled: false\n    mig-devices: {}\n"
    "  all-enabled:\n  - devices: all\n    mig-enabled: true\n    mig-devices: {}\n";

/* Parts of the text, in their order. */
static void generated_configurations_are_those_of_upstream(void **state)
{
    static const struct {
        const char *word, *gpus;
        enum mig_document_format format;
        const char *wants[8];
    } cases[] = {
        { "T37", "1xa30,1xt4", MIG_YAML, { a30_yaml } },
        { "T38",
          "1xh100-80gb,1xa100-40gb",
          MIG_YAML,
          { "  all-1g.10gb:\n  - device-filter: [\"0x20B010DE\"]\n    devices: all\n"
            "    mig-enabled: true\n    mig-devices:\n      1g.10gb: 4\n"
            "  - device-filter: [\"0x233010DE\"]\n    devices: all\n    mig-enabled: true\n"
            "    mig-devices:\n      1g.10gb: 7\n",
            "  all-1g.10gb.me:\n  - device-filter: [\"0x233010DE\"]\n",
            "  all-disabled:\n  - devices: all\n" } },
        { "T39",
          "1xrtx-pro-6000",
          MIG_YAML,
          { "  all-1g.24gb:\n", "1g.24gb: 4\n  all-1g.24gb-me:\n", "1g.24gb-me: 4\n",
            "1g.24gb+gfx: 4\n", "1g.24gb+me: 1\n", "1g.24gb+me.all: 1\n", "2g.48gb: 2\n",
            "  all-balanced:\n  - devices: all\n    mig-enabled: true\n    mig-devices:\n"
            "      1g.24gb: 2\n      2g.48gb: 1\n" } },
        { "kinds with one count share an entry, but not in all-balanced",
          "1xa100-40gb,1xh100-80gb,1xa100-80gb",
          MIG_YAML,
          { "  - device-filter: [\"0x20B210DE\", \"0x233010DE\"]\n    devices: all\n"
            "    mig-enabled: true\n    mig-devices:\n      1g.10gb: 7\n",
            "  all-balanced:\n  - device-filter: [\"0x20B010DE\"]\n",
            "  - device-filter: [\"0x20B210DE\"]\n",
            "  - device-filter: [\"0x233010DE\"]\n    devices: all\n    mig-enabled: true\n"
            "    mig-devices:\n      1g.10gb: 2\n      2g.20gb: 1\n      3g.40gb: 1\n" } },
        { "JSON",
          "1xa100-40gb,1xh100-80gb",
          MIG_JSON,
          { "    \"all-1g.10gb\": [\n      {\n        \"device-filter\": [\n"
            "          \"0x20B010DE\"\n        ],\n        \"devices\": \"all\",\n",
            "    \"all-1g.5gb\": [\n",
            "        \"mig-enabled\": false,\n        \"mig-devices\": null\n      }\n",
            "        \"mig-devices\": {}\n      }\n    ]\n  }\n}" } },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
        auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
        const struct mig_node *node = boards(&arena, cases[i].gpus);
        assert_int_equal(mig_generate_write(node, cases[i].format, &out, NULL), 0);
        const char *at = buf_text(&out);
        for (size_t k = 0; k < ARRAY_LEN(cases[i].wants) && cases[i].wants[k]; k++) {
            at = strstr(at, cases[i].wants[k]);
            if (!at)
                fail_msg("%s\n--- wanted\n%s--- in\n%s", cases[i].word, cases[i].wants[k],
                         buf_text(&out));
        }
    }
}

/* N9: profile 17, three slices with graphics, ends everything upstream. */
static void a_profile_that_upstream_does_not_know_is_generated(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
    struct mig_node *node = boards(&arena, "1xh100-80gb");
    struct mig_gpu *gpu = &node->gpus[0];
    struct mig_gi_profile *profile = &gpu->profiles[gpu->n_profiles++];

    *profile = (struct mig_gi_profile){ .gi_profile = 17, .slices = 3, .max_instances = 1 };
    assert_int_equal(mig_profile_make(17, 2, 40448, gpu->memory_bytes, &profile->profile, NULL), 0);
    profile->name = "3g.40gb+gfx";
    assert_int_equal(mig_generate_write(node, MIG_YAML, &out, NULL), 0);
    assert_non_null(strstr(buf_text(&out), "  all-3g.40gb.gfx:\n"));
    assert_non_null(strstr(buf_text(&out), "      3g.40gb+gfx: 1\n"));
}

/* spec/mig §2.3 */
static void an_a30_whose_driver_counts_wrong_is_generated_right(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
    struct mig_node *node = boards(&arena, "1xa30");

    for (size_t i = 0; i < node->gpus[0].n_profiles; i++)
        node->gpus[0].profiles[i].max_instances = 7;
    node->gpus[0].n_profiles = 2;
    assert_int_equal(mig_generate_write(node, MIG_YAML, &out, NULL), 0);
    assert_text(&out, a30_yaml, "A30");
}

static void a_board_of_two_slices_has_no_balanced_configuration(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
    struct mig_node *node = boards(&arena, "1xa30");
    struct mig_gpu *gpu = &node->gpus[0];

    gpu->pci_device_id = 0x2BB310DE;
    gpu->n_profiles = 2; /* 1g and 2g */
    assert_int_equal(mig_generate_write(node, MIG_YAML, &out, NULL), 0);
    assert_non_null(strstr(buf_text(&out), "all-2g.12gb:"));
    assert_null(strstr(buf_text(&out), "all-balanced"));
}

static void what_cannot_be_generated_is_said_in_upstreams_words(void **state)
{
    static const char prefix[] = "error generating MIG config: failed to discover MIG profiles: ";
    static const struct {
        const char *gpus;
        bool hidden, lost;
        int r;
        const char *want;
    } cases[] = {
        { "2xt4", false, false, -ENODEV, "no MIG-capable devices found on the system" },
        { "", false, false, -ENODEV, "no MIG-capable devices found on the system" },
        { "1xh100-80gb", true, false, -ENODATA, "no MIG profiles discovered for MIG-capable GPUs" },
        { "2xh100-80gb", false, true, -EIO,
          "error getting device handle for index '1': GPU is lost" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
        auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
        struct mig_node *node = boards(&arena, cases[i].gpus);
        struct err err = {};
        if (cases[i].hidden)
            node->gpus[0].n_profiles = 0;
        if (cases[i].lost)
            node->gpus[1].problem = "GPU is lost";
        assert_int_equal(mig_generate_write(node, MIG_YAML, &out, &err), cases[i].r);
        assert_memory_equal(err.text, prefix, strlen(prefix));
        assert_string_equal(err.text + strlen(prefix), cases[i].want);
        assert_int_equal(out.len, 0);
    }
}

/* ---- what was generated is a configuration ---- */

static struct mig_config_file *parse_configs(const struct buf *text, struct arena *arena)
{
    struct mig_config_file *file = NULL;
    struct err err = {};

    if (mig_config_parse(buf_span(text), "f", arena, &file, &err) < 0)
        fail_msg("%s", err.text);
    return file;
}

static void what_is_written_can_be_read_and_selected(void **state)
{
    static const char *const nodes[] = {
        "1xh100-80gb",
        "1xa100-40gb,1xh100-80gb",
        "1xrtx-pro-6000,1xa30",
        "1xgb200,1xh200,2xb200",
    };

    for (size_t i = 0; i < 2 * ARRAY_LEN(nodes); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(16));
        auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
        const struct mig_node *node = boards(&arena, nodes[i / 2]);
        const struct mig_config *config = NULL;
        assert_int_equal(mig_generate_write(node, i % 2 ? MIG_JSON : MIG_YAML, &out, NULL), 0);
        struct mig_config_file *file = parse_configs(&out, &arena);
        assert_in_range(file->n_configs, 8, 60);
        for (size_t k = 0; k < file->n_configs; k++) {
            const char *name = file->configs[k].name;
            assert_int_equal(mig_config_select(file, name, &config, NULL), 0);
            assert_ptr_equal(config, &file->configs[k]);
        }
    }
}

/* ---- checkpoints ---- */

static void make_checkpointed(struct mig_node *node)
{
    make_a30(node);
    node->gpus[1].enabled = true;
}

static const char checkpointed[] =
    "{\"Version\":\"v1\",\"MigState\":{\"Devices\":[{\"UUID\":\"GPU-00000000-0000-4000-8000-"
    "000000000000\",\"MigMode\":1,\"GpuInstances\":[{\"ProfileID\":0,\"Placement\":{\"Start\":3,"
    "\"Size\":1},\"ComputeInstances\":null},{\"ProfileID\":1,\"Placement\":{\"Start\":0,"
    "\"Size\":2},\"ComputeInstances\":[{\"ProfileID\":0,\"EngProfileID\":0},{\"ProfileID\":0,"
    "\"EngProfileID\":0}]},{\"ProfileID\":7,\"Placement\":{\"Start\":2,\"Size\":1},"
    "\"ComputeInstances\":[{\"ProfileID\":0,\"EngProfileID\":0}]}]},{\"UUID\":\"GPU-00000001-0000-"
    "4000-8000-000000000000\",\"MigMode\":1,\"GpuInstances\":null},{\"UUID\":\"GPU-00000003-0000-"
    "4000-8000-000000000000\",\"MigMode\":0,\"GpuInstances\":null}]}}";

static void a_checkpoint_is_upstreams_byte_for_byte(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
    struct mig_node *node = boards(&arena, "2xa30,1xt4,1xh100-80gb");

    make_checkpointed(node);
    assert_int_equal(mig_checkpoint_write(node, &out, NULL), 0);
    assert_text(&out, checkpointed, "checkpoint");
    buf_reset(&out);
    assert_int_equal(mig_checkpoint_write(boards(&arena, "2xt4"), &out, NULL), 0);
    assert_text(&out, "{\"Version\":\"v1\",\"MigState\":{\"Devices\":null}}", "no capable GPU");
}

static void a_checkpoint_that_would_miss_a_gpu_is_not_written(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
    struct mig_node *node = boards(&arena, "2xh100-80gb");
    struct err err = {};

    make_unread(node);
    assert_int_equal(mig_checkpoint_write(node, &out, &err), -EIO);
    assert_string_equal(err.text, "error fetching MIG state: error checking MIG capable: error "
                                  "getting device handle: GPU 1: GPU is lost");
    assert_int_equal(out.len, 0);
}

/* T30: 2g@4, 1g@6, 1g@0. */
static void a_checkpoint_comes_back_as_it_was(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
    struct mig_node *node = boards(&arena, "2xh100-80gb,1xa30,1xt4");
    struct mig_checkpoint *checkpoint = NULL;
    size_t n = 0;

    board_put(&node->gpus[0], "2g.20gb", 4);
    board_put(&node->gpus[0], "1g.10gb", 6);
    board_put(&node->gpus[0], "1g.10gb", 0);
    struct mig_gpu_instance *gi = board_put_empty(&node->gpus[2], "2g.12gb", 0);
    board_cut(gi, 0, 0);
    board_cut(gi, 0, 1);
    board_put_empty(&node->gpus[2], "1g.6gb", 3);
    assert_int_equal(mig_checkpoint_write(node, &out, NULL), 0);
    assert_int_equal(mig_checkpoint_parse(buf_span(&out), "f", &arena, &checkpoint, NULL), 0);
    assert_int_equal(checkpoint->n_gpus, 3);
    for (size_t i = 0; i < node->n_gpus; i++) {
        struct mig_layout layout;
        if (!node->gpus[i].capable)
            continue;
        mig_layout_of(&node->gpus[i], &layout);
        assert_string_equal(checkpoint->gpus[n].uuid, node->gpus[i].uuid);
        assert_true(mig_layout_equal(&checkpoint->gpus[n++].layout, &layout));
    }
    assert_int_equal(checkpoint->gpus[0].layout.gis[0].placement.start, 0);
    assert_int_equal(checkpoint->gpus[0].layout.gis[1].placement.start, 4);
}

#define DEVICE(fields) "{\"MigState\":{\"Devices\":[{" fields "}]}}"
#define GI(fields)     DEVICE("\"UUID\":\"x\",\"MigMode\":1,\"GpuInstances\":[{" fields "}]")
#define PLACED         "\"Placement\":{\"Start\":0,\"Size\":1}"

static void a_wrong_checkpoint_is_refused_with_its_place(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "", "f:1:1: " },
        { "x", "f:1:1: " },
        { "{", "f:1:1: " },
        { "{} x", "f:1:4: " },
        { "a: b", "f:1:1: " }, /* YAML is not JSON */
        { "[]", "f:1:1: json: cannot unmarshal array into Go value of type v1.State" },
        { "{\"Version\":1}", "f:1:12: json: cannot unmarshal number into Go struct field "
                             "State.Version of type string" },
        { "{\"MigState\":1}", "json: cannot unmarshal number into Go struct field State.MigState "
                              "of type types.MigState" },
        { "{\"MigState\":{\"Devices\":{}}}",
          "json: cannot unmarshal object into Go struct field MigState.MigState.Devices of type "
          "[]types.DeviceState" },
        { "{\"MigState\":{\"Devices\":[1]}}",
          "json: cannot unmarshal number into Go struct field MigState.MigState.Devices of type "
          "types.DeviceState" },
        { DEVICE("\"UUID\":1"), "json: cannot unmarshal number into Go struct field "
                                "DeviceState.MigState.Devices.UUID of type string" },
        { DEVICE("\"UUID\":\"x\",\"MigMode\":\"1\""),
          "json: cannot unmarshal string into Go struct field DeviceState.MigState.Devices.MigMode "
          "of type mig.Mode" },
        { DEVICE("\"UUID\":\"x\",\"MigMode\":1.5"), "cannot unmarshal number 1.5 into" },
        { DEVICE("\"GpuInstances\":1"),
          "json: cannot unmarshal number into Go struct field "
          "DeviceState.MigState.Devices.GpuInstances of type []types.GpuInstanceState" },
        { DEVICE("\"GpuInstances\":[1]"),
          "DeviceState.MigState.Devices.GpuInstances of type types.GpuInstanceState" },
        { GI("\"Placement\":1"), "GpuInstanceState.MigState.Devices.GpuInstances.Placement of type "
                                 "nvml.GpuInstancePlacement" },
        { GI("\"Placement\":{\"Start\":-1}"),
          "json: cannot unmarshal number -1 into Go struct field "
          "GpuInstancePlacement.MigState.Devices.GpuInstances.Placement.Start of type uint32" },
        { GI("\"ProfileID\":1.5," PLACED),
          "json: cannot unmarshal number 1.5 into Go struct field "
          "GpuInstanceState.MigState.Devices.GpuInstances.ProfileID of type int" },
        { GI(PLACED ",\"ComputeInstances\":1"),
          "GpuInstanceState.MigState.Devices.GpuInstances.ComputeInstances of type "
          "[]types.ComputeInstanceState" },
        { GI(PLACED ",\"ComputeInstances\":[1]"),
          "GpuInstanceState.MigState.Devices.GpuInstances.ComputeInstances of type "
          "types.ComputeInstanceState" },
        { GI(PLACED ",\"ComputeInstances\":[{\"ProfileID\":\"a\"}]"),
          "ComputeInstanceState.MigState.Devices.GpuInstances.ComputeInstances.ProfileID of type "
          "int" },
        /* the first of several, in order of the file */
        { "{\"MigState\":{\"Devices\":[{\"MigMode\":\"a\",\"UUID\":1}]}}", "Devices.MigMode" },
        /* what upstream finds out too late */
        { DEVICE(""), "a device without a UUID" },
        { DEVICE("\"UUID\":\"x\",\"MigMode\":7"), "MigMode is 7, want 0 or 1" },
        { "{\"MigState\":{\"Devices\":[{\"UUID\":\"x\"},{\"UUID\":\"x\"}]}}", "x is there twice" },
        { GI(""), "a GPU instance without a Size" },
        { GI("\"ProfileID\":-1," PLACED), "ProfileID is -1, want 0 to" },
        { GI("\"Placement\":{\"Start\":4000000000,\"Size\":1}"), "Start is 4000000000" },
        { GI(PLACED ",\"ComputeInstances\":[{\"ProfileID\":9}]"), "ProfileID is 9, want 0 to 8" },
        { GI(PLACED ",\"ComputeInstances\":[{\"EngProfileID\":1}]"), "EngProfileID is 1, want 0" },
        { GI(PLACED ",\"ComputeInstances\":[{},{},{},{},{},{},{},{},{}]"),
          "9 compute instances in one GPU instance, more than 8" },
        { DEVICE("\"UUID\":\"x\",\"GpuInstances\":[{" PLACED "}]"),
          "a GPU with MigMode 0 has no GPU instances" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
        struct mig_checkpoint *checkpoint = NULL;
        struct err err = {};
        int r = mig_checkpoint_parse(span_of(cases[i].text), "f", &arena, &checkpoint, &err);
        if (r != -EINVAL || !strstr(err.text, cases[i].want) ||
            !text_starts(err.text, "error parsing checkpoint file: unmarshal error: f:"))
            fail_msg("%s\nwanted %s\ngot %d %s", cases[i].text, cases[i].want, r, err.text);
        assert_null(checkpoint);
    }
}

static void what_upstream_reads_past_is_read_past(void **state)
{
    static const struct {
        const char *text;
        size_t n_gpus;
    } cases[] = {
        { "{}", 0 },
        { "null", 0 },
        { " {\"MigState\": null}\n", 0 },
        { "{\"MigState\":{\"Devices\":null},\"other\":[1]}", 0 },
        { "{\"Version\":\"v7\",\"migstate\":{\"DEVICES\":[{\"uuid\":\"x\",\"migMODE\":1,"
          "\"GpuInstances\":[{\"placement\":{\"SIZE\":1},\"ComputeInstances\":[null]}]}]}}",
          1 },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
        struct mig_checkpoint *checkpoint = NULL;
        struct err err = {};
        if (mig_checkpoint_parse(span_of(cases[i].text), "f", &arena, &checkpoint, &err) < 0)
            fail_msg("%s\n%s", cases[i].text, err.text);
        assert_int_equal(checkpoint->n_gpus, cases[i].n_gpus);
    }
}

/* ---- hooks ---- */

static void describe_hook(struct buf *out, const struct mig_hook *hook)
{
    buf_printf(out, " [%s", hook->command);
    for (size_t i = 0; hook->args[i]; i++)
        buf_printf(out, " '%s'", hook->args[i]);
    for (size_t i = 0; hook->envs[i]; i++)
        buf_printf(out, " $%s", hook->envs[i]);
    if (hook->workdir)
        buf_printf(out, " in %s", hook->workdir);
    buf_add_char(out, ']');
}

static void describe_hooks(struct buf *out, const struct mig_hooks *hooks)
{
    for (int i = 0; i < MIG_HOOK_N; i++) {
        if (hooks->n[i] == 0)
            continue;
        buf_printf(out, "%s%s:", out->len > 0 ? "; " : "", mig_hook_name((enum mig_hook_point)i));
        for (size_t k = 0; k < hooks->n[i]; k++)
            describe_hook(out, &hooks->hooks[i][k]);
    }
}

#define START(hook) "hooks: {apply-start: [{" hook "}]}"

static void hooks_are_read_as_upstream_reads_them(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "", "" },
        { "version: 1", "" },
        { "version: v1\nhooks:\n  apply-start:\n  - command: /bin/a\n    args: [x, y z]\n"
          "    workdir: /tmp\n    envs: {A: b}\n  - command: c\n  apply-exit:\n  - command: d\n"
          "  pre-apply-mode: [{command: e}]\n  pre-apply-config: []\n",
          "apply-start: [/bin/a 'x' 'y z' $A=b in /tmp] [c]; pre-apply-mode: [e]; apply-exit: "
          "[d]" },
        { "hooks: {apply-start: null, other: [{command: a}], Apply-Start: [{command: b}]}", "" },
        { "HOOKS: {apply-start: [{COMMAND: a, Args: [b]}]}", "apply-start: [a 'b']" },
        { "hooks: {apply-start: [null, {args: [x]}]}", "apply-start: [] [ 'x']" },
        { START("command: a, extra: 1, workdir: ''"), "apply-start: [a]" },
        { START("command: a, command: b"), "apply-start: [b]" },
        { START("command: 1, args: [1.50, 1e21, 1e3, 0x10, 010, 1_000, yes, ~, 2001-01-01]"),
          "apply-start: [1 '1.5' '1e+21' '1000' '16' '8' '1000' 'true' '' '2001-01-01']" },
        { START("command: a, args: [1e5, 1.0, 0.1, 1e20, 100000000.5, .inf, 123456.5, 1e6, 1e-5]"),
          "apply-start: [a '100000' '1' '0.1' '1e+20' '1e+08' '+Inf' '123456.5' '1e+06' '1e-05']" },
        { START("command: a, args: [1234567.5, 999999.5, 123456.7, 0.00012345, 0.000012345, -2.5]"),
          "apply-start: [a '1.2345675e+06' '999999.5' '123456.7' '0.00012345' '1.2345e-05' "
          "'-2.5']" },
        { START("command: a, envs: {A: 1.50, B: yes, C: ~, 0x10: d}"),
          "apply-start: [a $A=1.5 $B=true $C= $16=d]" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
        auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
        struct mig_hooks *hooks = NULL;
        struct err err = {};
        if (mig_hooks_parse(span_of(cases[i].text), "f", &arena, &hooks, &err) < 0)
            fail_msg("%s\n%s", cases[i].text, err.text);
        describe_hooks(&out, hooks);
        assert_text(&out, cases[i].want, cases[i].text);
    }
}

static void wrong_hooks_are_refused_in_upstreams_words(void **state)
{
    static const struct {
        const char *text, *place, *want;
    } cases[] = {
        { "x", "f:1:1: ", "json: cannot unmarshal string into Go value of type v1.Spec" },
        { "[]", "f:1:1: ", "json: cannot unmarshal array into Go value of type v1.Spec" },
        { "hooks: 1", "f:1:8: ",
          "json: cannot unmarshal number into Go struct field Spec.hooks of type v1.HooksMap" },
        { "version: [x]", "f:1:10: ",
          "json: cannot unmarshal array into Go struct field Spec.version of type string" },
        { "hooks:\n  other: 1", "f:2:10: ",
          "json: cannot unmarshal number into Go struct field Spec.hooks of type []v1.HookSpec" },
        { "hooks: {apply-start: [x]}", "f:1:23: ",
          "json: cannot unmarshal string into Go struct field Spec.hooks of type v1.HookSpec" },
        { START("args: x"), "f:1:30: ",
          "json: cannot unmarshal string into Go struct field HookSpec.hooks.args of type "
          "[]string" },
        { START("args: [[a]]"), "f:1:31: ",
          "json: cannot unmarshal array into Go struct field HookSpec.hooks.args of type string" },
        { START("command: {a: b}"), "f:1:33: ",
          "json: cannot unmarshal object into Go struct field HookSpec.hooks.command of type "
          "string" },
        { START("envs: [A]"), "f:1:30: ",
          "json: cannot unmarshal array into Go struct field HookSpec.hooks.envs of type "
          "v1.EnvsMap" },
        { START("envs: {A: [x]}"), "f:1:34: ",
          "json: cannot unmarshal array into Go struct field HookSpec.hooks.envs of type string" },
        { START("workdir: [x]"), "f:1:33: ",
          "json: cannot unmarshal array into Go struct field HookSpec.hooks.workdir of type "
          "string" },
        { START("command: \"a\\0b\""), "f:1:33: ", "a NUL cannot be in a command" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
        auto_(buf_done) struct buf want = BUF_MAX(KIB(4));
        struct mig_hooks *hooks = NULL;
        struct err err = {};
        int r = mig_hooks_parse(span_of(cases[i].text), "f", &arena, &hooks, &err);
        buf_printf(&want,
                   "error parsing hooks file: unmarshal error: error unmarshaling JSON: while "
                   "decoding JSON: %s%s",
                   cases[i].place, cases[i].want);
        if (r != -EINVAL || !text_starts(err.text, buf_text(&want)))
            fail_msg("%s\nwanted %s\ngot %d %s", cases[i].text, buf_text(&want), r, err.text);
        assert_null(hooks);
    }
}

static void hooks_that_are_no_yaml_are_refused(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
    struct mig_hooks *hooks = NULL;
    struct err err = {};

    assert_int_equal(mig_hooks_parse(SPAN("a: b: c"), "f", &arena, &hooks, &err), -EINVAL);
    assert_true(text_starts(err.text, "error parsing hooks file: unmarshal error: error "
                                      "converting YAML to JSON: yaml: f:1:"));
}

static void what_hooks_say_in_vain_is_a_warning(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "hooks: {apply-strat: []}", "apply-strat" },
        { START("comand: a"), "comand" },
        { START("args: [a]"), "a hook without a command fails" },
        { START("command: a, envs: {A=B: c}"), "`A=B` is no name of a variable" },
        { "hoks: {}", "hoks" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
        struct findings findings = { .arena = &arena };
        assert_int_equal(mig_hooks_check(span_of(cases[i].text), &findings, NULL), 0);
        size_t k = 0;
        while (k < findings.n && !strstr(findings.items[k].text, cases[i].want))
            k++;
        if (k == findings.n)
            fail_msg("%s\nwanted %s, got %s", cases[i].text, cases[i].want,
                     findings.n ? findings.items[0].text : "nothing");
    }
}

/* ---- the default configurations ---- */

/* spec/mig §4.11, all names. */
static const char *const default_names[] = {
    "all-disabled",    "all-enabled",        "all-balanced",   "all-1g.5gb",
    "all-1g.5gb.me",   "all-2g.10gb",        "all-3g.20gb",    "all-4g.20gb",
    "all-7g.40gb",     "all-1g.10gb",        "all-1g.10gb.me", "all-1g.20gb",
    "all-2g.20gb",     "all-3g.40gb",        "all-4g.40gb",    "all-7g.80gb",
    "all-1g.6gb",      "all-1g.6gb.me",      "all-2g.12gb",    "all-2g.12gb.me",
    "all-4g.24gb",     "all-1g.12gb",        "all-1g.12gb.me", "all-1g.24gb",
    "all-1g.24gb.me",  "all-2g.24gb",        "all-3g.47gb",    "all-4g.47gb",
    "all-7g.94gb",     "all-3g.48gb",        "all-4g.48gb",    "all-7g.96gb",
    "all-1g.18gb",     "all-1g.18gb.me",     "all-1g.36gb",    "all-2g.36gb",
    "all-3g.72gb",     "all-4g.72gb",        "all-7g.144gb",   "all-1g.35gb",
    "all-1g.35gb.me",  "all-2g.35gb",        "all-3g.71gb",    "all-4g.71gb",
    "all-7g.141gb",    "all-1g.23gb",        "all-1g.23gb.me", "all-1g.45gb",
    "all-2g.45gb",     "all-3g.90gb",        "all-4g.90gb",    "all-7g.180gb",
    "all-1g.47gb",     "all-2g.47gb",        "all-3g.93gb",    "all-4g.93gb",
    "all-7g.186gb",    "all-3g.95gb",        "all-4g.95gb",    "all-7g.189gb",
    "all-1g.34gb",     "all-1g.34gb.me",     "all-1g.67gb",    "all-2g.67gb",
    "all-3g.135gb",    "all-4g.135gb",       "all-7g.269gb",   "all-1g.70gb",
    "all-2g.70gb",     "all-3g.139gb",       "all-4g.139gb",   "all-7g.278gb",
    "all-1g.24gb.gfx", "all-1g.24gb.me.all", "all-1g.24gb-me", "all-2g.48gb",
    "all-2g.48gb.gfx", "all-2g.48gb.me.all", "all-2g.48gb-me", "all-4g.96gb",
    "all-4g.96gb.gfx",
};

static struct mig_config_file *defaults(enum mig_document_format format, struct arena *arena)
{
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));

    assert_int_equal(mig_defaults_write(format, &out, NULL), 0);
    return parse_configs(&out, arena);
}

static void the_default_configurations_have_all_their_names(void **state)
{
    for (int format = MIG_YAML; format <= MIG_JSON; format++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(16));
        struct mig_config_file *file = defaults((enum mig_document_format)format, &arena);
        const struct mig_config *config;
        for (size_t i = 0; i < ARRAY_LEN(default_names); i++)
            if (mig_config_select(file, default_names[i], &config, NULL) < 0)
                fail_msg("no %s", default_names[i]);
        assert_int_equal(file->n_configs, ARRAY_LEN(default_names));
    }
}

static void the_default_configurations_say_nothing_twice_or_in_vain(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(16));
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
    struct findings findings = { .arena = &arena };

    assert_int_equal(mig_defaults_write(MIG_YAML, &out, NULL), 0);
    assert_int_equal(mig_config_check(buf_span(&out), &findings, NULL), 0);
    if (findings.n > 0)
        fail_msg("line %u: %s", findings.items[0].place.line, findings.items[0].text);
}

static void the_file_that_is_installed_is_the_one_that_is_written(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(16));
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
    const char *source = getenv("TRANCHE_SOURCE");
    struct span text;
    struct err err = {};

    if (!source)
        skip();
    const char *path = arena_printf(&arena, "%s/deploy/mig/config-default.yaml", source);
    if (file_read(AT_FDCWD, path, MIB(1), &arena, &text, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(mig_defaults_write(MIG_YAML, &out, NULL), 0);
    if (!span_equal(text, buf_span(&out)))
        fail_msg("%s is not what mig_defaults_write writes", path);
}

/* Whether the GPU knows every profile that the entry wants. */
static bool resolves(const struct mig_gpu *gpu, const struct mig_config_entry *entry,
                     struct mig_want wants[static MIG_MAX_WANTS])
{
    const struct mig_gi_profile *profile;
    uint32_t ci;

    for (size_t i = 0; i < entry->n_counts; i++) {
        const struct mig_config_count *count = &entry->counts[i];
        if (mig_gpu_resolve(gpu, &count->parsed, &profile, &ci, NULL) < 0)
            return false;
        wants[i] = (struct mig_want){ count->profile, count->parsed, count->count };
    }
    return true;
}

static size_t check_layout(const struct mig_gpu *gpu, const struct mig_config *config,
                           struct arena *arena)
{
    size_t n = 0;

    for (size_t i = 0; i < config->n_entries; i++) {
        const struct mig_config_entry *entry = &config->entries[i];
        struct mig_want wants[MIG_MAX_WANTS];
        struct mig_gpu_plan plan;
        if (!mig_config_matches(entry, 0, gpu->pci_device_id, gpu->pci_subsystem_id) ||
            !entry->mig_enabled || !resolves(gpu, entry, wants))
            continue;
        struct mig_wish wish = { MIG_WISH_DEVICES, true, entry->n_counts, wants, NULL, NULL };
        assert_int_equal(mig_plan_gpu(gpu, &wish, false, arena, &plan, NULL), 0);
        if (plan.refusal != MIG_REFUSED_NOT)
            fail_msg("%s on %s: %s", config->name, gpu->name, plan.sentence);
        n++;
    }
    return n;
}

static void every_default_configuration_fits_the_boards_that_know_its_profiles(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(256));
    struct mig_config_file *file = defaults(MIG_YAML, &arena);
    const struct sim_model *models;
    size_t n_models;

    models = sim_models(&n_models);
    for (size_t m = 0; m < n_models; m++) {
        struct mig_gpu gpu;
        size_t n = 0;
        if (!models[m].mig)
            continue;
        board(&gpu, &models[m], 0, &arena);
        for (size_t i = 0; i < file->n_configs; i++)
            n += check_layout(&gpu, &file->configs[i], &arena);
        /* all-enabled, all-balanced, and most of its own profiles */
        if (n < 2 + gpu.n_profiles - 2)
            fail_msg("only %zu configurations for %s", n, gpu.name);
    }
}

/* ---- without memory ---- */

static int write_all(int what, const struct mig_node *node, struct buf *out, struct err *err)
{
    enum mig_document_format format = what % 2 ? MIG_JSON : MIG_YAML;

    switch (what / 2) {
    case 0:
        return mig_export_write(node, "current", format, out, err);
    case 1:
        return mig_generate_write(node, format, out, err);
    default:
        return mig_defaults_write(format, out, err);
    }
}

static int parse_either(bool checkpoint, struct arena *arena, struct err *err)
{
    static const char text[] = START("command: a, args: [b], envs: {C: d}, workdir: e");
    struct mig_checkpoint *checkpoint_out;
    struct mig_hooks *hooks;

    return checkpoint
               ? mig_checkpoint_parse(span_of(checkpointed), "f", arena, &checkpoint_out, err)
               : mig_hooks_parse(span_of(text), "f", arena, &hooks, err);
}

static void without_memory_nothing_is_half_done(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
    struct mig_node *node = boards(&arena, "1xa100-40gb,1xt4,1xh100-80gb");

    make_mixture(node);
    for (int what = 0; what < 6; what++) {
        int r = -ENOMEM;
        for (unsigned long n = 1; r != 0; n++) {
            auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
            struct err err = {};
            mem_fail_from(n);
            r = write_all(what, node, &out, &err);
            mem_fail_from(0);
            assert_true(r == 0 || r == -ENOMEM || r == -EFBIG);
            assert_int_equal(err.code, -r);
            assert_in_range(n, 1, 5000);
        }
    }
    for (int what = 0; what < 2; what++) {
        int r = -ENOMEM;
        for (unsigned long n = 1; r != 0; n++) {
            auto_(arena_done) struct arena own = ARENA_MAX(MIB(4));
            struct err err = {};
            mem_fail_from(n);
            r = parse_either(what == 0, &own, &err);
            mem_fail_from(0);
            assert_true(r == 0 || r == -ENOMEM);
            assert_int_equal(err.code, -r);
            assert_in_range(n, 1, 5000);
        }
    }
}

static void a_document_that_does_not_fit_is_refused(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
    struct mig_node *node = boards(&arena, "1xh100-80gb");

    for (int what = 0; what < 6; what++) {
        auto_(buf_done) struct buf out = BUF_MAX(64);
        assert_int_equal(write_all(what, node, &out, NULL), -EFBIG);
    }
    auto_(buf_done) struct buf out = BUF_MAX(64);
    assert_int_equal(mig_checkpoint_write(node, &out, NULL), -EFBIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_export_is_upstreams_byte_for_byte),
        cmocka_unit_test(a_label_is_quoted_where_yaml_would_read_it_as_something_else),
        cmocka_unit_test(keys_are_in_the_natural_order_of_yaml),
        cmocka_unit_test(generated_configurations_are_those_of_upstream),
        cmocka_unit_test(a_profile_that_upstream_does_not_know_is_generated),
        cmocka_unit_test(an_a30_whose_driver_counts_wrong_is_generated_right),
        cmocka_unit_test(a_board_of_two_slices_has_no_balanced_configuration),
        cmocka_unit_test(what_cannot_be_generated_is_said_in_upstreams_words),
        cmocka_unit_test(what_is_written_can_be_read_and_selected),
        cmocka_unit_test(a_checkpoint_is_upstreams_byte_for_byte),
        cmocka_unit_test(a_checkpoint_that_would_miss_a_gpu_is_not_written),
        cmocka_unit_test(a_checkpoint_comes_back_as_it_was),
        cmocka_unit_test(a_wrong_checkpoint_is_refused_with_its_place),
        cmocka_unit_test(what_upstream_reads_past_is_read_past),
        cmocka_unit_test(hooks_are_read_as_upstream_reads_them),
        cmocka_unit_test(wrong_hooks_are_refused_in_upstreams_words),
        cmocka_unit_test(hooks_that_are_no_yaml_are_refused),
        cmocka_unit_test(what_hooks_say_in_vain_is_a_warning),
        cmocka_unit_test(the_default_configurations_have_all_their_names),
        cmocka_unit_test(the_default_configurations_say_nothing_twice_or_in_vain),
        cmocka_unit_test(the_file_that_is_installed_is_the_one_that_is_written),
        cmocka_unit_test(every_default_configuration_fits_the_boards_that_know_its_profiles),
        cmocka_unit_test(without_memory_nothing_is_half_done),
        cmocka_unit_test(a_document_that_does_not_fit_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
