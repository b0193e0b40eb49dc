/* Every mistake of a plugin's config file, and what is legal but hardly meant. */
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
#include "share/config.h"
#include "share/finding.h"

/* The findings of a file, one a line: `error 4:5: words`. */
static int check(const char *text, struct buf *out)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(CONFIG_ARENA_BYTES);
    struct findings findings = { .arena = &arena };
    struct err err = {};
    int r = config_check(span_of(text), &findings, &err);

    if (r < 0)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < findings.n; i++) {
        const struct finding *finding = &findings.items[i];
        buf_printf(out, "%s %u:%u: %s\n", finding->kind == FINDING_WARNING ? "warning" : "error",
                   finding->place.line, finding->place.column, finding_words(&arena, finding));
    }
    return r;
}

struct check_case {
    const char *text, *want;
    int n_errors;
};

static void check_case(const struct check_case *c)
{
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
    int r = check(c->text, &out);

    if (!strstr(buf_text(&out), c->want) || r != c->n_errors)
        fail_msg("%s\nwanted %d errors and \"%s\", got %d in\n%s", c->text, c->n_errors, c->want, r,
                 buf_text(&out));
}

#define CHECK(cases)                                                                               \
    for (size_t i_ = 0; i_ < ARRAY_LEN(cases); i_++)                                               \
    check_case(&(cases)[i_])
#define SHARE(items) "sharing: {timeSlicing: {resources: [" items "]}}"

static void a_good_file_has_no_findings(void **state)
{
    static const char *const texts[] = {
        "",
        "version: v1\n",
        "version: v1\nflags:\n  migStrategy: none\nsharing:\n  timeSlicing:\n"
        "    renameByDefault: false\n    failRequestsGreaterThanOne: false\n    resources:\n"
        "      - name: nvidia.com/gpu\n        replicas: 4\n",
        "flags: {migStrategy: mixed}\n" SHARE("{name: nvidia.com/mig-1g.10gb, replicas: 2}"),
        "flags: {gfd: {sleepInterval: 60s}, plugin: {deviceListStrategy: [envvar, cdi-cri]}}",
        "sharing: {mps: {resources: [{name: gpu, replicas: 10}]}}",
        "# a comment\n%YAML 1.1\n---\nversion: v1\n",
    };

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
        assert_int_equal(check(texts[i], &out), 0);
        assert_string_equal(buf_text(&out), "");
    }
}

static void every_mistake_is_named_in_order_of_place(void **state)
{
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
    static const char text[] = "version: v3\n"
                               "flags:\n"
                               "  migStrategy: mixd\n"
                               "  failOnInitError: \"yes\"\n"
                               "  plugin:\n"
                               "    deviceListStrategy: [envvar, cdi]\n"
                               "    deviceIDStrategy: serial\n"
                               "sharing:\n"
                               "  mps:\n"
                               "    resources:\n"
                               "    - name: gpu\n"
                               "      replicas: 1\n"
                               "    - replicas: \"2\"\n"
                               "imex: {channelIDs: [1]}\n";
    static const char *const wants[] = {
        "error 1:10: unknown version: v3",
        "error 3:16: unknown MIG strategy: mixd",
        "error 4:20: json: cannot unmarshal string into Go struct field",
        "error 6:25: invalid --device-list-strategy option: invalid strategy: cdi",
        "error 7:23: invalid --device-id-strategy option: serial",
        "error 12:17: number of replicas must be >= 2",
        "error 13:7: no resource name specified",
        "error 13:17: json: cannot unmarshal string into Go struct field "
        "Sharing.sharing.mps of type int",
        "error 14:20: invalid IMEX channel IDs",
    };
    const char *at = NULL;

    assert_int_equal(check(text, &out), ARRAY_LEN(wants));
    at = buf_text(&out);
    for (size_t i = 0; i < ARRAY_LEN(wants); i++) {
        const char *found = strstr(at, wants[i]);
        if (!found)
            fail_msg("wanted \"%s\" next in\n%s", wants[i], at);
        at = found + strlen(wants[i]);
    }
}

