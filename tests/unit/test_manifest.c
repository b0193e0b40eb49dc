/* What a file is, and everything that is wrong with it, with places in that file. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "share/manifest.h"

static int check(struct span text, struct buf *out)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MANIFEST_ARENA_BYTES);
    struct findings findings = { .arena = &arena };
    struct manifest manifest;
    struct err err = {};
    int r = manifest_check(text, &findings, &manifest, &err);

    if (r < 0)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < manifest.n_subjects; i++)
        buf_printf(out, "%u: %s\n", manifest.subjects[i].place.line, manifest.subjects[i].what);
    for (size_t i = 0; i < findings.n; i++) {
        const struct finding *finding = &findings.items[i];
        buf_printf(out, "%s %u:%u: %s\n", finding->kind == FINDING_WARNING ? "warning" : "error",
                   finding->place.line, finding->place.column, finding_words(&arena, finding));
    }
    return r;
}

struct check_case {
    const char *text;
    int n_errors;
    const char *wants[5];
};

static void check_case(const struct check_case *c)
{
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
    int r = check(span_of(c->text), &out);

    if (r != c->n_errors)
        fail_msg("%s\nwanted %d errors, got %d in\n%s", c->text, c->n_errors, r, buf_text(&out));
    for (size_t i = 0; i < ARRAY_LEN(c->wants) && c->wants[i]; i++)
        if (!strstr(buf_text(&out), c->wants[i]))
            fail_msg("%s\nwanted \"%s\" in\n%s", c->text, c->wants[i], buf_text(&out));
}

#define CHECK(cases)                                                                               \
    for (size_t i_ = 0; i_ < ARRAY_LEN(cases); i_++)                                               \
    check_case(&(cases)[i_])

#define CONFIG_MAP(data) "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata:\n" data
#define POLICY(spec)                                                                               \
    "apiVersion: nvidia.com/v1\nkind: ClusterPolicy\nmetadata: {name: p}\nspec:\n" spec

static void files_are_known_by_what_they_hold(void **state)
{
    static const struct check_case cases[] = {
        { "version: v1\nflags: {}\n", 0, { "1: device plugin configuration\n" } },
        { "", 0, { "1: device plugin configuration\n" } },
        { "version: v1\nmig-configs: {a: [{devices: all, mig-enabled: false}]}\n",
          0,
          { "1: MIG configurations\n" } },
        { "version: v1\nmig-configs: {a: []}\n", 1, { "error 2:15: at least one entry in 'a'" } },
        { "version: v1\nhooks: {apply-start: [{command: a}]}\n", 0, { "1: MIG hooks\n" } },
        { "hooks:\n  apply-strat: [{command: [a]}]\n",
          1,
          { "1: MIG hooks\n", "warning 2:3: unknown key `apply-strat`, did you mean `apply-start`?",
            "error 2:27: json: cannot unmarshal array into Go struct field" } },
        { "{\"Version\":\"v1\",\"MigState\":{\"Devices\":null}}", 0, { "1: MIG checkpoint\n" } },
        { "{\"MigState\":\n {\"Devices\":[{\"UUID\":\"x\",\"MigMode\":2}]}}",
          1,
          { "error 2:36: MigMode is 2, want 0 or 1" } },
        { "MigState: {Devices: []}\n", 1, { "1: MIG checkpoint\n", "error 1:" } },
        { CONFIG_MAP("  hooks.yaml: |\n    hooks: 1\n"),
          1,
          { "5: ConfigMap m, entry hooks.yaml: MIG hooks\n", "error 6:12: json: cannot" } },
        { CONFIG_MAP("  any: |\n    version: v1\n"),
          0,
          { "5: ConfigMap m, entry any: device plugin configuration\n" } },
        { CONFIG_MAP("  config.yaml: |\n    version: v1\n    mig-configs: {}\n"),
          1,
          { "5: ConfigMap m, entry config.yaml: MIG configurations\n",
            "error 7:5: at least one" } },
        { CONFIG_MAP("  x: |\n    some: thing\n  y: text\n  z: ''\n"), 0, {} },
        { POLICY("  mig: {strategy: single}\n"), 0, { "1: ClusterPolicy p\n" } },
        { "apiVersion: v1\nkind: Pod\n", 0, {} },
        { "---\n---\n" CONFIG_MAP("  any: |\n    flags: 3\n"), 1, { "error 8:12: json: cannot" } },
        { "version: v1\n---\nx: [", 0, { "warning 2:1: only the first document" } },
    };

    CHECK(cases);
}

static void places_inside_a_block_are_those_of_the_file(void **state)
{
    static const struct check_case cases[] = {
        { CONFIG_MAP("  any: |\n    version: v2\n"), 1, { "error 6:14: unknown version: v2" } },
        { CONFIG_MAP("  any: |-\n\n    # é\n    version: v2\n"), 1, { "error 8:14: unknown" } },
        { CONFIG_MAP("  any: |2\n      version: v2\n"), 1, { "error 6:16: unknown version" } },
        { CONFIG_MAP("  any:\n    # a remark\n    |  # another\n        version: v2\n"),
          1,
          { "error 8:18: unknown version" } },
        { CONFIG_MAP("  any: &a |\n    version: v2\n  two: *a\n"), 2, { "error 6:14: unknown" } },
        { CONFIG_MAP("  any: |\r\n    flags: {}\r\n    version: v2\r\n"),
          1,
          { "error 7:14: unknown version" } },
        { CONFIG_MAP("  any: |\n    sharing:\n       a: b\n      c: [\n"), 1, { "error 8:" } },
        /* where the text does not stand there as it is, the place is that of the value */
        { CONFIG_MAP("  any: \"version: v2\\nflags: {}\"\n"),
          1,
          { "error 5:8: in `any`, line 1, column 10: unknown version: v2" } },
        { CONFIG_MAP("  any: >\n    version:\n    v2\n"),
          1,
          { "error 6:1: in `any`, line 1, column 10: unknown version: v2" } },
        { CONFIG_MAP("  any: >\n    flags: {a: 1,\n    b: 2}\n"),
          0,
          { "in `any`, line 1, column 9: unknown key `a`" } },
    };

    CHECK(cases);
}

