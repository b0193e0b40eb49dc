#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sim/node/scheduler.h"

static const struct sim_request one_gpu = { "nvidia.com/gpu", 1 },
                                two_gpus = { "nvidia.com/gpu", 2 };
static const struct sim_request three_gpus = { "nvidia.com/gpu", 3 };
static const struct sim_request one_mig = { "nvidia.com/mig-1g.10gb", 1 };

static const struct sim_capacity capacity[] = {
    { "nvidia.com/gpu", 4, 2 },
    { "nvidia.com/mig-1g.10gb", 7, 7 },
};
static const struct key_value labels[] = { { "zone", "a" },
                                           { "nvidia.com/mig.config", "all-1g.10gb" } };
static const struct taint gpu_taint = { "nvidia.com/gpu", "", "NoSchedule" };
static const struct taint soft_taint = { "slow", "", "PreferNoSchedule" };

#define POD(...)                                                                                   \
    (struct pod_object)                                                                            \
    {                                                                                              \
        .sim = {                                                                                   \
            .containers = (const struct sim_container[]){ __VA_ARGS__ },                           \
            .n_containers =                                                                        \
                sizeof((struct sim_container[]){ __VA_ARGS__ }) / sizeof(struct sim_container)     \
        }                                                                                          \
    }
#define NEEDS(request)                                                                             \
    {                                                                                              \
        .name = "c", .n_requests = 1, .requests = &(request)                                       \
    }
#define INIT(request)                                                                              \
    {                                                                                              \
        .name = "i", .init = true, .n_requests = 1, .requests = &(request)                         \
    }

static struct node_view view(const struct taint *taints, size_t n_taints)
{
    return (struct node_view){ .n_labels = 2,
                               .labels = labels,
                               .n_taints = n_taints,
                               .taints = taints,
                               .n_capacity = 2,
                               .capacity = capacity };
}

#define NO_HELP                                                                                    \
    SCHEDULER_AFTERWORD "0/1 nodes are available: 1 Preemption is not helpful for scheduling."
#define NO_VICTIMS                                                                                 \
    SCHEDULER_AFTERWORD "0/1 nodes are available: 1 No preemption victims found for incoming pod."

static void expect_refusal(const struct node_view *node, const struct pod_object *pod,
                           const struct pod_object *const *running, size_t n, const char *sentence)
{
    auto_(buf_done) struct buf why = BUF_MAX(KIB(4));
    bool fits = scheduler_fits(node, pod, running, n, &why);

    assert_int_equal(fits, sentence == NULL);
    assert_string_equal(buf_text(&why), sentence ? sentence : "");
}

static void counts_what_running_pods_hold(void **state)
{
    struct node_view node = view(NULL, 0);
    struct pod_object one = POD(NEEDS(one_gpu)), two = POD(NEEDS(two_gpus));
    const struct pod_object *running[] = { &one };

    expect_refusal(&node, &two, NULL, 0, NULL);
    expect_refusal(&node, &one, running, 1, NULL);
    expect_refusal(&node, &two, running, 1,
                   "0/1 nodes are available: 1 Insufficient nvidia.com/gpu." NO_VICTIMS);
}

static void an_unhealthy_device_does_not_count(void **state)
{
    struct node_view node = view(NULL, 0);
    struct pod_object three = POD(NEEDS(three_gpus)); /* capacity 4, allocatable 2 */

    expect_refusal(&node, &three, NULL, 0,
                   "0/1 nodes are available: 1 Insufficient nvidia.com/gpu." NO_HELP);
}

static void a_resource_nobody_offers_keeps_a_pod_pending(void **state)
{
    static const struct sim_request none = { "nvidia.com/mig-9g.90gb", 1 };
    struct node_view node = view(NULL, 0);
    struct pod_object pod = POD(NEEDS(none));

    expect_refusal(&node, &pod, NULL, 0,
                   "0/1 nodes are available: 1 Insufficient nvidia.com/mig-9g.90gb." NO_HELP);
}

