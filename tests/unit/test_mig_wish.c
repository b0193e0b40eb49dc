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
#include "mig_boards.h"
#include "share/mig_wish.h"

/* Entries of one configuration; line 4 is the first one. */
#define ENTRY(text)  "  - {" text "}\n"
#define ALL(counts)  ENTRY("devices: all, mig-enabled: true, mig-devices: {" counts "}")
#define OFF(devices) ENTRY("devices: " devices ", mig-enabled: false")
#define ON(devices, counts)                                                                        \
    ENTRY("devices: " devices ", mig-enabled: true, mig-devices: {" counts "}")
#define ONLY(filter, counts)                                                                       \
    ENTRY("devices: all, device-filter: \"" filter "\", mig-enabled: true, mig-devices: {" counts  \
          "}")

static const struct mig_config *parse(const char *entries, struct arena *arena)
{
    struct mig_config_file *file = NULL;
    struct err err = {};
    const char *text = arena_printf(arena, "version: v1\nmig-configs:\n  c:\n%s", entries);

    if (mig_config_parse(span_of(text), "f.yaml", arena, &file, &err) < 0)
        fail_msg("%s", err.text);
    return &file->configs[0];
}

/* ---- wishes ---- */

static void describe(const struct mig_wishes *wishes, size_t n, struct buf *out)
{
    for (size_t i = 0; i < n; i++) {
        const struct mig_wish *wish = &wishes->wishes[i];
        buf_add_text(out, i > 0 ? " | " : "");
        if (wish->kind == MIG_WISH_NOTHING)
            buf_add_char(out, '-');
        else if (wish->kind == MIG_WISH_MODE)
            buf_add_text(out, wish->enabled ? "on" : "off");
        else
            buf_add_text(out, wish->n_wants == 0 ? "empty" : "");
        for (size_t k = 0; k < wish->n_wants; k++)
            buf_printf(out, "%s%s x%u", k > 0 ? ", " : "", wish->wants[k].name,
                       wish->wants[k].count);
    }
}

struct wish_case {
    const char *word, *gpus, *entries;
    const char *strict, *lenient; /* wishes, or "!" and a part of the error */
    int strict_r, lenient_r;
    const char *warning; /* a part of one of the lenient reading's */
};

static void check_case(const struct wish_case *c, enum mig_manners manners, enum mig_scope scope,
                       const char *want, int want_r)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(16));
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
    const struct mig_node *node = boards(&arena, c->gpus);
    struct mig_wishes wishes = {};
    struct err err = {};
    size_t found = 0;
    int r = mig_wishes_make(parse(c->entries, &arena), node, manners, scope, &arena, &wishes, &err);

    if (r != want_r)
        fail_msg("%s: wanted %d, got %d %s", c->word, want_r, r, err.text);
    if (r < 0 && (!strstr(err.text, want + 1) || !text_starts(err.text, "f.yaml:")))
        fail_msg("%s: wanted %s, got %s", c->word, want, err.text);
    if (r < 0)
        return assert_null(wishes.wishes);
    describe(&wishes, node->n_gpus, &out);
    if (!text_equal(buf_text(&out), want))
        fail_msg("%s: wanted %s, got %s", c->word, want, buf_text(&out));
    for (size_t i = 0; i < wishes.n_warnings; i++)
        found += c->warning && strstr(wishes.warnings[i], c->warning);
    if (manners == MIG_LENIENT && c->warning && found == 0)
        fail_msg("%s: no warning of %s", c->word, c->warning);
    if (manners == MIG_LENIENT && !c->warning && wishes.n_warnings > 0)
        fail_msg("%s: warned: %s", c->word, wishes.warnings[0]);
}

static void check_cases(const struct wish_case *cases, size_t n, enum mig_scope scope)
{
    for (size_t i = 0; i < n; i++) {
        check_case(&cases[i], MIG_STRICT, scope, cases[i].strict, cases[i].strict_r);
        check_case(&cases[i], MIG_LENIENT, scope, cases[i].lenient ?: cases[i].strict,
                   cases[i].lenient_r);
    }
}

