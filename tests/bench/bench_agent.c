/*
 * How long from exec to the first device list at the kubelet, and what the agent takes of memory
 * once it rests: 8 GPUs shared ten times, and 56 MIG devices.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/figure.h"
#include "support/agent_process.h"

enum { REST_MS = 200 };

struct node {
    const char *name, *mig, *config, *resource;
    size_t n_devices;
};

static const struct node nodes[] = {
    { "start.shared", NULL,
      "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 10}]}}\n",
      "nvidia.com/gpu", 80 },
    { "start.mig", "mig all 1g.10gb:7", "flags: {migStrategy: mixed}\n", "nvidia.com/mig-1g.10gb",
      56 },
};

static double start_once(struct agent_process *agent, const struct node *node,
                         struct memory *ret_memory)
{
    scripted_kubelet_start(&agent->kubelet, agent->loop, agent->plugins);
    uint64_t begin = loop_now_ns(agent->loop);
    agent_process_start(agent, NULL);
    scripted_kubelet_expect(&agent->kubelet, node->resource, node->n_devices, node->n_devices);
    double ms = (double)(loop_now_ns(agent->loop) - begin) / 1e6;

    agent_process_idle(agent, REST_MS);
    *ret_memory = memory_read(child_pid(agent->child), agent->sim);
    agent_process_signal(agent, SIGTERM);
    if (agent_process_wait(agent) != 0) {
        fprintf(stderr, "the agent failed: %s\n", agent->errors);
        exit(1);
    }
    scripted_kubelet_stop(&agent->kubelet, false);
    return ms;
}

int main(void)
{
    size_t n = times_to_run("BENCH_STARTS", 51);

    for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
        struct agent_process *agent = agent_process_new("8xh100-80gb");
        struct samples ms = {};
        struct memory memory = {};

        if (nodes[i].mig)
            agent_process_sim(agent, "%s", nodes[i].mig);
        agent_process_config(agent, nodes[i].config);
        for (size_t k = 0; k < n; k++)
            samples_add(&ms, start_once(agent, &nodes[i], &memory));
        samples_print(&ms, nodes[i].name);
        memory_print(&memory, nodes[i].name);
        samples_done(&ms);
        agent_process_free(agent);
    }
    return 0;
}
