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
#include "codec/json.h"
#include "codec/yaml.h"

struct reading {
    struct span yaml;
    const char *json; /* keys sorted; or, where it is an error, NULL */
    const char *fault;
};

static void check(const struct reading *reading)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(64));
    auto_(json_decrefp) json_t *json = NULL;
    struct value *value = NULL;
    struct err err = {};
    int r = yaml_parse(reading->yaml, "f.yaml", NULL, &arena, &value, &err);

    if (reading->fault) {
        if (r != -EINVAL || strcmp(err.text, reading->fault) != 0)
            fail_msg("\"%s\": %d %s", reading->yaml.ptr, r, err.text);
        return;
    }
    if (r < 0 || json_from_value(value, &json, &err) < 0)
        fail_msg("\"%s\": %s", reading->yaml.ptr, err.text);
    auto_free char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    if (strcmp(text, reading->json) != 0)
        fail_msg("\"%s\": %s, not %s", reading->yaml.ptr, text, reading->json);
}

static void check_all(const struct reading *readings, size_t n)
{
    for (size_t i = 0; i < n; i++)
        check(&readings[i]);
}

#define CHECK_ALL(readings) check_all((readings), ARRAY_LEN(readings))

/* What is wanted in these tables was taken from upstream's library (sigs.k8s.io/yaml 1.6). */

static void only_the_first_document_is_read(void **state)
{
    static const struct reading readings[] = {
        { SPAN(""), "null" },
        { SPAN("# nothing here\n"), "null" },
        { SPAN("\xEF\xBB\xBF"), "null" },
        { SPAN("---\n---\na: 1\n"), "null" },
        { SPAN("a: 1\n---\nb: 2\n"), "{\"a\":1}" },
        { SPAN("a: 1\n...\nb: [\n"), "{\"a\":1}" },
        { SPAN("--- \na: 1\n"), "{\"a\":1}" },
        { SPAN("%YAML 1.1\n---\na: 1\n"), "{\"a\":1}" },
        { SPAN("\xEF\xBB\xBF"
               "a: 1"),
          "{\"a\":1}" },
        { SPAN("a: 1\r\nb: 2\r\n"), "{\"a\":1,\"b\":2}" },
        { SPAN("[1, {\"a\": null}]"), "[1,{\"a\":null}]" },
    };

    CHECK_ALL(readings);
}

static void words_and_quotes(void **state)
{
    static const struct reading readings[] = {
        { SPAN("[y, no, 010, 0o10, 0x3, 0b11, 1_0, 1e1, 2.0, 2.5, 1:30, ~]"),
          "[true,false,8,8,3,3,10,10,2,2.5,\"1:30\",null]" },
        { SPAN("['y', \"010\", '~', '', \"a\\tb\\x41\\u00e9\"]"),
          "[\"y\",\"010\",\"~\",\"\",\"a\\tbA\u00e9\"]" },
        { SPAN("[!!str 3, !!int \"3\", !!float 3, !!bool yes, !mine 3, ! 3]"),
          "[\"3\",3,3,true,\"3\",\"3\"]" },
        { SPAN("a: !!str\nb:\nc: ''"), "{\"a\":\"\",\"b\":null,\"c\":\"\"}" },
        { SPAN("a: x\n  y\n\n  z"), "{\"a\":\"x y\\nz\"}" },
        { SPAN("a: 'it''s'"), "{\"a\":\"it's\"}" },
        { SPAN("a: 'x''''''''''''''''''''''''''''''''''''''''''''y'"),
          "{\"a\":\"x''''''''''''''''''''''y\"}" },
        { SPAN("a: '\n  x \n\n\n  y\t\r\n  z '"), "{\"a\":\" x\\n\\ny z \"}" },
        { SPAN("\"\\L\\P\\L\\P\\N\""), "\"\u2028\u2029\u2028\u2029\xC2\x85\"" },
        { SPAN("a: \"x\\0y\""), "{\"a\":\"x\\u0000y\"}" },
        { SPAN("a: x # y\nb: x#y"), "{\"a\":\"x\",\"b\":\"x#y\"}" },
        { SPAN("a:\t1\t# c"), "{\"a\":1}" },
    };

    CHECK_ALL(readings);
}