static void each_gpu_gets_the_last_entry_that_is_about_it(void **state)
{
    static const struct wish_case cases[] = {
        { "all", "2xh100-80gb", ALL("1g.10gb: 7"), "1g.10gb x7 | 1g.10gb x7" },
        { "indices", "3xh100-80gb", ON("[0, 2, 2]", "3g.40gb: 2") OFF("[1]"),
          "3g.40gb x2 | off | 3g.40gb x2" },
        { "some GPUs are not mentioned", "2xh100-80gb", ON("[1]", "7g.80gb: 1"), "- | 7g.80gb x1" },
        { "filters", "1xa100-40gb,1xh100-80gb",
          ONLY("0x20B010DE", "1g.5gb: 7") ONLY("0x233010DE", "1g.10gb: 7"),
          "1g.5gb x7 | 1g.10gb x7" },
        { "a filter and an index", "1xa100-40gb,1xh100-80gb",
          ENTRY("devices: [0, 1], device-filter: [\"0x233010DE\"], mig-enabled: false"),
          "- | off" },
        { "a board's subsystem", "1xh100-80gb", ONLY("0x233010DE:0x16C110DE", "1g.10gb: 1"),
          "1g.10gb x1" },
        { "T27: one name, two profiles", "1xa100-40gb,1xa100-80gb", ALL("1g.10gb: 4"),
          "1g.10gb x4 | 1g.10gb x4" },
        { "the later entry counts", "2xh100-80gb", ALL("1g.10gb: 7") ON("[1]", "3g.40gb: 1"),
          "1g.10gb x7 | 3g.40gb x1", .warning = "what line 5 says of GPU 1 counts" },
        { "all-enabled", "1xh100-80gb", ALL(""), "empty" },
        { "zeros are no wish", "1xh100-80gb", ALL("1g.10gb: 1, 2g.20gb: 0"), "1g.10gb x1" },
        { "T25: two spellings of one profile", "1xh100-80gb",
          ALL("1c.1g.10gb: 2, 1g.10gb: 3, 01g.010gb: 1"), "1c.1g.10gb x6" },
        { "compute instances", "1xh100-80gb", ALL("1c.3g.40gb: 3"), "1c.3g.40gb x3" },
        { "an old name", "1xgb200", ALL("1g.24gb: 7"), "1g.24gb x7" },
        { "nothing of nobody", "1xh100-80gb", ENTRY("devices: [], mig-enabled: false"),
          "!no device matches", "-", -ENODEV, 0, "no device matches" },
    };

    check_cases(cases, ARRAY_LEN(cases), MIG_SCOPE_ALL);
}