static void unknown_keys_name_the_nearest_known_one(void **state)
{
    static const struct check_case cases[] = {
        { SHARE("{name: gpu, replicas: 2, replica: 3}"),
          "warning 1:62: unknown key `replica`, did you mean `replicas`?", 0 },
        { SHARE("{name: gpu, Replicas: 3}"), "unknown key `Replicas`, did you mean `replicas`?",
          1 },
        { "flags: {migstrategi: none}", "unknown key `migstrategi`, did you mean `migStrategy`?",
          0 },
        { "flags: {passDeviceSpecs: true}",
          "warning 1:9: unknown key `passDeviceSpecs` here, it belongs under `flags.plugin`", 0 },
        { "timeSlicing: {}", "unknown key `timeSlicing` here, it belongs under `sharing`", 0 },
        { "sharing: {resources: []}", "unknown key `resources`, ignored", 0 },
        { "sharing: {timeSlicing: {replicas: 4, resources: [{name: gpu, replicas: 2}]}}",
          "unknown key `replicas` here, it belongs under `an item of "
          "sharing.timeSlicing.resources`",
          0 },
        { "bananas: 3", "unknown key `bananas`, ignored", 0 },
        { "flags: {MIGSTRATEGY: none, migStrategy: single}",
          "warning 1:9: `migStrategy` in line 1 is the same key and the one that counts", 0 },
        { SHARE("{name: gpu, replicas: 2, replicas: 3}"),
          "warning 1:49: key `replicas` is said again in line 1, and only that one counts", 0 },
    };

    CHECK(cases);
}

static void what_has_no_effect_is_warned_of(void **state)
{
    static const struct check_case cases[] = {
        { SHARE("{name: gpu, replicas: 2, devices: [0]}"),
          "warning 1:71: Customizing the 'devices' field in sharing.timeSlicing.resources is not "
          "yet supported in the config. Ignoring...; `sharing.perDevice: true` honours it",
          0 },
        { SHARE("{name: gpu, replicas: 2, rename: big}"), "Setting the 'rename' field", 0 },
        { "resources: {gpus: [{pattern: A100*, name: a100}]}",
          "Customizing the 'resources' field is not yet supported in the config. Ignoring...", 0 },
        { "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 2}]}, mps: {resources: "
          "[{name: "
          "gpu, replicas: 2}]}}",
          "warning 1:24: sharing.timeSlicing has no effect beside sharing.mps", 0 },
        { SHARE("{name: gpu, replicas: 2}, {name: gpu, replicas: 3}"),
          "nvidia.com/gpu is shared twice, in line 1 too; the larger number of replicas counts, 3",
          0 },
        { SHARE("{name: tpu, replicas: 2}"), "nothing is named nvidia.com/tpu", 0 },
        { "flags: {migStrategy: single}\n" SHARE("{name: mig-1g.10gb, replicas: 2}"),
          "there is no nvidia.com/mig-1g.10gb under migStrategy single", 0 },
        { "version: v1\n---\nflags: {migStrategy: x}\n",
          "warning 2:1: only the first document of a file is read; what follows has no effect", 0 },
        { "---\n---\nflags: {}\n", "warning 2:1: only the first document", 0 },
    };

    CHECK(cases);
}

static void what_is_hardly_meant_is_warned_of(void **state)
{
    static const struct check_case cases[] = {
        { "flags: {gfd: {sleepInterval: 60}}",
          "warning 1:30: a sleepInterval of 60 ns, less than a second; a number without a unit "
          "means nanoseconds",
          0 },
        { SHARE("{name: gpu, replicas: 010}"), "warning 1:59: `010` is read as 8", 0 },
        { "sharing: {mps: {resources: [{name: gpu, replicas: 49}]}}",
          "invalid device maximum allowed replicas exceeded: 49 > 48", 0 },
        { "sharing: {mps: {resources: [{name: mig-1g.10gb, replicas: 4}]}}",
          "MIG devices cannot be shared by MPS; share MIG devices by timeSlicing", 0 },
        { "flags: {deviceDiscoveryStrategy: vfio}",
          "only feature discovery knows vfio; the device plugin refuses it", 0 },
        { "sharing: {timeSlicing: {renameByDefault: true, resources: [{name: "
          "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz, replicas: 2}]}}",
          ".shared is longer than 63 characters", 0 },
    };

    CHECK(cases);
}

