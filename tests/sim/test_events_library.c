/*
 * Events through the simulated libnvidia-ml.so.1, between threads and between processes.
 */
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "nvml_bench.h"

#include "sim/gpu/event.h"

enum { AT_ONCE = 0, SOON_MS = 30, LONG_MS = 20000, UNTOUCHED = 0xa5 };

static void raise_xid(struct bench *bench, uint32_t gpu, uint64_t xid)
{
    sim_state_lock(bench->node);
    sim_event_raise(bench->node, &bench->node->gpus[gpu], SIM_EVENT_XID, xid, SIM_NO_INSTANCE,
                    SIM_NO_INSTANCE);
    sim_state_unlock(bench->node);
}

static nvmlEventSet_t new_set(struct bench *bench)
{
    nvmlEventSet_t set = NULL;

    GOOD(CALL(nvmlEventSetCreate)(&set));
    assert_non_null(set);
    return set;
}

static void watch(struct bench *bench, nvmlEventSet_t set, uint32_t gpu, uint64_t types)
{
    GOOD(CALL(nvmlDeviceRegisterEvents)(bench_device(bench, gpu), types, set));
}

static void assert_xid(struct bench *bench, nvmlEventSet_t set, uint32_t gpu, uint64_t xid)
{
    struct nvml_event_data data;

    GOOD(CALL(nvmlEventSetWait_v2)(set, &data, LONG_MS));
    assert_ptr_equal(data.device, bench_device(bench, gpu));
    assert_int_equal(data.eventType, NVML_EVENT_XID);
    assert_int_equal(data.eventData, xid);
    assert_int_equal(data.gpuInstanceId, NVML_NO_INSTANCE);
    assert_int_equal(data.computeInstanceId, NVML_NO_INSTANCE);
}

static void assert_quiet(struct bench *bench, nvmlEventSet_t set)
{
    struct nvml_event_data data;

    assert_int_equal(CALL(nvmlEventSetWait_v2)(set, &data, AT_ONCE), NVML_TIMEOUT);
}

static void each_set_sees_what_came_after_it_registered_once(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("2xh100-80gb");
    nvmlEventSet_t early = new_set(bench), late = new_set(bench);

    raise_xid(bench, 0, 13);
    watch(bench, early, 0, NVML_EVENT_XID);
    raise_xid(bench, 0, 48);
    watch(bench, late, 0, NVML_EVENT_XID);
    raise_xid(bench, 0, 63);
    raise_xid(bench, 1, 64); /* nobody watches this one */

    assert_xid(bench, early, 0, 48);
    assert_xid(bench, early, 0, 63);
    assert_quiet(bench, early);
    assert_xid(bench, late, 0, 63);
    assert_quiet(bench, late);
}

static void registering_again_neither_repeats_nor_forgets(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlEventSet_t set = new_set(bench);

    for (int i = 0; i < 80; i++) /* as a device plugin does, once per replica */
        watch(bench, set, 0, NVML_EVENT_XID | NVML_EVENT_DOUBLE_BIT_ECC);
    raise_xid(bench, 0, 79);
    watch(bench, set, 0, NVML_EVENT_XID);
    assert_xid(bench, set, 0, 79);
    assert_quiet(bench, set);
}

static void only_registered_types_are_seen(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb,t4");
    nvmlEventSet_t set = new_set(bench);
    struct nvml_event_data data;
    uint64_t types;

    GOOD(CALL(nvmlDeviceGetSupportedEventTypes)(bench_device(bench, 0), &types));
    assert_int_equal(types & 0xb, 0xb); /* what device plugins ask for */
    assert_int_equal(types & NVML_EVENT_MIG_CONFIG, NVML_EVENT_MIG_CONFIG);
    watch(bench, set, 0, NVML_EVENT_MIG_CONFIG);
    raise_xid(bench, 0, 31);
    assert_quiet(bench, set);
    sim_state_lock(bench->node);
    enum sim_mig_activation activation;
    assert_int_equal(sim_mig_mode_set(bench->node, &bench->node->gpus[0], 1, &activation, NULL), 0);
    sim_state_unlock(bench->node);
    GOOD(CALL(nvmlEventSetWait_v2)(set, &data, LONG_MS));
    assert_int_equal(data.eventType, NVML_EVENT_MIG_CONFIG);

    assert_int_equal(
        CALL(nvmlDeviceRegisterEvents)(bench_device(bench, 1), NVML_EVENT_MIG_CONFIG, set),
        NVML_NOT_SUPPORTED);
    assert_int_equal(CALL(nvmlDeviceRegisterEvents)(bench_device(bench, 1), 1ull << 40, set),
                     NVML_INVALID_ARGUMENT);
}

