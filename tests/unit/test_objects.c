#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "sim/node/objects.h"

#define POD_HEAD                                                                                   \
    "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\nspec:\n  containers:\n  - name: c\n"

static int read_text(struct objects *objects, const char *text, struct err *err)
{
    return objects_read(objects, span_of(text), "f.yaml", err);
}

static void a_file_may_hold_several_objects_and_lists(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(8));
    struct objects objects = { .arena = &arena };
    struct err err = {};
    static const char text[] =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: ns}\ndata:\n  any: |-\n   "
        " version: v1\n"
        "---\n---\n"
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: nvidia.com/v1, kind: ClusterPolicy, metadata: {name: cp}, spec: {mig: "
        "{strategy: mixed},"
        "   devicePlugin: {config: {name: m, default: any}, env: [{name: A, value: b}]}, gfd: "
        "{enabled: false}}}\n"
        "- {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c}]}}\n"
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\n";

    if (read_text(&objects, text, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(objects.n_config_maps, 1);
    assert_string_equal(config_map_text(objects_config_map(&objects, "m"), "any"), "version: v1");
    assert_null(objects_config_map(&objects, "x"));
    assert_int_equal(objects.n_policies, 1);
    assert_string_equal(objects.policies[0].mig_strategy, "mixed");
    assert_string_equal(objects.policies[0].plugin_config_default, "any");
    assert_true(objects.policies[0].plugin_enabled);
    assert_false(objects.policies[0].discovery_enabled);
    assert_string_equal(objects.policies[0].plugin_env[0].value, "b");
    assert_int_equal(objects.n_pods, 1);
    assert_string_equal(objects.pods[0].sim.namespace, "default");
    assert_int_equal(objects.n_notes, 1);
    assert_non_null(strstr(objects.notes[0], "Service s is left alone"));
}

static void a_deployment_is_as_many_pods_as_it_has_replicas(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(8));
    struct objects objects = { .arena = &arena };
    struct err err = {};
    static const char text[] =
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 3\n"
        "  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n"
        "    spec:\n      nodeSelector: {zone: a}\n      tolerations: [{key: k, operator: "
        "Exists}]\n"
        "      initContainers: [{name: i, resources: {limits: {nvidia.com/gpu: 2, cpu: 1}}}]\n"
        "      containers: [{name: c, resources: {limits: {nvidia.com/gpu: '1'}, requests: "
        "{nvidia.com/gpu: 1}}}]\n";

    assert_int_equal(read_text(&objects, text, &err), 0);
    assert_int_equal(objects.n_pods, 3);
    for (size_t i = 0; i < 3; i++) {
        const struct pod_object *pod = &objects.pods[i];

        assert_true(text_starts(pod->sim.name, "web-"));
        assert_string_not_equal(pod->sim.name, objects.pods[(i + 1) % 3].sim.name);
        assert_string_not_equal(pod->sim.uid, objects.pods[(i + 1) % 3].sim.uid);
        assert_int_equal(pod->sim.n_containers, 2);
        assert_true(pod->sim.containers[0].init);
        assert_int_equal(pod->sim.containers[0].n_requests, 1);
        assert_int_equal(pod->sim.containers[0].requests[0].count, 2);
        assert_int_equal(pod->sim.containers[1].requests[0].count, 1);
        assert_string_equal(pod->selectors[0].value, "a");
        assert_string_equal(pod->tolerations[0].op, "Exists");
    }
}

static const struct {
    const char *text, *sentence;
} wrong[] = {
    { "- a\n", "f.yaml:1:1: a Kubernetes object is a map with apiVersion and kind, not a list" },
    { "kind: Pod\n", "f.yaml:1:1: apiVersion is missing" },
    { "apiVersion: v1\n", "f.yaml:1:1: kind is missing" },
    { "apiVersion: v1\nkind: [Pod]\n", "f.yaml:2:7: kind must be a string, not a list" },
    { "apiVersion: v1\nkind: Pod\nmetadata: {}\n", "f.yaml:1:1: metadata.name is missing" },
    { "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n", "spec.containers is missing" },
    { "apiVersion: v1\nkind: Pod\nmetadata: {name: \"a\\e[2J\"}\n",
      "f.yaml:3:18: metadata.name: Invalid value" },
    { "apiVersion: v1\nkind: Pod\nmetadata: {name: Upper}\n", "a lowercase RFC 1123 subdomain" },
    { "apiVersion: v1\nkind: Pod\nmetadata: {name: a..b}\n", "a lowercase RFC 1123 subdomain" },
    { "apiVersion: v1\nkind: Pod\nmetadata: {name: a-}\n", "a lowercase RFC 1123 subdomain" },
    { "apiVersion: v1\nkind: Pod\nmetadata: {name: a.b-c}\nspec: {containers: [{name: c.d}]}\n",
      "a lowercase RFC 1123 label" },
    { POD_HEAD "    resources: {limits: {nvidia.com/gpu: 1.5}}\n",
      "f.yaml:8:42: nvidia.com/gpu: must be an integer" },
    { POD_HEAD "    resources: {limits: {nvidia.com/gpu: -1}}\n",
      "must be greater than or equal to 0" },
    { POD_HEAD "    resources: {limits: {nvidia.com/gpu: lots}}\n",
      "quantities must match the regular expression" },
    { POD_HEAD "    resources: {limits: {nvidia.com/gpu: 500m}}\n", "must be an integer" },
    { POD_HEAD "    resources: {requests: {nvidia.com/gpu: 1}}\n",
      "Limit must be set for non overcommitable resources" },
    { POD_HEAD "    resources: {limits: {nvidia.com/gpu: 2}, requests: {nvidia.com/gpu: 1}}\n",
      "must be equal to nvidia.com/gpu limit of 2" },
    { POD_HEAD "  - name: c\n", "two containers are called c" },
    { POD_HEAD "---\n" POD_HEAD, "pod p is there twice, first at f.yaml:1:1" },
    { "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata:\n  any:\n    version: v1\n",
      "data.any must be a string" },
    { "apiVersion: nvidia.com/v1\nkind: ClusterPolicy\nspec:\n  mig:\n    strategy: simple\n",
      "f.yaml:5:15: spec.mig.strategy: Unsupported value: \"simple\"" },
    { "apiVersion: nvidia.com/v1\nkind: ClusterPolicy\nspec:\n  devicePlugin: yes\n",
      "f.yaml:4:17: devicePlugin must be a map, not a boolean" },
    { "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  selector: "
      "{matchLabels: {a: b}}\n"
      "  template: {metadata: {labels: {a: c}}, spec: {containers: [{name: c}]}}\n",
      "`selector` does not match template `labels`: a" },
    { "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  replicas: 2000000\n"
      "  selector: {}\n  template: {spec: {containers: [{name: c}]}}\n",
      "replicas must be from 0 to 1000" },
    { "a: b\n c: d\n", "f.yaml:1:4: " },
};

static void a_wrong_manifest_gets_one_sentence_with_its_place(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(8));
        struct objects objects = { .arena = &arena };
        struct err err = {};
        int r = read_text(&objects, wrong[i].text, &err);

        if (r >= 0 || !strstr(err.text, wrong[i].sentence) || !text_starts(err.text, "f.yaml:"))
            fail_msg("case %zu: %d %s; wanted %s", i, r, err.text, wrong[i].sentence);
    }
}

static void lack_of_memory_is_an_error_and_nothing_else(void **state)
{
    int r = -ENOMEM;

    for (unsigned long n = 1; r == -ENOMEM; n++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(8));
        struct objects objects = { .arena = &arena };

        mem_fail_from(n);
        r = read_text(&objects,
                      POD_HEAD
                      "    resources: {limits: {nvidia.com/gpu: 1}}\n  nodeSelector: {a: b}\n",
                      NULL);
        mem_fail_from(0);
        assert_true(r == 0 || r == -ENOMEM);
        assert_true(n < 10000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_may_hold_several_objects_and_lists),
        cmocka_unit_test(a_deployment_is_as_many_pods_as_it_has_replicas),
        cmocka_unit_test(a_wrong_manifest_gets_one_sentence_with_its_place),
        cmocka_unit_test(lack_of_memory_is_an_error_and_nothing_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
