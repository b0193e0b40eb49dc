/*
 * A long life in a minute: a kubelet that restarts again and again, and many Allocates between the
 * restarts, on a node that offers shared GPUs and MIG devices. Every resource must come back every
 * time with all its devices, every answer must be right, and the agent must not grow.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/figure.h"
#include "support/agent_process.h"

#define CONFIG                                                                                     \
    "flags: {migStrategy: mixed}\n"                                                                \
    "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 10}]}}\n"

enum { REST_MS = 100 };

static const struct {
    const char *name;
    size_t n_devices;
} resources[] = { { "nvidia.com/gpu", 40 }, { "nvidia.com/mig-1g.10gb", 28 } };

struct soak {
    struct agent_process *agent;
    size_t n_restarts, n_allocates;
    size_t n_registered, n_answered, n_wrong;
    struct samples back_ms; /* from the kubelet's socket to the last resource's list */
};

/* What may not grow. */
struct size {
    struct memory memory;
    size_t n_fds, n_threads;
};

static struct size size_now(struct soak *soak)
{
    agent_process_idle(soak->agent, REST_MS);
    pid_t pid = child_pid(soak->agent->child);

    return (struct size){ memory_read(pid, soak->agent->sim), count_entries(pid, "fd"),
                          count_entries(pid, "task") };
}

static void size_print(const struct size *size, const char *name)
{
    memory_print(&size->memory, name);
    figure_print((double)size->n_fds, "%s.fds", name);
    figure_print((double)size->n_threads, "%s.threads", name);
}

static void await_resources(struct soak *soak)
{
    for (size_t i = 0; i < ARRAY_LEN(resources); i++) {
        scripted_kubelet_expect(&soak->agent->kubelet, resources[i].name, resources[i].n_devices,
                                resources[i].n_devices);
        soak->n_registered++;
    }
}

static void restart_kubelet(struct soak *soak, size_t turn)
{
    struct agent_process *agent = soak->agent;

    scripted_kubelet_stop(&agent->kubelet, turn % 2); /* every other one leaves its socket behind */
    uint64_t begin = loop_now_ns(agent->loop);
    scripted_kubelet_start(&agent->kubelet, agent->loop, agent->plugins);
    await_resources(soak);
    samples_add(&soak->back_ms, (double)(loop_now_ns(agent->loop) - begin) / 1e6);
}

static void allocate_one(struct soak *soak, size_t turn)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    struct scripted_plugin *plugin =
        scripted_kubelet_plugin(&soak->agent->kubelet, resources[turn % ARRAY_LEN(resources)].name);
    const char *id = plugin->list.items[turn / ARRAY_LEN(resources) % plugin->list.n].id;
    const char *end = strstr(id, "::"), *message = "";
    const struct allocation *got = scripted_allocate(plugin, &id, 1, &arena, &message);
    const char *seen = got ? allocation_env(got, "NVIDIA_VISIBLE_DEVICES") : NULL;
    size_t len = end ? (size_t)(end - id) : strlen(id);

    soak->n_answered += got != NULL;
    soak->n_wrong += !seen || strlen(seen) != len || memcmp(seen, id, len) != 0;
}

static void live(struct soak *soak, size_t from_part, size_t to_part)
{
    size_t from = soak->n_restarts * from_part / 10, to = soak->n_restarts * to_part / 10;

    for (size_t i = from; i < to; i++) {
        restart_kubelet(soak, i);
        for (size_t k = soak->n_allocates * i / soak->n_restarts;
             k < soak->n_allocates * (i + 1) / soak->n_restarts; k++)
            allocate_one(soak, k);
    }
}

/* The second look at the GPUs takes its memory beside the first one's. That is the agent's full
 * size, and no growth, so it comes before anything is compared. */
static void look_again(struct soak *soak)
{
    for (int i = 0; i < 2; i++) {
        agent_process_signal(soak->agent, SIGHUP);
        agent_process_idle(soak->agent, REST_MS);
    }
}

static void print_all(struct soak *soak, const struct size *early, const struct size *late)
{
    figure_print((double)soak->n_restarts, "soak.restarts");
    figure_print((double)soak->n_registered, "soak.registered");
    figure_print((double)(soak->n_restarts * ARRAY_LEN(resources)), "soak.registrations_wanted");
    figure_print((double)soak->n_allocates, "soak.allocates");
    figure_print((double)soak->n_answered, "soak.answered");
    figure_print((double)soak->n_wrong, "soak.wrong");
    samples_print(&soak->back_ms, "soak.back");
    size_print(early, "soak.early");
    size_print(late, "soak.late");
}

int main(void)
{
    struct soak soak = { .agent = agent_process_new("8xh100-80gb"),
                         .n_restarts = times_to_run("BENCH_RESTARTS", 1000),
                         .n_allocates = times_to_run("BENCH_SOAK_ALLOCATES", 100000) };

    for (int i = 4; i < 8; i++)
        agent_process_sim(soak.agent, "mig %d 1g.10gb:7", i);
    agent_process_config(soak.agent, CONFIG);
    agent_process_begin(soak.agent);
    await_resources(&soak);
    look_again(&soak);
    soak.n_registered = 0;
    live(&soak, 0, 1);
    const struct size early = size_now(&soak);
    live(&soak, 1, 10);
    const struct size late = size_now(&soak);
    print_all(&soak, &early, &late);
    samples_done(&soak.back_ms);
    agent_process_free(soak.agent);
    return soak.n_wrong || soak.n_answered != soak.n_allocates ||
           soak.n_registered != soak.n_restarts * ARRAY_LEN(resources);
}