static void lost_gpu_says_xid_79(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("2xh100-80gb");
    nvmlEventSet_t set = new_set(bench);
    struct nvml_event_data data;

    watch(bench, set, 0, NVML_EVENT_XID);
    watch(bench, set, 1, NVML_EVENT_XID);
    sim_state_lock(bench->node);
    sim_event_gpu_lost(bench->node, &bench->node->gpus[1]);
    sim_state_unlock(bench->node);
    GOOD(CALL(nvmlEventSetWait_v2)(set, &data, LONG_MS));
    assert_int_equal(data.eventData, 79);
    assert_int_equal(CALL(nvmlDeviceRegisterEvents)(data.device, NVML_EVENT_XID, set),
                     NVML_GPU_IS_LOST);
    assert_quiet(bench, set);
}

static void instances_are_named_to_root_alone(void **test)
{
    if (geteuid() != 0)
        skip();

    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlEventSet_t set = new_set(bench);
    struct nvml_event_data told, not_told;

    watch(bench, set, 0, NVML_EVENT_XID);
    for (int i = 0; i < 2; i++) {
        sim_state_lock(bench->node);
        sim_event_raise(bench->node, &bench->node->gpus[0], SIM_EVENT_XID, 94, 7, 0);
        sim_state_unlock(bench->node);
    }
    GOOD(CALL(nvmlEventSetWait_v2)(set, &told, LONG_MS));
    unsetenv("TRANCHE_SIM_PRIVILEGED");
    assert_int_equal(seteuid(65534), 0);
    nvmlReturn_t r = CALL(nvmlEventSetWait_v2)(set, &not_told, LONG_MS);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(r, NVML_SUCCESS);
    assert_int_equal(told.gpuInstanceId, 7);
    assert_int_equal(told.computeInstanceId, 0);
    assert_int_equal(not_told.gpuInstanceId, NVML_NO_INSTANCE);
    assert_int_equal(not_told.computeInstanceId, NVML_NO_INSTANCE);
}

static void unversioned_wait_leaves_what_old_callers_have_no_room_for(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlEventSet_t set = new_set(bench);
    struct nvml_event_data data;

    memset(&data, UNTOUCHED, sizeof(data));
    watch(bench, set, 0, NVML_EVENT_XID);
    raise_xid(bench, 0, 48);
    GOOD(CALL(nvmlEventSetWait)(set, &data, LONG_MS));
    assert_int_equal(data.eventData, 48);
    assert_int_equal(data.gpuInstanceId, 0xa5a5a5a5);
}

static void wrong_sets_are_refused(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlEventSet_t set = new_set(bench);
    nvmlDevice_t gpu = bench_device(bench, 0);
    struct nvml_event_data data;

    assert_int_equal(CALL(nvmlEventSetWait_v2)(set, NULL, AT_ONCE), NVML_INVALID_ARGUMENT);
    assert_int_equal(CALL(nvmlEventSetCreate)(NULL), NVML_INVALID_ARGUMENT);
    GOOD(CALL(nvmlEventSetFree)(set));
    assert_int_equal(CALL(nvmlEventSetFree)(set), NVML_INVALID_ARGUMENT);
    assert_int_equal(CALL(nvmlEventSetWait_v2)(set, &data, AT_ONCE), NVML_INVALID_ARGUMENT);
    assert_int_equal(CALL(nvmlDeviceRegisterEvents)(gpu, NVML_EVENT_XID, set),
                     NVML_INVALID_ARGUMENT);
    assert_int_equal(CALL(nvmlEventSetWait_v2)((nvmlEventSet_t)gpu, &data, AT_ONCE),
                     NVML_INVALID_ARGUMENT);
    new_set(bench); /* in the old one's place */
    assert_int_equal(CALL(nvmlEventSetWait_v2)(set, &data, AT_ONCE), NVML_INVALID_ARGUMENT);
}

static void slow_reader_loses_the_oldest(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlEventSet_t set = new_set(bench);

    watch(bench, set, 0, NVML_EVENT_XID);
    for (uint64_t xid = 1; xid <= SIM_MAX_EVENTS + 5; xid++)
        raise_xid(bench, 0, xid);
    for (uint64_t xid = 6; xid <= SIM_MAX_EVENTS + 5; xid++)
        assert_xid(bench, set, 0, xid);
    assert_quiet(bench, set);
}

