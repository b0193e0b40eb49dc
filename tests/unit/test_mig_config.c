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
#include "share/mig_config.h"

#define PREFIX                                                                                     \
    "error parsing config file: unmarshal error: error unmarshaling JSON: while decoding JSON: "
#define FILE_WITH(entry)   "version: v1\nmig-configs:\n  a:\n  - " entry "\n"
#define WITH_COUNTS(map)   FILE_WITH("{devices: all, mig-enabled: true, mig-devices: " map "}")
#define WITH_DEVICES(list) FILE_WITH("{devices: " list ", mig-enabled: false}")
#define WITH_FILTER(text)  FILE_WITH("{devices: all, mig-enabled: false, device-filter: " text "}")

struct parse_case {
    const char *text, *error, *want;
};

/* A file as one line of text. */
static void describe(const struct mig_config_file *file, struct buf *out)
{
    for (size_t i = 0; i < file->n_configs; i++) {
        const struct mig_config *config = &file->configs[i];
        buf_printf(out, "%s:", config->name);
        for (size_t k = 0; k < config->n_entries; k++) {
            const struct mig_config_entry *entry = &config->entries[k];
            buf_printf(out, " [%s", entry->all_devices ? "all" : "");
            for (size_t n = 0; n < entry->n_devices; n++)
                buf_printf(out, "%s%lld", n > 0 ? "," : "", (long long)entry->devices[n]);
            buf_printf(out, " mig=%d", entry->mig_enabled);
            for (size_t n = 0; n < entry->n_filters; n++)
                buf_printf(out, " %s%s", entry->filters[n].valid ? "" : "!",
                           entry->filters[n].text);
            for (size_t n = 0; n < entry->n_counts; n++)
                buf_printf(out, " %sx%u%s", entry->counts[n].profile, entry->counts[n].count,
                           entry->counts[n].possible ? "" : "?");
            buf_add_char(out, ']');
        }
        buf_add_char(out, ';');
    }
}

static void check_case(const struct parse_case *c)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIG_CONFIG_ARENA_BYTES);
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
    struct mig_config_file *file = NULL;
    struct err err = {};
    int r = mig_config_parse(span_of(c->text), "f", &arena, &file, &err);

    if (c->error && (r != -EINVAL || !strstr(err.text, c->error)))
        fail_msg("%s\nwanted \"%s\", got %d \"%s\"", c->text, c->error, r, err.text);
    if (c->error)
        return assert_null(file);
    if (r != 0)
        fail_msg("%s\n%s", c->text, err.text);
    describe(file, &out);
    if (c->want && !strstr(buf_text(&out), c->want))
        fail_msg("%s\nwanted \"%s\" in \"%s\"", c->text, c->want, buf_text(&out));
}

#define CHECK(cases)                                                                               \
    for (size_t i_ = 0; i_ < ARRAY_LEN(cases); i_++)                                               \
    check_case(&(cases)[i_])

static void a_file_becomes_configurations_in_its_order(void **state)
{
    static const struct parse_case cases[] = {
        { "version: v1\nmig-configs:\n  two:\n  - devices: [0, 1]\n    mig-enabled: true\n"
          "    device-filter: [\"0x233010DE\", 0x20B010DE:0x134F10DE]\n"
          "    mig-devices: {1g.10gb: 2, \"3g.40gb\": 1, 1c.2g.20gb+me: 0}\n"
          "  - devices: all\n    mig-enabled: false\n  one:\n  - devices: []\n    mig-enabled: "
          "no\n",
          NULL,
          "two: [0,1 mig=1 0x233010DE 0x20B010DE:0x134F10DE 1g.10gbx2 3g.40gbx1 1c.2g.20gb+mex0] "
          "[all mig=0];one: [ mig=0];" },
        { "", NULL, "" },
        { "# nothing\n", NULL, "" },
        { "version: v1", NULL, "" },
        { WITH_COUNTS("{}"), NULL, "a: [all mig=1];" },
        { WITH_DEVICES("[1.0, -1, 1, ~]"), NULL, "[1,-1,1,0 mig=0]" },
        { WITH_COUNTS("{1g.10gb: 1e2, 2g.20gb: 010, 3g.40gb: , 7g.80gb: 1.0}"), NULL,
          "1g.10gbx100 2g.20gbx8 3g.40gbx0 7g.80gbx1" },
        { WITH_COUNTS("{1g.10gb: 1, 1g.10gb+foo: 1, 0g.0gb: 1}"), NULL, "1g.10gb+foox1?" },
        { WITH_COUNTS("{1g.10gb: 1, 1g.10gb: 3}"), NULL, "1g.10gbx3]" },
        { FILE_WITH("{devices: all, mig-enabled: }"), NULL, "[all mig=0]" },
        { FILE_WITH("{devices: all, mig-enabled: on, mig-devices: {1g.10gb: 1}}"), NULL, "mig=1" },
        { "version: v1\nmig-configs: {1: [{devices: all, mig-enabled: false}], "
          "yes: [{devices: all, mig-enabled: false}]}",
          NULL, "1: [all mig=0];true: [all mig=0];" },
        { "version: v1\nmig-configs: {a: [{devices: all, mig-enabled: false}]}\n---\nx: [", NULL,
          "a: [all mig=0];" },
        { "version: v1\nx-y: &x\n", "unexpected field: x-y", NULL },
        { WITH_FILTER("''"), NULL, "[all mig=0]" },
        { WITH_FILTER("~"), NULL, "[all mig=0]" },
        { WITH_FILTER("[]"), NULL, "[all mig=0]" },
        { WITH_FILTER("['']"), NULL, "[all mig=0 !]" },
        { WITH_FILTER("foo"), NULL, "[all mig=0 !foo]" },
    };

    CHECK(cases);
}