static void blocks_of_text(void **state)
{
    static const struct reading readings[] = {
        { SPAN("a: |\n x\n  y\n"), "{\"a\":\"x\\n y\\n\"}" },
        { SPAN("a: |\n x"), "{\"a\":\"x\"}" },
        { SPAN("a: |+\n x"), "{\"a\":\"x\"}" },
        { SPAN("a: |+\n x\n\n"), "{\"a\":\"x\\n\\n\"}" },
        { SPAN("a: |-\n x\n"), "{\"a\":\"x\"}" },
        { SPAN("a: >\n x\n y"), "{\"a\":\"x y\"}" },
        { SPAN("a: |"), "{\"a\":\"\"}" },
        { SPAN("a: |\n"), "{\"a\":\"\"}" },
        { SPAN("a: |\n\nb: >\n"), "{\"a\":\"\",\"b\":\"\"}" },
        { SPAN("a: |\n x\n# c"), "{\"a\":\"x\\n\"}" },
    };

    CHECK_ALL(readings);
}

static void lists_and_maps(void **state)
{
    static const struct reading readings[] = {
        { SPAN("a:\n- 1\n-\n  b: 2\n"), "{\"a\":[1,{\"b\":2}]}" },
        { SPAN("- - a\n  - b\n- {}\n- []"), "[[\"a\",\"b\"],{},[]]" },
        { SPAN("a: [1,\n2]"), "{\"a\":[1,2]}" },
        { SPAN("{a, b: c}"), "{\"a\":null,\"b\":\"c\"}" },
        { SPAN("[a: b]"), "[{\"a\":\"b\"}]" },
        { SPAN("? a\n? b\n"), "{\"a\":null,\"b\":null}" },
        { SPAN("a: 1\na: 2\n"), "{\"a\":2}" },
        { SPAN("1: a\n0x10: b\nyes: c\n1.5: d\n'2': e"),
          "{\"1\":\"a\",\"1.5\":\"d\",\"16\":\"b\",\"2\":\"e\",\"true\":\"c\"}" },
    };

    CHECK_ALL(readings);
}

static void anchors_aliases_and_merge_keys(void **state)
{
    static const struct reading readings[] = {
        { SPAN("a: &x {b: 1}\nc: *x\n"), "{\"a\":{\"b\":1},\"c\":{\"b\":1}}" },
        { SPAN("a: &x 1\nb: &x 2\nc: *x"), "{\"a\":1,\"b\":2,\"c\":2}" },
        { SPAN("a: &x k\n*x : 3"), "{\"a\":\"k\",\"k\":3}" },
        { SPAN("a: &x\nb: *x"), "{\"a\":null,\"b\":null}" },
        { SPAN("a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  b: 3\n"),
          "{\"a\":{\"b\":1,\"c\":2},\"d\":{\"b\":3,\"c\":2}}" },
        { SPAN("a: 1\n<<: {a: 2, b: 3}\n"), "{\"a\":2,\"b\":3}" },
        { SPAN("<<: [{a: 1}, {a: 2, c: 3}]\n"), "{\"a\":1,\"c\":3}" },
        { SPAN("\"<<\": {a: 1}\n"), "{\"<<\":{\"a\":1}}" },
        { SPAN("a: <<"), "{\"a\":\"<<\"}" },
    };

    CHECK_ALL(readings);
}