static uint64_t cpu_us(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void wait_sleeps_and_ends_in_time(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlEventSet_t set = new_set(bench);
    struct nvml_event_data data;
    uint64_t cpu = cpu_us(), start = sim_now_ns();

    watch(bench, set, 0, NVML_EVENT_XID);
    for (int i = 0; i < 10; i++)
        assert_int_equal(CALL(nvmlEventSetWait_v2)(set, &data, SOON_MS), NVML_TIMEOUT);
    assert_true(sim_now_ns() - start >= 10 * SOON_MS * 1000000ull);
    assert_true(cpu_us() - cpu < 10 * SOON_MS * 1000 / 3);
}

/* --- threads --------------------------------------------------------------------------------- */

struct waiter {
    struct bench *bench;
    nvmlEventSet_t set;
    nvmlReturn_t last;
    bool done;
    uint64_t seen[64]; /* how often each Xid below 64 came */
};

static void *wait_for_all(void *argument)
{
    struct waiter *waiter = argument;
    struct bench *bench = waiter->bench;
    struct nvml_event_data data;

    do {
        waiter->last = CALL(nvmlEventSetWait_v2)(waiter->set, &data, LONG_MS);
        if (waiter->last == NVML_SUCCESS)
            waiter->seen[data.eventData % 64]++;
    } while (waiter->last == NVML_SUCCESS && data.eventData != 63);
    return NULL;
}

static void threads_of_one_set_share_and_of_two_sets_do_not(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlEventSet_t shared = new_set(bench), own = new_set(bench);
    struct waiter waiters[3] = { { bench, shared }, { bench, shared }, { bench, own } };
    pthread_t threads[3];

    watch(bench, shared, 0, NVML_EVENT_XID);
    watch(bench, own, 0, NVML_EVENT_XID);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, wait_for_all, &waiters[i]), 0);
    for (uint64_t xid = 1; xid < 63; xid++)
        raise_xid(bench, 0, xid);
    raise_xid(bench, 0, 63); /* one end for each thread of the shared set */
    raise_xid(bench, 0, 63);
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    for (size_t xid = 1; xid < 63; xid++) {
        assert_int_equal(waiters[0].seen[xid] + waiters[1].seen[xid], 1);
        assert_int_equal(waiters[2].seen[xid], 1);
    }
}

static void freeing_a_set_sends_its_waiters_away(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    struct waiter waiter = { bench, new_set(bench) };
    pthread_t thread;

    watch(bench, waiter.set, 0, NVML_EVENT_XID);
    raise_xid(bench, 0, 1);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_all, &waiter), 0);
    while (!__atomic_load_n(&waiter.seen[1], __ATOMIC_ACQUIRE)) /* it is inside the loop */
        sched_yield();
    GOOD(CALL(nvmlEventSetFree)(waiter.set));
    pthread_join(thread, NULL);
    assert_int_equal(waiter.last, NVML_INVALID_ARGUMENT);
}

static void *ask_often(void *argument)
{
    struct waiter *waiter = argument;
    struct bench *bench = waiter->bench;
    struct nvml_event_data data;

    for (int i = 0; i < 50000; i++)
        waiter->last = CALL(nvmlEventSetWait_v2)(waiter->set, &data, AT_ONCE);
    __atomic_store_n(&waiter->done, true, __ATOMIC_RELEASE);
    return NULL;
}

/* Each takes two locks; were it in different orders, they would soon stand still for ever. */
static void one_may_register_while_another_waits(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    struct waiter waiter = { bench, new_set(bench) };
    nvmlDevice_t gpu = bench_device(bench, 0);
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, ask_often, &waiter), 0);
    while (!__atomic_load_n(&waiter.done, __ATOMIC_ACQUIRE))
        GOOD(CALL(nvmlDeviceRegisterEvents)(gpu, NVML_EVENT_XID, waiter.set));
    pthread_join(thread, NULL);
    assert_int_equal(waiter.last, NVML_TIMEOUT);
}

/* --- processes ------------------------------------------------------------------------------- */

/* A client of its own: loads the library, watches GPU 0, says so, waits for one event. */
[[gnu::noreturn]] static void client(struct bench *bench, int ready)
{
    struct nvml_event_data data = {};
    nvmlEventSet_t set;
    nvmlDevice_t gpu;

    dlclose(bench->library);
    bench->library = dlopen(getenv("TRANCHE_NVML"), RTLD_NOW | RTLD_LOCAL);
    bool good = CALL(nvmlInit_v2)() == NVML_SUCCESS &&
                CALL(nvmlDeviceGetHandleByIndex_v2)(0, &gpu) == NVML_SUCCESS &&
                CALL(nvmlEventSetCreate)(&set) == NVML_SUCCESS &&
                CALL(nvmlDeviceRegisterEvents)(gpu, NVML_EVENT_XID, set) == NVML_SUCCESS &&
                write(ready, "r", 1) == 1 &&
                CALL(nvmlEventSetWait_v2)(set, &data, LONG_MS) == NVML_SUCCESS;
    _exit(good ? (int)data.eventData : 1);
}