static void entries_that_are_no_text_and_names_that_no_label_can_hold(void **state)
{
    static const struct check_case cases[] = {
        { CONFIG_MAP("  any:\n    version: v1\n"),
          1,
          { "error 6:5: `data.any` is a map, want a string; write `any: |` and the text below" } },
        { CONFIG_MAP("  any: 3\n"), 1, { "`data.any` is a number, want a string" } },
        { "kind: ConfigMap\napiVersion: v1\ndata: [a]\n", 1, { "`data` is a list, want a map" } },
        { CONFIG_MAP("  a b: |\n    flags: {}\n"), 0, { "no node can choose `a b` by its label" } },
        { CONFIG_MAP("  any: |\n    flags: {}\n  any: |\n    flags: {}\n"),
          0,
          { "warning 5:3: `any` is said again in line 7, and only that one counts" } },
        { CONFIG_MAP("  any: |\n    flags: [\n"), 1, { "error 7:1: " } },
        { CONFIG_MAP("  any: |\n    whatever: [\n"), 0, {} },
    };

    CHECK(cases);
}

static void objects_need_a_kind_and_a_version(void **state)
{
    static const struct check_case cases[] = {
        { "kind: Pod\n", 1, { "error 1:1: a Kubernetes object needs an apiVersion" } },
        { "apiVersion: v1\n", 1, { "a Kubernetes object needs a kind" } },
        { "apiVersion: v1\nkind: 3\n", 1, { "error 2:7: a Kubernetes object needs a kind" } },
        { "apiVersion: v1\nkind: Pod\n---\nfoo: bar\n",
          1,
          { "error 4:1: a Kubernetes object has apiVersion and kind" } },
        { "apiVersion: v1\nkind: Pod\n---\nx: [\n", 1, { "error 5:1: " } },
        { "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  data:\n"
          "    any: |\n      version: v3\n- {kind: Pod}\n",
          2,
          { "7: ConfigMap (no name), entry any", "error 8:16: unknown version: v3",
            "error 9:3: a Kubernetes object needs an apiVersion" } },
    };

    CHECK(cases);
}