static void what_upstream_overlooks_is_refused_or_noted(void **state)
{
    static const struct wish_case cases[] = {
        { "T7: a profile that nobody has", "1xa100-40gb", ALL("1g.10gb: 5, 2g.20gb: 1"),
          "!f.yaml:4:65: NVIDIA A100-SXM4-40GB has no MIG profile 2g.20gb; it has 1g.5gb, ",
          "empty", -ENOENT, 0, "2g.20gb; it has 1g.5gb" },
        { "a profile of another GPU of the node", "1xa100-40gb,1xh100-80gb",
          ON("[0]", "2g.20gb: 1"), "!NVIDIA A100-SXM4-40GB has no MIG profile 2g.20gb",
          "2g.20gb x1 | -", -ENOENT, 0 },
        { "a profile of one of two GPUs", "1xa100-40gb,1xh100-80gb", ALL("1g.5gb: 7"),
          "1g.5gb x7 | 1g.5gb x7" },
        { "an attribute that no GPU has", "1xh100-80gb", ALL("1g.10gb+ME: 1"),
          "!no GPU has a MIG profile 1g.10gb+ME", "empty", -ENOENT, 0, "will be emptied" },
        { "an unknown profile that is not wanted", "1xh100-80gb", ALL("1g.10gb: 1, 9g.9gb: 0"),
          "1g.10gb x1" },
        { "T16: a filter of other boards", "1xh200", ONLY("0x233B10DE", "1g.35gb: 4"),
          "!no device matches: configuration c is about none of the 1 GPUs", "-", -ENODEV, 0,
          "no device matches" },
        { "T36: a filter that is none", "1xh100-80gb", ONLY("foo", "1g.10gb: 7"),
          "!no device matches", "-", -ENODEV, 0, "no device matches" },
        { "T36: half a filter", "1xh100-80gb", ONLY("0x2330", "1g.10gb: 7"), "!no device matches",
          "-", -ENODEV, 0, "no device matches" },
        { "an index too far", "2xh100-80gb", OFF("[0, 9]"),
          "!f.yaml:4:5: no GPU has the index 9; this node has 0 to 1", "off | -", -ENODEV, 0,
          "no GPU has the index 9" },
        { "a negative index", "2xh100-80gb", OFF("[-1, 0]"), "!no GPU has the index -1", "off | -",
          -ENODEV, 0, "no GPU has the index -1" },
        { "no GPUs", "", ALL("1g.10gb: 7"), "!none of the 0 GPUs", "", -ENODEV, 0,
          "no device matches" },
        { "no GPUs, and an index", "", OFF("[0]"), "!this node has none", "", -ENODEV, 0,
          "this node has none" },
    };

    check_cases(cases, ARRAY_LEN(cases), MIG_SCOPE_ALL);
}

static void a_gpu_without_mig_is_passed_over_unless_it_is_named(void **state)
{
    static const struct wish_case cases[] = {
        { "T14", "2xh100-80gb,1xt4", ALL("1g.10gb: 7"), "1g.10gb x7 | 1g.10gb x7 | -",
          .warning = "GPU 2, a Tesla T4, cannot do MIG" },
        { "T15", "2xh100-80gb,1xt4", ON("[0, 1, 2]", "1g.10gb: 7"),
          "!f.yaml:4:5: cannot set MIG mode on non MIG-capable GPU: GPU 2 is a Tesla T4", NULL,
          -ENOTSUP, -ENOTSUP },
        { "off is what it is", "1xh100-80gb,1xt4", OFF("[0, 1]"), "off | -" },
        { "nobody can", "2xt4", ALL("1g.10gb: 7"),
          "!no GPU that configuration c is about can do MIG", "- | -", -ENOTSUP, 0, "can do MIG" },
        { "nobody need", "2xt4", OFF("all"), "- | -" },
    };

    check_cases(cases, ARRAY_LEN(cases), MIG_SCOPE_ALL);
}

static void entries_that_disagree_about_a_gpus_mode_are_refused(void **state)
{
    static const struct wish_case cases[] = {
        { "off, then on", "2xh100-80gb", OFF("all") ON("[1]", "1g.10gb: 7"),
          "!f.yaml:5:5: wants MIG on for GPU 1, and the entry in line 4 wants it off", NULL,
          -EINVAL, -EINVAL },
        { "on, then off", "2xh100-80gb", ALL("1g.10gb: 7") OFF("[0]"),
          "!wants MIG off for GPU 0, and the entry in line 4 wants it on", NULL, -EINVAL, -EINVAL },
        { "not the last two", "1xh100-80gb", OFF("all") ALL("1g.10gb: 7") ALL("1g.10gb: 6"),
          "!wants MIG on for GPU 0, and the entry in line 4", NULL, -EINVAL, -EINVAL },
        { "about other GPUs", "2xh100-80gb", OFF("[0]") ON("[1]", "1g.10gb: 7"),
          "off | 1g.10gb x7" },
        { "about a GPU that cannot anyway", "1xh100-80gb,1xt4", ALL("1g.10gb: 7") OFF("[1]"),
          "1g.10gb x7 | -", .warning = "GPU 1, a Tesla T4" },
    };

    check_cases(cases, ARRAY_LEN(cases), MIG_SCOPE_ALL);
    check_cases(cases, 3, MIG_SCOPE_MODE_ONLY);
}

