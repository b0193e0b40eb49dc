/*
 * How long the kubelet waits for an answer: Allocate and GetPreferredAllocation on shared GPUs,
 * GetPreferredAllocation on whole GPUs of several wirings; and the agent's memory after all that.
 *
 *     bench_calls        kubelet and agent share a CPU: what the work costs
 *     bench_calls apart  wherever the system puts them: waking an idle CPU is part of every call,
 *                        and on a quiet virtual machine most of it. Names begin with "apart."
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/figure.h"
#include "support/agent_process.h"

#define GPU    "nvidia.com/gpu"
#define SHARED "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 10}]}}\n"

enum { MAX_DEVICES = 128, WANTED = 4, LONG_REQUESTS = 5, WAIT_MS = 10000 };

struct bench {
    bool apart;
    struct agent_process *agent;
    struct scripted_plugin *plugin;
    struct arena arena; /* of the answer */
    struct span answer;
    bool answered;
};

static void on_answer(void *user, const struct grpc_status *status, struct span response)
{
    struct bench *bench = user;

    if (status->code != GRPC_OK) {
        fprintf(stderr, "%s\n", status->message);
        exit(1);
    }
    bench->answer = (struct span){ arena_spandup(&bench->arena, response), response.len };
    bench->answered = true;
}

/* One call in microseconds; the answer stays until the next. */
static double call(struct bench *bench, const char *path, struct span request)
{
    const struct grpc_call_options options = { .path = path, .timeout_ms = WAIT_MS };
    struct loop *loop = bench->agent->loop;

    arena_done(&bench->arena);
    bench->arena = ARENA_MAX(MIB(1));
    bench->answered = false;
    uint64_t begin = loop_now_ns(loop);
    if (grpc_client_unary(bench->plugin->client, &options, request, on_answer, bench, NULL, NULL))
        exit(1);
    while (!bench->answered)
        loop_wait(loop, WAIT_MS);
    return (double)(loop_now_ns(loop) - begin) / 1e3;
}

/* Every answer is looked at: a fast wrong one is worth nothing. */
static void check(bool right, const char *what)
{
    if (right)
        return;
    fprintf(stderr, "a wrong answer: %s\n", what);
    exit(1);
}

static void bench_open(struct bench *bench, const char *node, const char *config, size_t n_devices)
{
    bench->agent = agent_process_new(node);
    if (config)
        agent_process_config(bench->agent, config);
    agent_process_begin(bench->agent);
    bench->plugin = scripted_kubelet_expect(&bench->agent->kubelet, GPU, n_devices, n_devices);
}

static void bench_close(struct bench *bench)
{
    arena_done(&bench->arena);
    agent_process_free(bench->agent);
}

static void report(const struct bench *bench, struct samples *micros, const char *what)
{
    char name[64];

    snprintf(name, sizeof(name), "%s%s", bench->apart ? "apart." : "", what);
    samples_print(micros, name);
    samples_done(micros);
}

/* ---- Allocate ---- */

static double allocate_one(struct bench *bench, const char *id)
{
    struct id_list ids = { 1, &id };
    const struct allocate_request request = { 1, &ids };
    auto_(buf_done) struct buf bytes = BUF_MAX(MIB(1));
    struct allocate_response response;

    allocate_request_encode(&request, &bytes);
    double micros = call(bench, PLUGIN_PATH_ALLOCATE, buf_span(&bytes));
    check(allocate_response_decode(bench->answer, &bench->arena, &response, NULL) == 0 &&
              response.n == 1,
          "Allocate");
    const char *seen = allocation_env(response.items[0], "NVIDIA_VISIBLE_DEVICES");
    check(seen && strncmp(seen, id, strlen(seen)) == 0 && text_starts(id + strlen(seen), "::"), id);
    return micros;
}

static void allocate_shared(struct bench *bench)
{
    struct samples micros = {};
    size_t n = times_to_run("BENCH_ALLOCATES", 20000);

    for (size_t i = 0; i < n; i++)
        samples_add(&micros, allocate_one(bench, bench->plugin->list.items[i % 80].id));
    report(bench, &micros, "allocate");
}

/* ---- GetPreferredAllocation ---- */

/* The index in the list of the id, which must be there. */
static size_t index_of(const struct bench *bench, const char *id)
{
    const struct device_list *list = &bench->plugin->list;

    for (size_t i = 0; i < list->n; i++)
        if (text_equal(list->items[i].id, id))
            return i;
    check(false, id);
    return 0;
}

