#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sim/node/affinity.h"

static const struct key_value labels[] = { { "kubernetes.io/hostname", "try" },
                                           { "nvidia.com/gpu.memory", "15360" },
                                           { "nvidia.com/gpu.product", "Tesla-T4" } };

/* The terms of one pod, in flow style. */
static int read_terms(const char *terms, struct objects *objects, struct err *err)
{
    const char *text = arena_printf(
        objects->arena,
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c}], affinity:"
        " {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution:"
        " {nodeSelectorTerms: %s}}}}}",
        terms);

    return objects_read(objects, span_of(text), "f.yaml", err);
}

#define PRODUCT  "key: nvidia.com/gpu.product, operator: "
#define MEMORY   "key: nvidia.com/gpu.memory, operator: "
#define ALL(...) "[{matchExpressions: [{" __VA_ARGS__ "}]}]"

static const struct {
    const char *terms;
    bool matches;
} cases[] = {
    { ALL(PRODUCT "In, values: [NVIDIA-A30, Tesla-T4]"), true },
    { ALL(PRODUCT "In, values: [NVIDIA-A30]"), false },
    { ALL(PRODUCT "NotIn, values: [NVIDIA-A30]"), true },
    { ALL(PRODUCT "NotIn, values: [Tesla-T4]"), false },
    { ALL("key: absent, operator: NotIn, values: [x]"), true },
    { ALL("key: absent, operator: In, values: [x]"), false },
    { ALL(PRODUCT "Exists"), true },
    { ALL("key: absent, operator: Exists"), false },
    { ALL("key: absent, operator: DoesNotExist"), true },
    { ALL(MEMORY "Gt, values: ['15359']"), true },
    { ALL(MEMORY "Gt, values: ['15360']"), false },
    { ALL(MEMORY "Lt, values: ['15361']"), true },
    { ALL(MEMORY "Lt, values: [much]"), false },
    { ALL(PRODUCT "Lt, values: ['1']"), false },
    { ALL("key: absent, operator: Lt, values: ['1']"), false },
    { ALL(PRODUCT "Exists}, {" MEMORY "Lt, values: ['1']"), false },
    { ALL(MEMORY "Lt, values: ['1']}]}, {matchExpressions: [{" PRODUCT "Exists"), true },
    { "[{}]", false },
    { "[{matchFields: [{key: metadata.name, operator: In, values: [try]}]}]", true },
    { "[{matchFields: [{key: metadata.name, operator: In, values: [other]}]}]", false },
};

static void one_term_must_hold_with_all_its_expressions(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(8));
        struct objects objects = { .arena = &arena };
        struct err err = {};

        if (read_terms(cases[i].terms, &objects, &err) < 0)
            fail_msg("case %zu: %s", i, err.text);
        if (affinity_matches(&objects.pods[0], labels, ARRAY_LEN(labels)) != cases[i].matches)
            fail_msg("case %zu: %s", i, cases[i].terms);
    }
}

static const struct {
    const char *terms, *sentence;
} wrong[] = {
    { "[]", "must have at least one node selector term" },
    { ALL(PRODUCT "In"), "values: must be specified when `operator` is 'In' or 'NotIn'" },
    { ALL(PRODUCT "Exists, values: [x]"),
      "values: may not be specified when `operator` is 'Exists' or 'DoesNotExist'" },
    { ALL(MEMORY "Gt, values: ['1', '2']"),
      "values: must be specified single value when `operator` is 'Lt' or 'Gt'" },
    { ALL(PRODUCT "Like, values: [x]"),
      "operator: Invalid value: \"Like\": not a valid selector operator" },
    { ALL(MEMORY "Gt, values: [1]"), "a value must be a string, not a number" },
    { "[{matchFields: [{key: spec.x, operator: In, values: [x]}]}]",
      "key: Invalid value: \"spec.x\": not a valid field selector key" },
};

static void what_the_api_server_refuses_is_refused_in_its_words(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(8));
        struct objects objects = { .arena = &arena };
        struct err err = {};
        int r = read_terms(wrong[i].terms, &objects, &err);

        if (r >= 0 || !strstr(err.text, wrong[i].sentence) || !text_starts(err.text, "f.yaml:1:"))
            fail_msg("case %zu: %d %s; wanted %s", i, r, err.text, wrong[i].sentence);
    }
}

static void a_pod_without_terms_matches_every_node(void **state)
{
    struct pod_object pod = {};

    assert_true(affinity_matches(&pod, NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_term_must_hold_with_all_its_expressions),
        cmocka_unit_test(what_the_api_server_refuses_is_refused_in_its_words),
        cmocka_unit_test(a_pod_without_terms_matches_every_node),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