static void what_is_wrong_is_said_with_its_place(void **state)
{
    static const struct reading readings[] = {
        { SPAN("a:\n\tb: 1\n"), .fault = "f.yaml:2:1: a tab cannot indent; use spaces" },
        { SPAN("\ta: 1"), .fault = "f.yaml:1:1: a tab cannot indent; use spaces" },
        { SPAN("a: 1\nb: 2 # \x01\n"),
          .fault = "f.yaml:2:8: the control character U+0001 is not allowed" },
        { SPAN("a: \x7f"), .fault = "f.yaml:1:4: the control character U+007F is not allowed" },
        { SPAN("a: \xC2\x9F"), .fault = "f.yaml:1:4: the control character U+009F is not allowed" },
        { SPAN("a\0b"), .fault = "f.yaml:1:2: the control character U+0000 is not allowed" },
        { SPAN("\u00e9: 1\r\nb: 2 # \xFF\n"), .fault = "f.yaml:2:8: the byte 0xff is not UTF-8" },
        { SPAN("a\rb\r\nc # \xC3"), .fault = "f.yaml:3:5: the byte 0xc3 is not UTF-8" },
        { SPAN("a: *x\n"), .fault = "f.yaml:1:4: *x stands for nothing: there is no &x before it" },
        { SPAN("a: &x [1, *x]\n"),
          .fault = "f.yaml:1:11: *x stands inside the value that it stands for" },
        { SPAN("a: 1\n[b]: 2\n"), .fault = "f.yaml:2:1: a list cannot be a key" },
        { SPAN("a: {{ .Values.x }}\n"), .fault = "f.yaml:1:5: a map cannot be a key" },
        { SPAN("~: 1\n"),
          .fault = "f.yaml:1:1: null cannot be a key; quote the word if it is meant as text" },
        { SPAN("\"a\\0\": 1\n"), .fault = "f.yaml:1:1: a key cannot hold the character \\0" },
        { SPAN("a:\n  <<: 3\n"),
          .fault = "f.yaml:2:7: a merge key (<<) wants a map or a list of maps" },
        { SPAN("a: &x [{b: 1}]\n<<: *x\n"),
          .fault = "f.yaml:2:5: a merge key (<<) wants a map or a list of maps" },
        { SPAN("a: !!int x"), .fault = "f.yaml:1:10: \"x\" is not of the type that its tag "
                                       "tag:yaml.org,2002:int says" },
        { SPAN("a: b: c\n"), .fault = "f.yaml:1:5: a second \": \" on one line; quote the value if "
                                      "it holds a colon" },
        { SPAN("a: 1\n b: 2\n  c: 3\n"),
          .fault = "f.yaml:1:4: the text from here runs on into a line with a colon; either a "
                   "\": \" is missing here or that line is indented too far" },
        { SPAN("a:\n  b: 1\n c: 2\n"),
          .fault = "f.yaml:3:2: this is indented unlike the keys above it" },
        { SPAN("a: [1, 2\n"), .fault = "f.yaml:2:1: a list that begins with [ has no ]" },
        { SPAN("a: \"x\n"), .fault = "f.yaml:1:5: a text that begins with \" never ends" },
        { SPAN("a: b\n%c: d\n"), .fault = "f.yaml:2:1: a line cannot begin with % unless it is "
                                          "%YAML 1.1 or a %TAG; quote or indent it" },
        { SPAN("[a]:b\n"), .fault =
                               "f.yaml:1:4: the document ends before this, which is no part of "
                               "it" },
    };

    CHECK_ALL(readings);
}

static const struct value *parse(struct arena *arena, const char *text)
{
    struct value *value = NULL;
    struct err err = {};

    if (yaml_parse(span_of(text), "f.yaml", NULL, arena, &value, &err) < 0)
        fail_msg("%s", err.text);
    return value;
}

static void assert_place(struct place place, unsigned line, unsigned column)
{
    assert_int_equal(place.line, line);
    assert_int_equal(place.column, column);
}