static void event_reaches_every_process(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    uint64_t start = sim_now_ns();
    pid_t pids[3];
    int ready[2];
    char byte;

    assert_int_equal(pipe(ready), 0);
    for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            client(bench, ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
    }
    raise_xid(bench, 0, 79);
    for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
        int status = 0;

        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 79);
    }
    assert_true(sim_now_ns() - start < LONG_MS * 1000000ull);
    close(ready[0]);
    close(ready[1]);
}

static void event_of_another_process_wakes_us(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlEventSet_t set = new_set(bench);
    int status;

    watch(bench, set, 0, NVML_EVENT_XID);
    pid_t pid = fork();
    if (pid == 0) {
        struct sim_state *node;

        if (sim_state_open(bench->dir, &node, NULL) < 0)
            _exit(1);
        sim_state_lock(node);
        sim_event_raise(node, &node->gpus[0], SIM_EVENT_XID, 119, SIM_NO_INSTANCE, SIM_NO_INSTANCE);
        sim_state_unlock(node);
        _exit(0);
    }
    assert_xid(bench, set, 0, 119);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* --- the node's own events ------------------------------------------------------------------- */

static void binding_of_gpus_is_told_to_those_who_ask(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("2xh100-80gb");
    struct nvml_system_event_set_create create = { .version = 0x01000010 };
    struct nvml_system_event_data data[4] = {};
    struct sim_gpu *gpu = &bench->node->gpus[1];

    GOOD(CALL(nvmlSystemEventSetCreate)(&create));
    struct nvml_system_register_event reg = { 0x01000018, NVML_SYSTEM_EVENT_UNBIND, create.set };
    struct nvml_system_event_set_wait wait = { 0x01000020, AT_ONCE, create.set, data, 4, 9 };

    GOOD(CALL(nvmlSystemRegisterEvents)(&reg));
    assert_int_equal(CALL(nvmlSystemEventSetWait)(&wait), NVML_TIMEOUT);
    assert_int_equal(wait.numEvent, 0);
    sim_state_lock(bench->node);
    sim_event_raise(bench->node, gpu, SIM_EVENT_SYSTEM | NVML_SYSTEM_EVENT_BIND, 0, SIM_NO_INSTANCE,
                    SIM_NO_INSTANCE);
    sim_event_raise(bench->node, gpu, SIM_EVENT_SYSTEM | NVML_SYSTEM_EVENT_UNBIND, 0,
                    SIM_NO_INSTANCE, SIM_NO_INSTANCE);
    sim_state_unlock(bench->node);
    GOOD(CALL(nvmlSystemEventSetWait)(&wait));
    assert_int_equal(wait.numEvent, 1);
    assert_int_equal(data[0].eventType, NVML_SYSTEM_EVENT_UNBIND);
    assert_int_equal(data[0].gpuId, 0x4300);

    reg.version = 0x02000018;
    assert_int_equal(CALL(nvmlSystemRegisterEvents)(&reg), NVML_ARGUMENT_VERSION_MISMATCH);
    struct nvml_system_event_set_free release = { 0x01000010, create.set };
    GOOD(CALL(nvmlSystemEventSetFree)(&release));
    assert_int_equal(CALL(nvmlSystemEventSetWait)(&wait), NVML_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_set_sees_what_came_after_it_registered_once),
        cmocka_unit_test(registering_again_neither_repeats_nor_forgets),
        cmocka_unit_test(only_registered_types_are_seen),
        cmocka_unit_test(lost_gpu_says_xid_79),
        cmocka_unit_test(instances_are_named_to_root_alone),
        cmocka_unit_test(unversioned_wait_leaves_what_old_callers_have_no_room_for),
        cmocka_unit_test(wrong_sets_are_refused),
        cmocka_unit_test(slow_reader_loses_the_oldest),
        cmocka_unit_test(wait_sleeps_and_ends_in_time),
        cmocka_unit_test(threads_of_one_set_share_and_of_two_sets_do_not),
        cmocka_unit_test(one_may_register_while_another_waits),
        cmocka_unit_test(freeing_a_set_sends_its_waiters_away),
        cmocka_unit_test(event_reaches_every_process),
        cmocka_unit_test(event_of_another_process_wakes_us),
        cmocka_unit_test(binding_of_gpus_is_told_to_those_who_ask),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