static void a_policy_is_checked_field_by_field(void **state)
{
    static const struct check_case cases[] = {
        { POLICY("  mig: {strategy: singel}\n"),
          1,
          { "error 5:19: `spec.mig.strategy` is \"singel\", want one of \"none\", \"single\", "
            "\"mixed\"; did you mean single?" } },
        { POLICY("  mig: {stratgy: single}\n"),
          0,
          { "warning 5:9: unknown key `stratgy`, did you mean `strategy`?" } },
        { POLICY("  mig: single\n"), 1, { "`spec.mig` is a string, want a map" } },
        { POLICY("  devicePlugin: {enabled: \"true\"}\n"),
          1,
          { "`spec.devicePlugin.enabled` is a string, want true or false; write it without "
            "quotes" } },
        { POLICY("  devicePlugin: {enabled: ~}\n"), 0, {} },
        { POLICY("  devicePlugin: {config: {name: 3}}\n"),
          1,
          { "`spec.devicePlugin.config.name` is a number, want a string; write it in quotes" } },
        { POLICY("  devicePlugin: {version: 0.17}\n"),
          1,
          { "`spec.devicePlugin.version` is a number, want a string" } },
        { POLICY("  devicePlugin: {argss: []}\n"), 0, { "did you mean `args`?" } },
        { POLICY("  devicePlugin: {args: [--x, 3]}\n"), 1, { "wants strings, this is a number" } },
        { POLICY("  migManager: {env: [{name: WITH_REBOOT, value: true}]}\n"),
          1,
          { "the value of a variable in `spec.migManager.env` is a boolean, want a string" } },
        { POLICY("  migManager: {env: [{value: x}]}\n"), 1, { "wants a name in each item" } },
        { POLICY("  migManager: {config: {default: all-enabled}}\n"),
          1,
          { "want one of \"all-disabled\", \"\"" } },
        { POLICY("  migManager: {config: {default: ''}}\n"), 0, {} },
        { POLICY("  driver: {upgradePolicy: {maxUnavailable: 25%, maxParallelUpgrades: many}}\n"),
          1,
          { "`spec.driver.upgradePolicy.maxParallelUpgrades` is a string, want a whole number" } },
        { POLICY("  driver: {manager: {}, rdma: {}}\n"), 0, {} },
        { POLICY("  devicePlugins: {}\n"),
          0,
          { "warning 5:3: unknown key `devicePlugins`, did you mean `devicePlugin`?" } },
        { POLICY("  dcgm: {hostPort: x}\n"), 1, { "`spec.dcgm.hostPort` is a string" } },
        { "apiVersion: nvidia.com/v2\nkind: ClusterPolicy\nspec: {}\n",
          1,
          { "error 1:13: a ClusterPolicy has apiVersion: nvidia.com/v1" } },
        { "apiVersion: nvidia.com/v1\nkind: ClusterPolicy\n", 1, { "needs a map `spec`" } },
    };

    CHECK(cases);
}

static void a_policy_and_the_maps_it_names_must_agree(void **state)
{
#define MAP CONFIG_MAP("  t4: |\n    version: v1\n") "---\n"
    static const struct check_case cases[] = {
        { MAP POLICY("  devicePlugin: {config: {name: m, default: t4}}\n"), 0, {} },
        { MAP POLICY("  devicePlugin: {config: {name: m, default: any}}\n"),
          1,
          { "error 12:45: ConfigMap m of line 1 has no entry `any`" } },
        { MAP POLICY("  devicePlugin: {config: {name: m, default: ''}}\n"), 0, {} },
        { MAP POLICY("  devicePlugin: {config: {name: other, default: any}}\n"), 0, {} },
        { MAP POLICY("  migManager: {config: {name: m}}\n"),
          1,
          { "error 12:31: ConfigMap m of line 1 has no entry `config.yaml`" } },
    };

    CHECK(cases);
}