static void every_value_and_key_knows_its_place(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    const struct value *root = parse(&arena, "# c\n"
                                             "a: 'quoted'\n"
                                             "\u00e9\u00e9:\n"
                                             "  - 0x1F\n"
                                             "  - b: !!str 1\n"
                                             "  - &x \"d\"\n"
                                             "c: [1, d: 2, *x]\n"
                                             "e:\n");

    assert_place(root->place, 2, 1);
    assert_place(value_entry(root, "a")->place, 2, 1);
    assert_place(value_get(root, "a")->place, 2, 4);
    const struct value *list = value_get(root, "\u00e9\u00e9");
    assert_place(list->place, 4, 3);
    assert_place(list->items[0]->place, 4, 5);
    assert_string_equal(list->items[0]->text.ptr, "0x1F");
    assert_place(list->items[1]->place, 5, 5);
    assert_place(value_get(list->items[1], "b")->place, 5, 14);
    assert_place(list->items[2]->place, 6, 8);
    const struct value *flow = value_get(root, "c");
    assert_place(flow->place, 7, 4);
    assert_place(flow->items[1]->place, 7, 8);
    assert_ptr_equal(flow->items[2], list->items[2]);
    assert_place(value_get(root, "e")->place, 8,
                 1); /* what is left out stands where its key does */
}

static void duplicates_are_remembered_with_both_places(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    const struct value *root = parse(&arena, "a: 1\nb: &x {c: 1}\na: 2\nd:\n  c: 3\n  <<: *x\n");
    const struct value *overridden = value_get(root, "d");

    assert_int_equal(root->n_duplicates, 1);
    assert_string_equal(root->duplicates[0].key, "a");
    assert_place(root->duplicates[0].first, 1, 1);
    assert_place(root->duplicates[0].second, 3, 1);
    /* A merge below a key overrides it, which few expect. */
    assert_int_equal(overridden->n_duplicates, 1);
    assert_place(overridden->duplicates[0].first, 5, 3);
    assert_place(overridden->duplicates[0].second, 2, 8);
    assert_true(overridden->entries[0].merged);
}

static int limited(const char *text, struct yaml_limits limits, char fault_text[512])
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(64));
    struct value *value = NULL;
    struct yaml_fault fault = {};
    int r = yaml_read(span_of(text), &limits, &arena, &value, &fault);

    memcpy(fault_text, fault.text, sizeof(fault.text));
    return r;
}

static void limits_hold(void **state)
{
    static const struct {
        const char *text;
        struct yaml_limits limits;
        const char *fault; /* NULL: it fits */
    } cases[] = {
        { "a: 12", { .bytes = 5 }, NULL },
        { "a: 123", { .bytes = 5 }, "the text is larger than 5 bytes" },
        { "[[1]]", { .depth = 2 }, NULL },
        { "[[[1]]]", { .depth = 2 }, "more than 2 lists and maps inside each other" },
        { "- &a [1]\n- [*a]", { .depth = 3 }, NULL },
        { "- &a [1]\n- [[*a]]", { .depth = 3 }, "more than 3 lists and maps inside each other" },
        { "- &a [[1]]\n- *a\n", { .depth = 3 }, NULL },
        { "- &a [1, 2]\n- *a\n", { .nodes = 7 }, NULL },
        { "- &a [1, 2]\n- *a\n- 1",
          { .nodes = 7 },
          "more than 7 values, each alias counted in full" },
        { "- &a [1, 2]\n- *a\n- *a",
          { .nodes = 9 },
          "more than 9 values, each alias counted in full" },
    };
    char fault[512];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int r = limited(cases[i].text, cases[i].limits, fault);
        assert_int_equal(r, cases[i].fault ? -EFBIG : 0);
        if (cases[i].fault)
            assert_string_equal(fault, cases[i].fault);
    }
}

