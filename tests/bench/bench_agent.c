/*
 * How long from exec to the first device list at the kubelet, and what the agent then takes of
 * memory: 8 GPUs shared ten times, simulated. Median and best of some runs.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/agent_process.h"

enum { RUNS = 31, DEVICES = 80 };

#define CONFIG "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 10}]}}\n"

struct memory {
    unsigned long rss_kib, pss_kib, private_kib;
};

static struct memory read_memory(const struct agent_process *agent)
{
    struct memory memory = {};
    char path[64], line[128];
    unsigned long n;

    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)child_pid(agent->child));
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file)) {
        if (sscanf(line, "Rss: %lu", &n) == 1)
            memory.rss_kib = n;
        else if (sscanf(line, "Pss: %lu", &n) == 1)
            memory.pss_kib = n;
        else if (sscanf(line, "Private_Clean: %lu", &n) == 1 ||
                 sscanf(line, "Private_Dirty: %lu", &n) == 1)
            memory.private_kib += n;
    }
    fclose(file);
    return memory;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double one_run(struct agent_process *agent, struct memory *ret_memory)
{
    uint64_t begin;

    scripted_kubelet_start(&agent->kubelet, agent->loop, agent->plugins);
    begin = loop_now_ns(agent->loop);
    agent_process_start(agent, NULL);
    scripted_kubelet_expect(&agent->kubelet, "nvidia.com/gpu", DEVICES, DEVICES);
    double ms = (double)(loop_now_ns(agent->loop) - begin) / 1e6;

    agent_process_idle(agent, 200);
    *ret_memory = read_memory(agent);
    agent_process_signal(agent, SIGTERM);
    assert_int_equal(agent_process_wait(agent), 0);
    scripted_kubelet_stop(&agent->kubelet, false);
    return ms;
}

static void exec_to_first_list(void **state)
{
    struct agent_process *agent = agent_process_new("8xh100-80gb");
    double ms[RUNS];
    struct memory memory = {};

    agent_process_config(agent, CONFIG);
    for (int i = 0; i < RUNS; i++)
        ms[i] = one_run(agent, &memory);
    qsort(ms, RUNS, sizeof(ms[0]), by_size);
    printf("agent, 8 GPUs x 10: exec to first list %.2f ms (best %.2f, worst %.2f), "
           "RSS %lu KiB, PSS %lu KiB, private %lu KiB\n",
           ms[RUNS / 2], ms[0], ms[RUNS - 1], memory.rss_kib, memory.pss_kib, memory.private_kib);
    agent_process_free(agent);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(exec_to_first_list) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