static void several_short_resources_are_named_once_each(void **state)
{
    static const struct sim_request many = { "nvidia.com/mig-1g.10gb", 8 };
    struct node_view node = view(NULL, 0);
    struct pod_object pod = POD(NEEDS(three_gpus), NEEDS(many), NEEDS(one_gpu));

    expect_refusal(&node, &pod, NULL, 0,
                   "0/1 nodes are available: 1 Insufficient nvidia.com/gpu, "
                   "1 Insufficient nvidia.com/mig-1g.10gb." NO_HELP);
}

static void init_containers_count_by_the_largest(void **state)
{
    struct pod_object pod = POD(INIT(two_gpus), INIT(two_gpus), NEEDS(one_gpu));
    struct pod_object sum = POD(INIT(one_gpu), NEEDS(one_gpu), NEEDS(one_gpu));

    assert_int_equal(pod_request(&pod.sim, "nvidia.com/gpu"), 2);
    assert_int_equal(pod_request(&sum.sim, "nvidia.com/gpu"), 2);
    assert_int_equal(pod_request(&sum.sim, "nvidia.com/mig-1g.10gb"), 0);
}

static void a_selector_must_match_a_label_to_the_letter(void **state)
{
    static struct key_value right = { "nvidia.com/mig.config", "all-1g.10gb" };
    static struct key_value wrong = { "nvidia.com/mig.config", "all-balanced" };
    static struct key_value absent = { "region", "" };
    struct node_view node = view(NULL, 0);
    struct pod_object pod = POD(NEEDS(one_mig));
    const char *sentence =
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector." NO_HELP;

    pod.n_selectors = 1;
    pod.selectors = &right;
    expect_refusal(&node, &pod, NULL, 0, NULL);
    pod.selectors = &wrong;
    expect_refusal(&node, &pod, NULL, 0, sentence);
    pod.selectors = &absent;
    expect_refusal(&node, &pod, NULL, 0, sentence);
}

static void a_taint_needs_a_toleration_of_its_key_and_effect(void **state)
{
    static struct toleration by_key = { "nvidia.com/gpu", "Exists", "", "NoSchedule" };
    static struct toleration other_effect = { "nvidia.com/gpu", "Exists", "", "NoExecute" };
    static struct toleration by_value = { "nvidia.com/gpu", "Equal", "present", "" };
    static struct toleration everything = { "", "Exists", "", "" };
    struct node_view node = view(&gpu_taint, 1), soft = view(&soft_taint, 1);
    struct pod_object pod = POD(NEEDS(one_gpu));
    const char *sentence =
        "0/1 nodes are available: 1 node(s) had untolerated taint {nvidia.com/gpu: }." NO_HELP;

    expect_refusal(&node, &pod, NULL, 0, sentence);
    expect_refusal(&soft, &pod, NULL, 0, NULL);
    pod.n_tolerations = 1;
    pod.tolerations = &other_effect;
    expect_refusal(&node, &pod, NULL, 0, sentence);
    pod.tolerations = &by_value;
    expect_refusal(&node, &pod, NULL, 0, sentence);
    pod.tolerations = &by_key;
    expect_refusal(&node, &pod, NULL, 0, NULL);
    pod.tolerations = &everything;
    expect_refusal(&node, &pod, NULL, 0, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_what_running_pods_hold),
        cmocka_unit_test(an_unhealthy_device_does_not_count),
        cmocka_unit_test(a_resource_nobody_offers_keeps_a_pod_pending),
        cmocka_unit_test(several_short_resources_are_named_once_each),
        cmocka_unit_test(init_containers_count_by_the_largest),
        cmocka_unit_test(a_selector_must_match_a_label_to_the_letter),
        cmocka_unit_test(a_taint_needs_a_toleration_of_its_key_and_effect),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