static void a_bomb_of_aliases_is_defused(void **state)
{
    auto_(buf_done) struct buf bomb = BUF_MAX(KIB(64));
    char fault[512];

    buf_add_text(&bomb, "a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i < 30; i++) {
        buf_printf(&bomb, "a%d: &a%d [", i, i);
        for (int n = 0; n < 9; n++)
            buf_printf(&bomb, "%s*a%d", n ? ", " : "", i - 1);
        buf_add_text(&bomb, "]\n");
    }
    assert_int_equal(limited(buf_text(&bomb), (struct yaml_limits){}, fault), -EFBIG);
    assert_string_equal(fault, "more than 100000 values, each alias counted in full");
}

static void deep_towers_end_early(void **state)
{
    static const char *const storeys[] = { "[", "{", "- ", "[a: ", "? " };

    for (size_t i = 0; i < ARRAY_LEN(storeys); i++) {
        auto_(buf_done) struct buf tower = BUF_MAX(MIB(1));
        char fault[512];
        for (int n = 0; n < 50000; n++)
            buf_add_text(&tower, storeys[i]);
        assert_true(limited(buf_text(&tower), (struct yaml_limits){}, fault) < 0);
    }
}

static void a_desert_of_blank_lines_is_not_crossed(void **state)
{
    auto_(buf_done) struct buf text = BUF_MAX(MIB(1));
    char fault[512];

    buf_add_text(&text, "a: |\n  b\n");
    for (int n = 0; n < 1000; n++)
        buf_add_text(&text, n % 2 ? "\n" : "  \r\n");
    buf_add_text(&text, "  c\n");
    assert_int_equal(limited(buf_text(&text), (struct yaml_limits){}, fault), 0);
    buf_add_text(&text, "d: |\n  b\n");
    for (int n = 0; n < 1001; n++)
        buf_add_text(&text, "\n");
    buf_add_text(&text, "  c\n");
    assert_int_equal(limited(buf_text(&text), (struct yaml_limits){}, fault), -EFBIG);
    assert_string_equal(fault, "more than 1000 blank lines in a row");
}

static void many_equal_keys_are_settled_quickly(void **state)
{
    auto_(buf_done) struct buf text = BUF_MAX(MIB(1));
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(64));
    struct value *value = NULL;

    for (int i = 0; i < 49000; i++)
        buf_add_text(&text, "a: 1\n");
    assert_int_equal(yaml_parse(buf_span(&text), "f", NULL, &arena, &value, NULL), 0);
    assert_int_equal(value->n_entries, 1);
    assert_int_equal(value->n_duplicates, 48999);
}

static void all_documents_of_a_file(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    struct value **documents = NULL;
    size_t n = 77;
    struct err err = {};

    assert_int_equal(yaml_parse_all(SPAN("a: &x 1\n---\n---\n- b\n...\n"), "f", NULL, &arena,
                                    &documents, &n, &err),
                     0);
    assert_int_equal(n, 3);
    assert_int_equal(documents[0]->kind, VALUE_MAP);
    assert_int_equal(documents[1]->kind, VALUE_NULL);
    assert_int_equal(documents[2]->kind, VALUE_LIST);
    assert_place(documents[2]->place, 4, 1);
    assert_int_equal(yaml_parse_all(SPAN("# c\n"), "f", NULL, &arena, &documents, &n, &err), 0);
    assert_int_equal(n, 0);
    /* An anchor ends with its document. */
    assert_int_equal(
        yaml_parse_all(SPAN("a: &x 1\n---\nb: *x\n"), "f", NULL, &arena, &documents, &n, &err),
        -EINVAL);
    assert_string_equal(err.text, "f:3:4: *x stands for nothing: there is no &x before it");
    struct yaml_limits two = { .documents = 2 };
    assert_int_equal(
        yaml_parse_all(SPAN("1\n---\n2\n---\n3\n"), "f", &two, &arena, &documents, &n, &err),
        -EFBIG);
    assert_string_equal(err.text, "f:5:1: more than 2 documents");
}