static void for_the_mode_only_profiles_do_not_matter(void **state)
{
    static const struct wish_case cases[] = {
        { "on", "2xh100-80gb", ALL("9g.90gb: 1"), "on | on" },
        { "off", "2xh100-80gb", OFF("[1]"), "- | off" },
        { "none can", "1xt4", ALL("1g.10gb: 1"), "!can do MIG", "-", -ENOTSUP, 0, "can do MIG" },
        { "T15", "1xt4", ON("[0]", ""), "!cannot set MIG mode on non MIG-capable GPU", NULL,
          -ENOTSUP, -ENOTSUP },
        { "none matches", "1xh100-80gb", ONLY("0x20B010DE", ""), "!no device matches", "-", -ENODEV,
          0, "no device matches" },
        { "twice about one", "1xh100-80gb", ALL("1g.10gb: 1") ALL("1g.10gb: 2"), "on" },
    };

    check_cases(cases, ARRAY_LEN(cases), MIG_SCOPE_MODE_ONLY);
}

static void a_gpu_that_cannot_be_read_is_left_to_the_planner(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(16));
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
    struct mig_node *node = boards(&arena, "2xh100-80gb");
    struct mig_wishes wishes;

    for (size_t i = 0; i < 2; i++) {
        node->gpus[i].problem = "GPU is lost";
        node->gpus[i].capable = false;
        node->gpus[i].n_profiles = 0;
    }
    assert_int_equal(mig_wishes_make(parse(ALL("1g.10gb: 7"), &arena), node, MIG_STRICT,
                                     MIG_SCOPE_ALL, &arena, &wishes, NULL),
                     0);
    describe(&wishes, 2, &out);
    assert_string_equal(buf_text(&out), "1g.10gb x7 | 1g.10gb x7");
}

static void a_wish_says_where_it_was_said(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(16));
    const struct mig_node *node = boards(&arena, "2xh100-80gb");
    struct mig_wishes wishes;

    assert_int_equal(mig_wishes_make(parse(OFF("[0]") ON("[1]", "7g.80gb: 1"), &arena), node,
                                     MIG_STRICT, MIG_SCOPE_ALL, &arena, &wishes, NULL),
                     0);
    assert_string_equal(wishes.wishes[0].where, "f.yaml:4:5");
    assert_string_equal(wishes.wishes[1].where, "f.yaml:5:5");
    assert_int_equal(wishes.n_matched, 2);
}

static void more_profiles_than_any_gpu_has_are_refused(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(16));
    auto_(buf_done) struct buf counts = BUF_MAX(MIB(1));
    struct mig_node *node = boards(&arena, "1xh100-80gb");
    struct mig_wishes wishes;
    struct err err = {};

    node->gpus[0].problem = "GPU is lost"; /* or the first unknown one would be */
    for (int i = 0; i <= MIG_MAX_WANTS; i++)
        buf_printf(&counts, "1g.%dgb: 1, ", i);
    const char *entry = arena_printf(
        &arena, "  - {devices: all, mig-enabled: true, mig-devices: {%s}}\n", buf_text(&counts));
    assert_int_equal(mig_wishes_make(parse(entry, &arena), node, MIG_STRICT, MIG_SCOPE_ALL, &arena,
                                     &wishes, &err),
                     -EINVAL);
    assert_non_null(strstr(err.text, "more than 64 different profiles"));
}

/* ---- assertion ---- */

static void seven(struct mig_gpu *gpu)
{
    for (uint32_t i = 0; i < 7; i++)
        board_put(gpu, "1g.10gb", i);
}

/* GPU 0 has seven instances, GPU 1 has MIG on and nothing, GPU 2 is off, GPU 3 a T4. */
static struct mig_node *assorted(struct arena *arena)
{
    struct mig_node *node = boards(arena, "3xh100-80gb,1xt4");