static void prefer_some(struct bench *bench, const char *name, bool paired)
{
    const struct device_list *list = &bench->plugin->list;
    const char *ids[MAX_DEVICES];
    struct prefer_request container = { .available = ids, .n_available = list->n, .size = WANTED };
    const struct preferred_request request = { 1, &container };
    auto_(buf_done) struct buf bytes = BUF_MAX(MIB(1));
    struct samples micros = {};

    for (size_t i = 0; i < list->n; i++)
        ids[i] = list->items[i].id;
    preferred_request_encode(&request, &bytes);
    for (size_t n = times_to_run("BENCH_PREFERENCES", 2000); n > 0; n--) {
        struct preferred_response response;
        uint64_t chosen[2] = {};

        samples_add(&micros, call(bench, PLUGIN_PATH_PREFER, buf_span(&bytes)));
        check(preferred_response_decode(bench->answer, &bench->arena, &response, NULL) == 0 &&
                  response.n == 1 && response.items[0].n == WANTED,
              name);
        for (size_t i = 0; i < WANTED; i++) {
            size_t at = index_of(bench, response.items[0].items[i]);
            chosen[at / 64] |= UINT64_C(1) << at % 64;
        }
        check(__builtin_popcountll(chosen[0]) + __builtin_popcountll(chosen[1]) == WANTED, name);
        /* neighbours that NVLink joins stay together */
        check(!paired || ((chosen[0] >> 1 ^ chosen[0]) & UINT64_C(0x5555555555555555)) == 0, name);
    }
    report(bench, &micros, name);
}

static void prefer_whole(bool apart, const char *n_gpus, const char *wiring)
{
    char node[64], name[64];
    struct bench bench = { .apart = apart };

    snprintf(node, sizeof(node), "%sxh100-80gb --nvlink %s", n_gpus, wiring);
    snprintf(name, sizeof(name), "prefer.%s.%s", n_gpus, wiring);
    bench_open(&bench, node, NULL, strtoul(n_gpus, NULL, 10));
    prefer_some(&bench, name, text_equal(wiring, "pairs"));
    bench_close(&bench);
}

/* ---- memory ---- */

/* A request as long as a Go peer takes: 3.2 MB of ids that this node does not have. */
static void refuse_long_request(struct bench *bench)
{
    enum { N_IDS = 70000 };
    const char **ids = calloc(N_IDS, sizeof(*ids)), *message = "";
    struct id_list list = { N_IDS, ids };
    const struct allocate_request request = { 1, &list };
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    auto_(buf_done) struct buf bytes = BUF_MAX(MIB(4));

    check(ids, "no memory");
    for (size_t i = 0; i < N_IDS; i++)
        ids[i] = "GPU-00000000-0000-0000-0000-000000000000::1";
    allocate_request_encode(&request, &bytes);
    check(!bytes.failed &&
              scripted_call(bench->plugin, PLUGIN_PATH_ALLOCATE, buf_span(&bytes), &arena, NULL,
                            &message) != GRPC_OK &&
              strstr(message, "GPU-00000000"),
          message);
    free(ids);
}

static void print_memory(const struct bench *bench, const char *name)
{
    agent_process_idle(bench->agent, 200);
    const struct memory memory = memory_read(child_pid(bench->agent->child), bench->agent->sim);

    memory_print(&memory, name);
}

/* The agent is our child, and inherits this. */
static void stay_on_one_cpu(void)
{
    cpu_set_t here;

    CPU_ZERO(&here);
    CPU_SET((size_t)sched_getcpu(), &here);
    check(sched_setaffinity(0, sizeof(here), &here) == 0, "cannot choose a CPU");
}

int main(int argc, char **argv)
{
    static const char *const wirings[] = { "switch", "mesh", "pairs" };
    struct bench bench = { .apart = argc > 1 && text_equal(argv[1], "apart") };

    if (!bench.apart)
        stay_on_one_cpu();
    bench_open(&bench, "8xh100-80gb", SHARED, 80);
    allocate_shared(&bench);
    prefer_some(&bench, "prefer.shared", false);
    print_memory(&bench, "loaded");
    for (int i = 0; i < LONG_REQUESTS; i++)
        refuse_long_request(&bench);
    print_memory(&bench, "long");
    bench_close(&bench);
    for (size_t i = 0; i < ARRAY_LEN(wirings); i++) {
        prefer_whole(bench.apart, "8", wirings[i]);
        prefer_whole(bench.apart, "16", wirings[i]);
    }
    return 0;
}
