#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "codec/json.h"
#include "codec/yaml.h"

static void any_json_value_is_parsed(void **state)
{
    static const char *const texts[] = { "null", "1", "\"a\\u0000b\"", "[]", "{\"a\": [1, 2.5]}" };

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        auto_(json_decrefp) json_t *json = NULL;
        assert_int_equal(json_parse(span_of(texts[i]), "f", KIB(1), &json, NULL), 0);
        assert_non_null(json);
    }
}

static void what_is_wrong_is_said_with_its_place(void **state)
{
    static const struct {
        struct span text;
        int r;
        const char *sentence;
    } cases[] = {
        { SPAN("{\"a\": 1,\n \"b\": x}"), -EINVAL, "f:2:7: invalid token near 'x'" },
        { SPAN(""), -EINVAL, "f:1:0: " },
        { SPAN("1 2"), -EINVAL, "f:1:3: end of file expected near '2'" },
        { SPAN("[1,2,3,4]"), -EFBIG, "f: the text is larger than 8 bytes" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(json_decrefp) json_t *json = NULL;
        struct err err = {};
        size_t max = cases[i].r == -EFBIG ? 8 : 100;
        assert_int_equal(json_parse(cases[i].text, "f", max, &json, &err), cases[i].r);
        assert_null(json);
        assert_true(text_starts(err.text, cases[i].sentence));
    }
}

static void a_tower_of_brackets_is_refused(void **state)
{
    auto_(json_decrefp) json_t *json = NULL;
    static char tower[100000];

    memset(tower, '[', sizeof(tower));
    assert_int_equal(json_parse((struct span){ tower, sizeof(tower) }, "f", MIB(1), &json, NULL),
                     -EINVAL);
}

static int from_yaml(const char *yaml, json_t **ret, struct err *err)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    struct value *value;

    assert_int_equal(yaml_parse(span_of(yaml), "f", NULL, &arena, &value, NULL), 0);
    return json_from_value(value, ret, err);
}

static void trees_become_json(void **state)
{
    auto_(json_decrefp) json_t *json = NULL;
    auto_(buf_done) struct buf text = BUF_MAX(KIB(1));

    assert_int_equal(
        from_yaml("z: &x [1, 2.0, 2.5]\na: {b: yes, c: ~}\ns: \"a\\0b\"\nx: *x\n", &json, NULL), 0);
    assert_int_equal(json_to_text(json, 0, &text), 0);
    assert_string_equal(
        buf_text(&text),
        "{\"z\":[1,2,2.5],\"a\":{\"b\":true,\"c\":null},\"s\":\"a\\u0000b\",\"x\":[1,2,2.5]}");
}