    seven(&node->gpus[0]);
    node->gpus[1].enabled = true;
    return node;
}

#define MODE    "current mode different than mode being asserted"
#define CAPABLE "unable to assert MIG mode enabled on non MIG-capable GPU"
#define NOT_ALL "not all GPUs match the specified config"
#define NONE    "no GPU matches the specified config"

static const char *answer(const char *entries, enum mig_assertion rule, enum mig_scope scope,
                          struct arena *arena)
{
    struct err err = {};
    int r = mig_config_assert(parse(entries, arena), assorted(arena), rule, scope, arena, &err);

    assert_true(r == 0 || (r == -ENODATA && err.code == ENODATA));
    return r == 0 ? "" : arena_strdup(arena, err.text);
}

static void the_assertion_gives_upstreams_reasons(void **state)
{
    static const struct {
        const char *word, *entries;
        const char *nvidias, *nvidias_mode, *ours, *ours_mode; /* "": it is so */
    } cases[] = {
        { "all of it", ON("[0]", "1g.10gb: 7") ON("[1]", "") OFF("[2, 3]"), "", "", "", "" },
        { "only some GPUs", ON("[0]", "1g.10gb: 7"), NOT_ALL, "", "", "" },
        { "another number", ON("[0]", "1g.10gb: 6"), NOT_ALL, "", NOT_ALL, "" },
        { "another profile", ON("[1]", "1g.10gb: 1"), NOT_ALL, "", NOT_ALL, "" },
        { "more profiles", ON("[0]", "1g.10gb: 7, 2g.20gb: 1"), NOT_ALL, "", NOT_ALL, "" },
        { "an unknown profile", ON("[0]", "1g.5gb: 7"), NOT_ALL, "", NOT_ALL, "" },
        { "another spelling", ON("[0]", "1c.1g.10gb: 7, 2g.20gb: 0"), NOT_ALL, "", "", "" },
        { "mode", ENTRY("devices: [0, 2], mig-enabled: true, mig-devices: {}"), MODE, MODE, MODE,
          MODE },
        { "mode off", OFF("[1]"), MODE, MODE, MODE, MODE },
        { "a T4", ON("[3]", ""), CAPABLE, CAPABLE, CAPABLE, CAPABLE },
        { "a T4 is off", OFF("[3]"), NOT_ALL, "", "", "" },
        { "a T4 among all", ALL(""), MODE, MODE, MODE, MODE },
        { "a T4 behind a filter", ONLY("0x1EB810DE", ""), CAPABLE, CAPABLE, "", "" },
        { "no GPU", ON("[9]", ""), NOT_ALL, "", NONE, NONE },
        { "T36", ONLY("foo", ""), NOT_ALL, "", NONE, NONE },
        { "the later entry counts", ON("[0]", "1g.10gb: 1") ON("[0]", "1g.10gb: 7"), NOT_ALL, "",
          "", "" },
        { "entries that disagree", OFF("all") ON("[0]", "1g.10gb: 7"), MODE, MODE, MODE, MODE },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(16));
        const struct {
            enum mig_assertion rule;
            enum mig_scope scope;
            const char *want;
        } asks[] = {
            { MIG_ASSERT_NVIDIAS, MIG_SCOPE_ALL, cases[i].nvidias },
            { MIG_ASSERT_NVIDIAS, MIG_SCOPE_MODE_ONLY, cases[i].nvidias_mode },
            { MIG_ASSERT_OURS, MIG_SCOPE_ALL, cases[i].ours },
            { MIG_ASSERT_OURS, MIG_SCOPE_MODE_ONLY, cases[i].ours_mode },
        };
        for (size_t k = 0; k < ARRAY_LEN(asks); k++) {
            const char *got = answer(cases[i].entries, asks[k].rule, asks[k].scope, &arena);
            if (!text_equal(got, asks[k].want))
                fail_msg("%s, %zu: wanted '%s', got '%s'", cases[i].word, k, asks[k].want, got);
        }
    }
}

