#include "sim/node/scheduler.h"

#include <string.h>

#include "sim/node/affinity.h"

uint32_t pod_request(const struct sim_pod *pod, const char *resource)
{
    uint64_t sum = 0, largest_init = 0;

    for (size_t c = 0; c < pod->n_containers; c++) {
        const struct sim_container *container = &pod->containers[c];

        for (size_t i = 0; i < container->n_requests; i++) {
            if (!text_equal(container->requests[i].resource, resource))
                continue;
            if (container->init)
                largest_init = MAX(largest_init, container->requests[i].count);
            else
                sum += container->requests[i].count;
        }
    }
    return (uint32_t)MIN(MAX(sum, largest_init), UINT32_MAX);
}

static const char *label_of(const struct node_view *node, const char *key)
{
    for (size_t i = 0; i < node->n_labels; i++)
        if (text_equal(node->labels[i].key, key))
            return node->labels[i].value;
    return NULL;
}

static bool selector_matches(const struct node_view *node, const struct pod_object *pod)
{
    for (size_t i = 0; i < pod->n_selectors; i++) {
        const char *value = label_of(node, pod->selectors[i].key);

        if (!value || !text_equal(value, pod->selectors[i].value))
            return false;
    }
    return true;
}

static bool tolerates(const struct toleration *toleration, const struct taint *taint)
{
    if (*toleration->effect && !text_equal(toleration->effect, taint->effect))
        return false;
    if (!*toleration->key)
        return text_equal(toleration->op, "Exists");
    if (!text_equal(toleration->key, taint->key))
        return false;
    return text_equal(toleration->op, "Exists") || text_equal(toleration->value, taint->value);
}

static const struct taint *untolerated(const struct node_view *node, const struct pod_object *pod)
{
    for (size_t t = 0; t < node->n_taints; t++) {
        bool tolerated = text_equal(node->taints[t].effect, "PreferNoSchedule");

        for (size_t i = 0; i < pod->n_tolerations && !tolerated; i++)
            tolerated = tolerates(&pod->tolerations[i], &node->taints[t]);
        if (!tolerated)
            return &node->taints[t];
    }
    return NULL;
}

static uint32_t allocatable(const struct node_view *node, const char *resource)
{
    for (size_t i = 0; i < node->n_capacity; i++)
        if (text_equal(node->capacity[i].resource, resource))
            return node->capacity[i].allocatable;
    return 0;
}

/* Appends "1 Insufficient NAME" for each resource that is short, each once. True when an empty node
 * would be too small as well. */
static bool add_insufficient(const struct node_view *node, const struct pod_object *pod,
                             const struct pod_object *const *running, size_t n_running,
                             struct buf *why)
{
    auto_(map_done) struct map seen = {};
    bool helpless = false;

    for (size_t c = 0; c < pod->sim.n_containers; c++)
        for (size_t i = 0; i < pod->sim.containers[c].n_requests; i++) {
            const char *resource = pod->sim.containers[c].requests[i].resource;
            uint64_t used = 0, wanted = pod_request(&pod->sim, resource);

            if (map_has(&seen, resource) || map_set(&seen, resource, why) < 0)
                continue;
            for (size_t r = 0; r < n_running; r++)
                used += pod_request(&running[r]->sim, resource);
            if (wanted > 0 && used + wanted > allocatable(node, resource)) {
                buf_printf(why, "%s1 Insufficient %s", why->len ? ", " : "", resource);
                helpless = helpless || wanted > allocatable(node, resource);
            }
        }
    return helpless;
}

bool scheduler_fits(const struct node_view *node, const struct pod_object *pod,
                    const struct pod_object *const *running, size_t n_running, struct buf *why)
{
    auto_(buf_done) struct buf reasons = BUF_MAX(KIB(64));
    const struct taint *taint = untolerated(node, pod);
    bool helpless = true; /* not even a pod less would help */

    /* The scheduler's filters run in this order, and the first that fails speaks for the node. */
    if (taint)
        buf_printf(&reasons, "1 node(s) had untolerated taint {%s: %s}", taint->key, taint->value);
    else if (!selector_matches(node, pod) || !affinity_matches(pod, node->labels, node->n_labels))
        buf_add_text(&reasons, "1 node(s) didn't match Pod's node affinity/selector");
    else
        helpless = add_insufficient(node, pod, running, n_running, &reasons);
    if (reasons.len == 0)
        return true;
    buf_printf(why,
               "0/1 nodes are available: %s." SCHEDULER_AFTERWORD "0/1 nodes are available: 1 %s.",
               buf_text(&reasons),
               helpless ? "Preemption is not helpful for scheduling"
                        : "No preemption victims found for incoming pod");
    return false;
}