static void each_mistake_has_upstreams_sentence(void **state)
{
    static const struct parse_case cases[] = {
        /* document */
        { "{}", PREFIX "f:1:1: unknown version: ", NULL },
        { "version: v2", PREFIX "f:1:10: unknown version: v2", NULL },
        { "version: ", "unknown version: ", NULL },
        { "version: 1", "json: cannot unmarshal number into Go value of type string", NULL },
        { "mig-configs: {}", "unable to parse with missing 'version' field", NULL },
        { "version: v1\nmig-configs: {}", "f:2:1: at least one entry in 'mig-configs' is required",
          NULL },
        { "version: v1\nmig-configs:", "at least one entry in 'mig-configs' is required", NULL },
        { "version: v1\nmig-configs: {a: []}", "at least one entry in 'a' is required", NULL },
        { "version: v1\nmig-configs: {a: }", "at least one entry in 'a' is required", NULL },
        { "version: v1\nmig-configs: {a: {}}",
          "json: cannot unmarshal object into Go value of type v1.MigConfigSpecSlice", NULL },
        { "version: v1\nfoo: 1", "f:2:1: unexpected field: foo", NULL },
        { "version: v1\nmig-config: {}",
          "unexpected field: mig-config; did you mean `mig-configs`?", NULL },
        { "- a", "json: cannot unmarshal array into Go value of type map[string]json.RawMessage",
          NULL },
        { "version: v1\nx: [",
          "error parsing config file: unmarshal error: error converting YAML to "
          "JSON: yaml: f:3:1: ",
          NULL },
        /* entry */
        { FILE_WITH("{mig-enabled: false}"), PREFIX "f:4:5: missing required field: devices",
          NULL },
        { FILE_WITH("{devices: all}"), "missing required field: mig-enabled", NULL },
        { FILE_WITH("{}"), "missing required field: devices", NULL },
        { FILE_WITH("~"), "missing required field: devices", NULL },
        { FILE_WITH("x"), "json: cannot unmarshal string into Go value of type map[string]", NULL },
        { FILE_WITH("{devices: all, mig-enabled: false, Devices: 1}"),
          "unexpected field: Devices; did you mean `devices`?", NULL },
        { WITH_DEVICES("some"), "f:4:15: invalid string input for 'devices': some", NULL },
        { WITH_DEVICES(""), "invalid string input for 'devices': ", NULL },
        { WITH_DEVICES("0"),
          "(json: cannot unmarshal number into Go value of type string, json: cannot unmarshal "
          "number into Go value of type []int)",
          NULL },
        { WITH_DEVICES("[a]"),
          "(json: cannot unmarshal array into Go value of type string, json: cannot unmarshal "
          "string into Go value of type int)",
          NULL },
        { WITH_DEVICES("[1.5]"), "json: cannot unmarshal number 1.5 into Go value of type int)",
          NULL },
        { WITH_FILTER("0x233010DE"),
          "(json: cannot unmarshal number into Go value of type string, json: cannot unmarshal "
          "number into Go value of type []string); write it in quotes, or it is a number",
          NULL },
        { WITH_FILTER("['0x233010DE', 0x233010DE]"),
          "json: cannot unmarshal number into Go value of type string)", NULL },
        { FILE_WITH("{devices: all, mig-enabled: 'true', mig-devices: {}}"),
          "json: cannot unmarshal string into Go value of type bool", NULL },
        { FILE_WITH("{devices: all, mig-enabled: 1, mig-devices: {}}"),
          "json: cannot unmarshal number into Go value of type bool", NULL },
        { FILE_WITH("{devices: all, mig-enabled: true}"),
          "missing required field 'mig-devices' when 'mig-enabled' is true", NULL },
        { WITH_COUNTS(""), "missing required field 'mig-devices' when 'mig-enabled' is true",
          NULL },
        { FILE_WITH("{devices: all, mig-enabled: false, mig-devices: {1g.5gb: 1}}"),
          "MIG devices included when 'mig-enabled' is false", NULL },
        /* mig-devices */
        { WITH_COUNTS("[]"), "json: cannot unmarshal array into Go value of type types.MigConfig",
          NULL },
        { WITH_COUNTS("{1g.5gb: '1'}"), "json: cannot unmarshal string into Go value of type int",
          NULL },
        { WITH_COUNTS("{1g.5gb: 1.5}"),
          "json: cannot unmarshal number 1.5 into Go value of type int", NULL },
        { WITH_COUNTS("{1g.5gb: 9223372036854775808}"), "into Go value of type int", NULL },
        { WITH_COUNTS("{1g.5gb: -1}"),
          "error validating values in 'mig-devices' field: invalid count for '-1': <nil>", NULL },
        { WITH_COUNTS("{1g.5gb: 0}"),
          "error validating values in 'mig-devices' field: all counts for all MigProfiles are 0",
          NULL },
        { FILE_WITH("{devices: all, mig-enabled: false, mig-devices: {1g.5gb: 0}}"),
          "all counts for all MigProfiles are 0", NULL },
        { WITH_COUNTS("{1g.5gb.me: 1}"),
          "error validating values in 'mig-devices' field: invalid format for '1g.5gb.me': ",
          NULL },
        { WITH_COUNTS("{1g5gb: 1}"), "invalid format for '1g5gb'", NULL },
        { WITH_COUNTS("{1g.5gb+: 1}"), "invalid format for '1g.5gb+'", NULL },
        { WITH_COUNTS("{'1g.5gb+me,me': 1}"), "invalid format for '1g.5gb+me,me'", NULL },
        { WITH_COUNTS("{1g.5gb+me-gfx: 1}"), "invalid format for '1g.5gb+me-gfx'", NULL },
        { WITH_COUNTS("{1g.5gb+1x: 1}"), "invalid format for '1g.5gb+1x'", NULL },
        { WITH_COUNTS("{'': 1}"), "invalid format for ''", NULL },
        { WITH_COUNTS("{' 1g.5gb': 1}"), "invalid format for ' 1g.5gb'", NULL },
        { WITH_COUNTS("{all: 1}"), "invalid format for 'all'", NULL },
    };

    CHECK(cases);
}