/* T24: three compute instances in one GPU instance, and one beside them. */
static void compute_instances_are_devices_of_their_own(void **state)
{
    static const struct {
        const char *entry;
        int want;
    } cases[] = {
        { ALL("1c.3g.40gb: 3, 1g.10gb: 1"), 0 },
        { ALL("3g.40gb: 3, 1g.10gb: 1"), -ENODATA },
        { ALL("1c.3g.40gb: 3"), -ENODATA },
        { ALL("1g.10gb: 1"), -ENODATA },
        { ALL("1c.3g.40gb: 2, 1g.10gb: 1"), -ENODATA },
    };
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(16));
    struct mig_node *node = boards(&arena, "1xh100-80gb");
    struct mig_gpu_instance *gi = board_put_empty(&node->gpus[0], "3g.40gb", 0);

    for (uint32_t i = 0; i < 3; i++)
        board_cut(gi, 0, i);
    board_put(&node->gpus[0], "1g.10gb", 4);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (mig_config_assert(parse(cases[i].entry, &arena), node, MIG_ASSERT_NVIDIAS,
                              MIG_SCOPE_ALL, &arena, NULL) != cases[i].want)
            fail_msg("%s", cases[i].entry);
}

/* T14: a T4 beside H100s, which have what is wanted. */
static void beside_a_t4_only_our_rule_is_ever_content(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(16));
    struct mig_node *node = boards(&arena, "2xh100-80gb,1xt4");
    const struct mig_config *config = parse(ALL("1g.10gb: 7"), &arena);
    struct err err = {};

    seven(&node->gpus[0]);
    seven(&node->gpus[1]);
    assert_int_equal(mig_config_assert(config, node, MIG_ASSERT_OURS, MIG_SCOPE_ALL, &arena, &err),
                     0);
    assert_int_equal(
        mig_config_assert(config, node, MIG_ASSERT_NVIDIAS, MIG_SCOPE_ALL, &arena, &err), -ENODATA);
    assert_string_equal(err.text, CAPABLE);
}

/* T25, T23: what upstream builds anew with each apply. */
static void names_are_compared_by_what_they_mean(void **state)
{
    static const char *const same[] = {
        ALL("1g.10gb: 7"),
        ALL("1c.1g.10gb: 7"),
        ALL("01g.010gb: 7"),
        ALL("1g.10gb: 7, 2g.20gb: 0"),
        ALL("1g.10gb: 3, 1c.1g.10gb: 4"),
    };

    for (size_t i = 0; i < ARRAY_LEN(same); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(16));
        struct mig_node *node = boards(&arena, "1xh100-80gb");
        seven(&node->gpus[0]);
        assert_int_equal(mig_config_assert(parse(same[i], &arena), node, MIG_ASSERT_NVIDIAS,
                                           MIG_SCOPE_ALL, &arena, NULL),
                         0);
    }
}

static void an_old_name_is_the_new_one(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(16));
    struct mig_node *node = boards(&arena, "1xgb200");
    const char *now = node->gpus[0].profiles[0].name;
    const char *was = text_equal(now, "1g.23gb") ? "1g.24gb" : "1g.23gb";
    const char *entry =
        arena_printf(&arena, "  - {devices: all, mig-enabled: true, mig-devices: {%s: 1}}\n", was);

    board_put(&node->gpus[0], now, 0);
    assert_int_equal(mig_config_assert(parse(entry, &arena), node, MIG_ASSERT_NVIDIAS,
                                       MIG_SCOPE_ALL, &arena, NULL),
                     0);
}

static void instances_without_devices_are_not_seen(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(16));
    struct mig_node *node = boards(&arena, "1xh100-80gb");

    board_put_empty(&node->gpus[0], "1g.10gb", 0);
    assert_int_equal(mig_config_assert(parse(ALL(""), &arena), node, MIG_ASSERT_NVIDIAS,
                                       MIG_SCOPE_ALL, &arena, NULL),
                     0);
}