static const char whole_config[] = "version: v1\n"
                                   "flags: &f\n"
                                   "  migStrategy: none\n"
                                   "  plugin: {passDeviceSpecs: yes, deviceListStrategy: [a, b]}\n"
                                   "sharing:\n"
                                   "  timeSlicing:\n"
                                   "    resources:\n"
                                   "    - name: nvidia.com/gpu\n"
                                   "      replicas: 0x4\n"
                                   "    - <<: *f\n"
                                   "      1.5: \"text\"\n"
                                   "      1.5: again\n"
                                   "---\n"
                                   "other: [*f]\n";

static void every_lack_of_memory_is_survived(void **state)
{
    struct span text = SPAN(whole_config);
    unsigned long nth = 1;
    int r;

    text.len = (size_t)(strstr(whole_config, "---") - whole_config);
    do {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
        struct value *value = NULL;
        struct err err = {};
        mem_fail_from(nth);
        r = yaml_parse(text, "f", NULL, &arena, &value, &err);
        mem_fail_from(0);
        if (r < 0) {
            assert_int_equal(r, -ENOMEM);
            assert_string_equal(err.text, "f: out of memory");
            assert_null(value);
        }
        nth++;
    } while (r < 0);
    assert_true(nth > 5);
}

static void every_ceiling_of_the_arena_is_survived(void **state)
{
    struct span text = SPAN(whole_config);
    size_t max = 0;
    int r;

    text.len = (size_t)(strstr(whole_config, "---") - whole_config);
    do {
        auto_(arena_done) struct arena arena = ARENA_MAX(max);
        struct value *value = NULL;
        r = yaml_parse(text, "f", NULL, &arena, &value, NULL);
        assert_true(r == 0 || r == -ENOMEM);
        max += 16;
    } while (r < 0);
    assert_true(max > KIB(1));
}

static void the_examples_of_the_stack_are_read(void **state)
{
    static const char *const names[] = {
        "cluster-policy.yaml", "custom-mig-config.yaml",   "mig-inference-pod.yaml",
        "mps-config.yaml",     "time-slicing-config.yaml", "time-slicing-verification.yaml"
    };
    const char *shared = getenv("TRANCHE_SHARED"), *source = getenv("TRANCHE_SOURCE");
    char path[4096];

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(8));
        struct value **documents = NULL;
        struct span text;
        struct err err = {};
        size_t n = 0;
        snprintf(path, sizeof(path), "%s%s/cases/%s",
                 shared   ? ""
                 : source ? source
                          : ".",
                 shared ? shared : "/../shared", names[i]);
        if (!file_exists(path))
            skip();
        assert_int_equal(file_read(AT_FDCWD, path, MIB(1), &arena, &text, &err), 0);
        if (yaml_parse_all(text, names[i], NULL, &arena, &documents, &n, &err) < 0)
            fail_msg("%s", err.text);
        assert_true(n > 0);
        assert_int_equal(documents[0]->kind, VALUE_MAP);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_first_document_is_read),
        cmocka_unit_test(words_and_quotes),
        cmocka_unit_test(blocks_of_text),
        cmocka_unit_test(lists_and_maps),
        cmocka_unit_test(anchors_aliases_and_merge_keys),
        cmocka_unit_test(what_is_wrong_is_said_with_its_place),
        cmocka_unit_test(every_value_and_key_knows_its_place),
        cmocka_unit_test(duplicates_are_remembered_with_both_places),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(a_bomb_of_aliases_is_defused),
        cmocka_unit_test(deep_towers_end_early),
        cmocka_unit_test(a_desert_of_blank_lines_is_not_crossed),
        cmocka_unit_test(many_equal_keys_are_settled_quickly),
        cmocka_unit_test(all_documents_of_a_file),
        cmocka_unit_test(every_lack_of_memory_is_survived),
        cmocka_unit_test(every_ceiling_of_the_arena_is_survived),
        cmocka_unit_test(the_examples_of_the_stack_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