static void what_json_cannot_say_is_refused_in_gos_words(void **state)
{
    static const struct {
        const char *yaml, *sentence;
    } cases[] = {
        { "a: [.inf]", "json: unsupported value: +Inf" },
        { "a: {b: -.inf}", "json: unsupported value: -Inf" },
        { ".nan", "json: unsupported value: NaN" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(json_decrefp) json_t *json = NULL;
        struct err err = {};
        assert_int_equal(from_yaml(cases[i].yaml, &json, &err), -EINVAL);
        assert_string_equal(err.text, cases[i].sentence);
    }
}

static void text_is_compact_or_indented(void **state)
{
    auto_(json_decrefp) json_t *json = json_pack("{s:[i,i], s:{}}", "b", 1, 2, "a");
    auto_(buf_done) struct buf text = BUF_MAX(KIB(1)), small = BUF_MAX(5);

    assert_int_equal(json_to_text(json, 0, &text), 0);
    assert_string_equal(buf_text(&text), "{\"b\":[1,2],\"a\":{}}");
    buf_reset(&text);
    assert_int_equal(json_to_text(json, 2, &text), 0);
    assert_string_equal(buf_text(&text), "{\n  \"b\": [\n    1,\n    2\n  ],\n  \"a\": {}\n}");
    assert_int_equal(json_to_text(json, 0, &small), -EFBIG);
    assert_int_equal(json_to_yaml(json, &small), -EFBIG);
}

static void assert_yaml(const char *json_text, const char *yaml)
{
    auto_(json_decrefp) json_t *json = NULL, *back = NULL;
    auto_(buf_done) struct buf text = BUF_MAX(KIB(64));

    assert_int_equal(json_parse(span_of(json_text), "f", KIB(64), &json, NULL), 0);
    assert_int_equal(json_to_yaml(json, &text), 0);
    if (yaml)
        assert_string_equal(buf_text(&text), yaml);
    assert_int_equal(from_yaml(buf_text(&text), &back, NULL), 0);
    if (!json_equal(json, back))
        fail_msg("%s reads back as something else", buf_text(&text));
}

static void yaml_is_in_block_style(void **state)
{
    assert_yaml(
        "{\"kind\":\"List\",\"items\":[{\"a\":1,\"b\":[]},[1,[2,3]],{}],\"c\":{\"d\":null}}",
        "kind: List\n"
        "items:\n"
        "- a: 1\n"
        "  b: []\n"
        "- - 1\n"
        "  - - 2\n"
        "    - 3\n"
        "- {}\n"
        "c:\n"
        "  d: null\n");
    assert_yaml("[]", "[]\n");
    assert_yaml("{}", "{}\n");
    assert_yaml("\"x\"", "x\n");
    assert_yaml("[[{\"a\":[{\"b\":2.5}]}],true]", "- - a:\n    - b: 2.5\n- true\n");
}

static void only_strings_that_would_be_misread_are_quoted(void **state)
{
    static const struct {
        const char *string, *yaml; /* of JSON, without its quotes */
    } cases[] = {
        { "nvidia.com/gpu", "nvidia.com/gpu" },
        { "GPU-8a1f", "GPU-8a1f" },
        { "550.90.07", "550.90.07" },
        { "--mig-strategy=none", "--mig-strategy=none" },
        { "a b", "a b" },
        { "a:b", "a:b" },
        { "1g.10gb", "1g.10gb" },
        { "a#b", "a#b" },
        { "", "\"\"" },
        { "yes", "\"yes\"" },
        { "~", "\"~\"" },
        { "010", "\"010\"" },
        { "12.4", "\"12.4\"" },
        { "1e3", "\"1e3\"" },
        { ".inf", "\".inf\"" },
        { "1:30", "\"1:30\"" },
        { "2026-11-24", "\"2026-11-24\"" },
        { "2026-11-24T08:15:13Z", "\"2026-11-24T08:15:13Z\"" },
        { "a: b", "\"a: b\"" },
        { "a:", "\"a:\"" },
        { "a #b", "\"a #b\"" },
        { " a", "\" a\"" },
        { "a ", "\"a \"" },
        { "- a", "\"- a\"" },
        { "-", "\"-\"" },
        { "---", "\"---\"" },
        { "...", "\"...\"" },
        { "[a", "\"[a\"" },
        { "*", "\"*\"" },
        { "<<", "\"<<\"" },
        { "=", "\"=\"" },
        { "%a", "\"%a\"" },
        { "@a", "\"@a\"" },
        { "'a'", "\"'a'\"" },
        { "a\\nb\\tc", "\"a\\nb\\tc\"" },
        { "\\\"\\\\", "\"\\\"\\\\\"" },
        { "\\u0001\\u007f", "\"\\x01\\x7f\"" },
        { "\u00e9\U0001F600", "\"\u00e9\U0001F600\"" },
        { "\\u0085\\u009f\\u2028\\ufeff\\uffff", "\"\\u0085\\u009f\\u2028\\ufeff\\uffff\"" },
    };
    char json[100], yaml[100];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        snprintf(json, sizeof(json), "[\"%s\"]", cases[i].string);
        snprintf(yaml, sizeof(yaml), "- %s\n", cases[i].yaml);
        assert_yaml(json, yaml);
        snprintf(json, sizeof(json), "{\"%s\":1}", cases[i].string);
        snprintf(yaml, sizeof(yaml), "%s: 1\n", cases[i].yaml);
        assert_yaml(json, yaml);
    }
}

static void numbers_read_back_the_same(void **state)
{
    assert_yaml("[0, -1, 9223372036854775807, -9223372036854775808, 0.1, 1e300, 1.5e-10]",
                "- 0\n- -1\n- 9223372036854775807\n- -9223372036854775808\n- 0.1\n- 1e+300\n"
                "- 1.5e-10\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_json_value_is_parsed),
        cmocka_unit_test(what_is_wrong_is_said_with_its_place),
        cmocka_unit_test(a_tower_of_brackets_is_refused),
        cmocka_unit_test(trees_become_json),
        cmocka_unit_test(what_json_cannot_say_is_refused_in_gos_words),
        cmocka_unit_test(text_is_compact_or_indented),
        cmocka_unit_test(yaml_is_in_block_style),
        cmocka_unit_test(only_strings_that_would_be_misread_are_quoted),
        cmocka_unit_test(numbers_read_back_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