static void bombs_and_floods_are_one_sentence(void **state)
{
    auto_(buf_done) struct buf text = BUF_MAX(MIB(8)), out = BUF_MAX(MIB(1));

    buf_add_text(&text, "kind: List\napiVersion: v1\nitems:\n");
    for (int i = 0; i < MANIFEST_MAX_DEPTH + 2; i++)
        buf_add_text(&text, "[{kind: List, apiVersion: v1, items: ");
    buf_add_text(&text, "[]");
    for (int i = 0; i < MANIFEST_MAX_DEPTH + 2; i++)
        buf_add_text(&text, "}]");
    assert_int_equal(check(buf_span(&text), &out), 1);
    assert_non_null(strstr(buf_text(&out), "Lists inside each other, more than 8"));

    buf_reset(&text);
    buf_reset(&out);
    while (text.len <= MANIFEST_MAX_BYTES)
        buf_add_text(&text, "# a comment that goes on and on and on and on and on and on and on\n");
    assert_int_equal(check(buf_span(&text), &out), 1);

    buf_reset(&text);
    buf_reset(&out);
    buf_add_text(&text, "kind: ConfigMap\napiVersion: v1\ndata:\n  any: |\n");
    for (int i = 0; i < 50000; i++)
        buf_add_text(&text, i % 900 ? "\n" : "    # a remark\n");
    buf_add_text(&text, "    version: v2\n");
    assert_int_equal(check(buf_span(&text), &out), 1);
    assert_non_null(strstr(buf_text(&out), "error 50005:14: unknown version: v2"));
}

static void lack_of_memory_is_said_wherever_it_strikes(void **state)
{
    static const char text[] = MAP POLICY("  devicePlugin: {config: {name: m, default: x}, env: "
                                          "[{}], args: [1]}\n  mig: {strategy: x}\n");
    unsigned long n = 1;

    for (; n < 2000; n++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MANIFEST_ARENA_BYTES);
        struct findings findings = { .arena = &arena };
        struct manifest manifest;
        struct err err = {};
        mem_fail_from(n);
        int r = manifest_check(SPAN(text), &findings, &manifest, &err);
        mem_fail_from(0);
        if (r != -ENOMEM)
            break;
        assert_int_equal(err.code, ENOMEM);
    }
    assert_in_range(n, 2, 1999);
    size_t bytes = 0;
    for (int r = -ENOMEM; r == -ENOMEM; bytes += 16) {
        auto_(arena_done) struct arena arena = ARENA_MAX(bytes);
        struct findings findings = { .arena = &arena };
        struct manifest manifest;
        struct err err = {};
        r = manifest_check(SPAN(text), &findings, &manifest, &err);
        assert_true(r >= 0 || err.code == -r);
    }
    assert_in_range(bytes, 1000, MIB(1));
}

/* The YAML of the documentation that this program has to accept as it is; it is not part of the
 * source, and without it there is nothing to prove. */
static void published_examples_have_no_mistakes(void **state)
{
    const char *shared = getenv("TRANCHE_SHARED"), *source = getenv("TRANCHE_SOURCE");
    char folder[512], path[1024];
    size_t n = 0;

    snprintf(folder, sizeof(folder), "%s%s/cases",
             shared   ? shared
             : source ? source
                      : ".",
             shared ? "" : "/../shared");
    DIR *dir = opendir(folder);
    if (!dir)
        skip();
    for (struct dirent *entry; (entry = readdir(dir));) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(8));
        auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
        struct span text;
        if (!text_ends(entry->d_name, ".yaml"))
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        assert_int_equal(file_read(AT_FDCWD, path, MIB(4), &arena, &text, NULL), 0);
        if (check(text, &out) != 0)
            fail_msg("%s\n%s", path, buf_text(&out));
        n++;
    }
    closedir(dir);
    assert_true(n > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_known_by_what_they_hold),
        cmocka_unit_test(places_inside_a_block_are_those_of_the_file),
        cmocka_unit_test(entries_that_are_no_text_and_names_that_no_label_can_hold),
        cmocka_unit_test(objects_need_a_kind_and_a_version),
        cmocka_unit_test(a_policy_is_checked_field_by_field),
        cmocka_unit_test(a_policy_and_the_maps_it_names_must_agree),
        cmocka_unit_test(bombs_and_floods_are_one_sentence),
        cmocka_unit_test(lack_of_memory_is_said_wherever_it_strikes),
        cmocka_unit_test(published_examples_have_no_mistakes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