static void the_first_complaint_is_by_name_and_every_configuration_is_checked(void **state)
{
    static const struct parse_case cases[] = {
        { "version: v1\nmig-configs: {z: [{}], b: [{devices: all}]}",
          "missing required field: mig-enabled", NULL },
        { "version: v1\nmig-configs: {a: [], b: [{}]}", "missing required field: devices", NULL },
        { "version: v2\nmig-configs: {a: [{}]}", "unknown version: v2", NULL },
    };

    CHECK(cases);
}

static void selection_wants_a_name_unless_there_is_one_only(void **state)
{
    static const char two[] = "version: v1\nmig-configs: {a: [{devices: all, mig-enabled: false}], "
                              "b: [{devices: all, mig-enabled: false}]}";
    static const struct {
        const char *text, *name, *error, *want;
    } cases[] = {
        { WITH_DEVICES("all"), NULL, NULL, "a" },
        { WITH_DEVICES("all"), "", NULL, "a" },
        { two, "b", NULL, "b" },
        { two, "",
          "error selecting MIG config: missing required flag 'selected-config' when more "
          "than one config available",
          NULL },
        { two, "c", "error selecting MIG config: selected mig-config not present: c", NULL },
        { "", "", "error selecting MIG config: selected mig-config not present: ", NULL },
        { "", "x", "error selecting MIG config: selected mig-config not present: x", NULL },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
        const struct mig_config *config = NULL;
        struct mig_config_file *file = NULL;
        struct err err = {};
        assert_int_equal(mig_config_parse(span_of(cases[i].text), "f", &arena, &file, &err), 0);
        int r = mig_config_select(file, cases[i].name, &config, &err);
        assert_int_equal(r, cases[i].error ? -ENOENT : 0);
        if (cases[i].error)
            assert_string_equal(err.text, cases[i].error);
        else
            assert_string_equal(config->name, cases[i].want);
    }
}