static void combinations_that_upstream_refuses_are_errors(void **state)
{
    static const struct check_case cases[] = {
        { "flags: {migStrategy: mixed}\nsharing: {mps: {resources: [{name: gpu, replicas: 2}]}}",
          "error 1:22: using --mig-strategy=mixed is not supported with MPS", 1 },
        { "flags: {plugin: {deviceListStrategy: []}}", "no device list strategy specified", 1 },
        { "sharing: {perDevice: true, timeSlicing: {resources: [{name: gpu, replicas: 2, devices: "
          "[0]}, {name: gpu, replicas: 3, devices: [0]}]}}",
          "devices of nvidia.com/gpu are in the entry of line 1 too", 1 },
    };

    CHECK(cases);
}

static void words_that_are_booleans_or_numbers_say_so(void **state)
{
    static const struct check_case cases[] = {
        { SHARE("{name: y, replicas: 2}"),
          "cannot unmarshal bool into Go struct field Sharing.sharing.timeSlicing of type string; "
          "write it in quotes",
          1 },
        { "flags: {migStrategy: off}", "write it in quotes", 1 },
        { "flags: {plugin: {passDeviceSpecs: 'no'}}", "want true or false, without quotes", 1 },
        { SHARE("{name: gpu, replicas: '4'}"), "write the number without quotes", 1 },
    };

    CHECK(cases);
}

static void what_is_not_yaml_is_one_sentence_with_a_place(void **state)
{
    static const struct check_case cases[] = {
        { "a: b\n  c: d\n", "error 1:4: ", 1 },
        { "flags:\n\tmigStrategy: x\n", "error 2:", 1 },
        { "a: &a [*a]\n", "error 1:", 1 },
        { "a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
          "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
          "error 1:", 1 },
        { "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
          "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
          "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n",
          "error ", 1 },
    };

    CHECK(cases);
}

static void a_flood_of_mistakes_is_cut_off(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(CONFIG_ARENA_BYTES);
    auto_(buf_done) struct buf text = BUF_MAX(MIB(1));
    struct findings findings = { .arena = &arena };

    buf_add_text(&text, "flags:\n");
    for (int i = 0; i < 1000; i++)
        buf_printf(&text, "  key%d: x\n", i);
    buf_add_text(&text, "sharing: {timeSlicing: {}}\n");
    assert_int_equal(config_check(buf_span(&text), &findings, NULL), 1);
    assert_int_equal(findings.n_warnings, FINDINGS_MAX_WARNINGS);
    assert_int_equal(findings.n_left_out, 1000 - FINDINGS_MAX_WARNINGS);
}

static void lack_of_memory_is_said_wherever_it_strikes(void **state)
{
    static const char text[] = "foo: 1\nflags: {migStrategy: x, gfd: {sleepInterval: 6}}\n---\nx\n";
    unsigned long n = 1;

    for (; n < 1000; n++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(CONFIG_ARENA_BYTES);
        struct findings findings = { .arena = &arena };
        struct err err = {};
        mem_fail_from(n);
        int r = config_check(SPAN(text), &findings, &err);
        mem_fail_from(0);
        if (r != -ENOMEM)
            break;
        assert_int_equal(err.code, ENOMEM);
    }
    assert_in_range(n, 2, 999);
    size_t bytes = 0;
    for (int r = -ENOMEM; r == -ENOMEM; bytes += 16) {
        auto_(arena_done) struct arena arena = ARENA_MAX(bytes);
        struct findings findings = { .arena = &arena };
        struct err err = {};
        r = config_check(SPAN(text), &findings, &err);
        assert_true(r >= 0 || err.code == -r);
    }
    assert_in_range(bytes, 1000, MIB(1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_file_has_no_findings),
        cmocka_unit_test(every_mistake_is_named_in_order_of_place),
        cmocka_unit_test(unknown_keys_name_the_nearest_known_one),
        cmocka_unit_test(what_has_no_effect_is_warned_of),
        cmocka_unit_test(what_is_hardly_meant_is_warned_of),
        cmocka_unit_test(combinations_that_upstream_refuses_are_errors),
        cmocka_unit_test(words_that_are_booleans_or_numbers_say_so),
        cmocka_unit_test(what_is_not_yaml_is_one_sentence_with_a_place),
        cmocka_unit_test(a_flood_of_mistakes_is_cut_off),
        cmocka_unit_test(lack_of_memory_is_said_wherever_it_strikes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