static void a_node_without_gpus_is_what_any_configuration_says(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(16));
    const struct mig_node *node = boards(&arena, "");
    const struct mig_config *config = parse(ALL("1g.10gb: 7"), &arena);

    for (int rule = MIG_ASSERT_NVIDIAS; rule <= MIG_ASSERT_OURS; rule++)
        assert_int_equal(
            mig_config_assert(config, node, (enum mig_assertion)rule, MIG_SCOPE_ALL, &arena, NULL),
            0);
}

static void a_gpu_that_cannot_be_read_is_never_as_it_should_be(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(16));
    struct mig_node *node = boards(&arena, "1xh100-80gb");
    struct err err = {};

    node->gpus[0].problem = "GPU is lost";
    assert_int_equal(mig_config_assert(parse(OFF("all"), &arena), node, MIG_ASSERT_OURS,
                                       MIG_SCOPE_MODE_ONLY, &arena, &err),
                     -ENODATA);
    assert_string_equal(err.text, "GPU 0: GPU is lost");
}

/* ---- without memory ---- */

static void without_memory_no_wish_is_half_made(void **state)
{
    auto_(arena_done) struct arena base = ARENA_MAX(MIB(16));
    const struct mig_node *node = assorted(&base);
    const struct mig_config *config =
        parse(ALL("1g.10gb: 7, 2g.20gb: 1") ON("[0, 1, 2, 7]", "9g.9gb: 1") OFF("[3]"), &base);
    int r = -ENOMEM;

    for (size_t bytes = 0; r != 0; bytes += 8) {
        auto_(arena_done) struct arena arena = ARENA_MAX(bytes);
        struct mig_wishes wishes = {};
        struct err err = {};
        r = mig_wishes_make(config, node, MIG_LENIENT, MIG_SCOPE_ALL, &arena, &wishes, &err);
        assert_true(r == 0 || r == -ENOMEM);
        assert_int_equal(err.code, -r);
        assert_true(r == 0 || !wishes.wishes);
        assert_in_range(bytes, 0, MIB(1));
    }
    r = -ENOMEM;
    for (unsigned long n = 1; r == -ENOMEM; n++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
        mem_fail_from(n);
        r = mig_config_assert(config, node, MIG_ASSERT_OURS, MIG_SCOPE_ALL, &arena, NULL);
        mem_fail_from(0);
        assert_true(r == -ENODATA || r == -ENOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_gpu_gets_the_last_entry_that_is_about_it),
        cmocka_unit_test(what_upstream_overlooks_is_refused_or_noted),
        cmocka_unit_test(a_gpu_without_mig_is_passed_over_unless_it_is_named),
        cmocka_unit_test(entries_that_disagree_about_a_gpus_mode_are_refused),
        cmocka_unit_test(for_the_mode_only_profiles_do_not_matter),
        cmocka_unit_test(a_gpu_that_cannot_be_read_is_left_to_the_planner),
        cmocka_unit_test(a_wish_says_where_it_was_said),
        cmocka_unit_test(more_profiles_than_any_gpu_has_are_refused),
        cmocka_unit_test(the_assertion_gives_upstreams_reasons),
        cmocka_unit_test(compute_instances_are_devices_of_their_own),
        cmocka_unit_test(beside_a_t4_only_our_rule_is_ever_content),
        cmocka_unit_test(names_are_compared_by_what_they_mean),
        cmocka_unit_test(an_old_name_is_the_new_one),
        cmocka_unit_test(instances_without_devices_are_not_seen),
        cmocka_unit_test(a_node_without_gpus_is_what_any_configuration_says),
        cmocka_unit_test(a_gpu_that_cannot_be_read_is_never_as_it_should_be),
        cmocka_unit_test(without_memory_no_wish_is_half_made),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