static void an_entry_matches_by_index_and_by_filter(void **state)
{
    enum { H100 = 0x233010DE, BOARD = 0x16C110DE };
    static const struct {
        const char *text;
        uint32_t index, device, board;
        bool matches;
    } cases[] = {
        { WITH_DEVICES("all"), 7, H100, BOARD, true },
        { WITH_DEVICES("[0, 2]"), 2, H100, BOARD, true },
        { WITH_DEVICES("[0, 2]"), 1, H100, BOARD, false },
        { WITH_DEVICES("[-1]"), UINT32_MAX, H100, BOARD, false },
        { WITH_FILTER("'0x233010DE'"), 0, H100, BOARD, true },
        { WITH_FILTER("'0X233010de'"), 0, H100, BOARD, true },
        { WITH_FILTER("'590352606'"), 0, H100, BOARD, true },
        { WITH_FILTER("'0x2330_10DE'"), 0, H100, BOARD, true },
        { WITH_FILTER("'0x20B010DE'"), 0, H100, BOARD, false },
        { WITH_FILTER("['0x20B010DE', '0x233010DE']"), 0, H100, BOARD, true },
        { WITH_FILTER("'0x233010DE:0x16C110DE'"), 0, H100, BOARD, true },
        { WITH_FILTER("'0x233010DE:0x16C210DE'"), 0, H100, BOARD, false },
        { WITH_FILTER("'0x233010DE:0x16C110DE:1'"), 0, H100, BOARD, false },
        { WITH_FILTER("'0x2330'"), 0, H100, BOARD, false },
        { WITH_FILTER("'233010DE'"), 0, H100, BOARD, false },
        { WITH_FILTER("' 0x233010DE'"), 0, H100, BOARD, false },
        { WITH_FILTER("'0x1233010DE'"), 0, H100, BOARD, false },
        { WITH_FILTER("foo"), 0, 0, 0, false },
        { WITH_FILTER("['']"), 0, H100, BOARD, false },
        { WITH_FILTER("''"), 0, H100, BOARD, true },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
        struct mig_config_file *file = NULL;
        struct err err = {};
        assert_int_equal(mig_config_parse(span_of(cases[i].text), "f", &arena, &file, &err), 0);
        if (mig_config_matches(&file->configs[0].entries[0], cases[i].index, cases[i].device,
                               cases[i].board) != cases[i].matches)
            fail_msg("%s", cases[i].text);
    }
}

/* ---- what the check says beside errors ---- */

static void what_is_hardly_meant_is_warned_of(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { WITH_FILTER("foo"), "f:4:55: device-filter 'foo' matches no GPU" },
        { WITH_DEVICES("[0, 0]"), "GPU 0 is in the list already" },
        { WITH_DEVICES("[-1]"), "no GPU has the index -1" },
        { WITH_DEVICES("[]"), "an empty list means no GPU" },
        { WITH_COUNTS("{1g.10gb: 010}"), "`010` is read as 8" },
        { WITH_COUNTS("{1g.10gb: 1, 1g.10gb: 2}"), "`1g.10gb` is said again in line 4" },
        { WITH_COUNTS("{1g.10gb+foo: 1}"), "no GPU has the attribute 'foo'" },
        { "version: v1\nmig-configs:\n  a:\n  - {devices: all, mig-enabled: false}\n"
          "  - {devices: [0], mig-enabled: true, mig-devices: {}}\n",
          "f:5:5: this entry and that of line 4 want MIG both on and off for one GPU" },
        { "version: v1\nmig-configs:\n  a:\n  - {devices: [1], mig-enabled: true, mig-devices: "
          "{}}\n"
          "  - {devices: [0, 1], mig-enabled: true, mig-devices: {}}\n",
          "are about one GPU; the later one wins" },
        { "version: v1\nmig-configs: {a: [{devices: all, mig-enabled: false}], a: [{devices: all, "
          "mig-enabled: false}]}",
          "configuration `a` is said again in line 2" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
        struct findings findings = { .arena = &arena };
        struct err err = {};
        bool found = false;
        assert_int_equal(mig_config_check(span_of(cases[i].text), &findings, &err), 0);
        for (size_t k = 0; k < findings.n; k++)
            found |= strstr(finding_sentence(&arena, &findings.items[k], "f"), cases[i].want) != 0;
        if (!found)
            fail_msg("%s\nwanted %s", cases[i].text, cases[i].want);
    }
}

static void a_check_names_every_mistake(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    struct findings findings = { .arena = &arena };
    static const char text[] = "version: v1\nfoo: 1\nmig-configs:\n  a:\n  - devices: some\n"
                               "    mig-enabled: x\n    mig-devices: {1g5gb: -1, 1g: 1}\n  b: []\n";
    static const unsigned lines[] = { 2, 5, 6, 7, 7, 7, 8 };

    assert_int_equal(mig_config_check(span_of(text), &findings, NULL), ARRAY_LEN(lines));
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        assert_int_equal(findings.items[i].place.line, lines[i]);
}

static void limits_are_sentences(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIG_CONFIG_ARENA_BYTES);
    auto_(buf_done) struct buf text = BUF_MAX(MIB(2));
    struct mig_config_file *file = NULL;
    struct err err = {};

    buf_add_text(&text, "version: v1\nmig-configs: {a: [{mig-enabled: false, devices: [");
    for (int i = 0; i <= MIG_CONFIG_MAX_LIST; i++)
        buf_printf(&text, "%d,", i);
    buf_add_text(&text, "]}]}");
    assert_int_equal(mig_config_parse(buf_span(&text), "f", &arena, &file, &err), -EINVAL);
    assert_non_null(strstr(err.text, "1025 devices, more than 1024"));

    buf_reset(&text);
    buf_add_text(&text, "version: v1\nmig-configs: {a: &a [{mig-enabled: false, devices: all}]");
    for (int i = 0; i < MIG_CONFIG_MAX_CONFIGS; i++)
        buf_printf(&text, ", c%d: *a", i);
    buf_add_text(&text, "}");
    assert_int_equal(mig_config_parse(buf_span(&text), "f", &arena, &file, &err), -EINVAL);
    assert_non_null(strstr(err.text, "4097 configurations, more than 4096"));
}

static void lack_of_memory_is_said_wherever_it_strikes(void **state)
{
    static const char *const texts[] = {
        "version: v1\nmig-configs:\n  a:\n  - devices: [0, 1]\n    mig-enabled: true\n"
        "    device-filter: ['0x233010DE', x]\n    mig-devices: {1g.10gb: 010, 1g.10gb: 2}\n",
        "version: v1\nx: y\nmig-configs: {a: [{devices: 0, mig-enabled: [], device-filter: {}}]}",
    };

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        unsigned long n = 1;
        for (; n < 1000; n++) {
            auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
            struct mig_config_file *file = NULL;
            struct err err = {};
            mem_fail_from(n);
            int r = mig_config_parse(span_of(texts[i]), "f", &arena, &file, &err);
            mem_fail_from(0);
            if (r != -ENOMEM)
                break;
            assert_null(file);
            assert_int_equal(err.code, ENOMEM);
        }
        assert_in_range(n, 2, 999);
        size_t bytes = 0;
        for (int r = -ENOMEM; r == -ENOMEM; bytes += 16) {
            auto_(arena_done) struct arena arena = ARENA_MAX(bytes);
            struct mig_config_file *file = NULL;
            struct err err = {};
            r = mig_config_parse(span_of(texts[i]), "f", &arena, &file, &err);
            assert_true(r == 0 || err.code == -r);
        }
        assert_in_range(bytes, 1000, MIB(1));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_becomes_configurations_in_its_order),
        cmocka_unit_test(each_mistake_has_upstreams_sentence),
        cmocka_unit_test(the_first_complaint_is_by_name_and_every_configuration_is_checked),
        cmocka_unit_test(selection_wants_a_name_unless_there_is_one_only),
        cmocka_unit_test(an_entry_matches_by_index_and_by_filter),
        cmocka_unit_test(what_is_hardly_meant_is_warned_of),
        cmocka_unit_test(a_check_names_every_mistake),
        cmocka_unit_test(limits_are_sentences),
        cmocka_unit_test(lack_of_memory_is_said_wherever_it_strikes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
