/*
 * NVML's event sets: a client registers types of events of GPUs with a set and sleeps until one
 * comes. Sets live in the client; what they wait for is the ring in the shared state (event.h), so
 * an event that any process raises reaches every set of every process. A set sees each event that
 * matches a registration and was raised after it once, whoever of its threads asks.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "sim/gpu/event.h"
#include "sim/gpu/nvml_door.h"

enum {
    MAX_SETS = 1024, /* a client that has as many has forgotten to free them */
    N_TYPES = 16,
    SYSTEM_ROW = SIM_MAX_GPUS,
    KNOWN_TYPES = 0xff9f,
    KNOWN_SYSTEM_TYPES = NVML_SYSTEM_EVENT_UNBIND | NVML_SYSTEM_EVENT_BIND,
};

struct event_set {
    enum handle_kind kind;
    uint32_t generation;
    const struct sim_state *state; /* the node it was made on */
    bool freed;
    unsigned n_waiting; /* threads inside a wait; the last one out frees what was freed */
    uint64_t cursor;    /* the last event that was looked at */
    /* For each GPU and type of event the first one that counts; 0: not registered. */
    uint64_t since[SIM_MAX_GPUS + 1][N_TYPES];
};

static struct {
    pthread_mutex_t lock;
    uint32_t generation;
    struct event_set *items[MAX_SETS]; /* owned */
} sets = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- sets ------------------------------------------------------------------------------------ */

/* Call with sets.lock held. */
static struct event_set *find_set(const void *pointer, enum handle_kind kind,
                                  const struct sim_state *state)
{
    struct handle handle;

    if (!handle_read(pointer, &handle) || handle.kind != kind || handle.gi >= MAX_SETS)
        return NULL;
    struct event_set *set = sets.items[handle.gi];
    if (!set || set->generation != handle.generation || set->kind != kind || set->state != state)
        return NULL;
    return set;
}

static void *make_set(enum handle_kind kind, const struct sim_state *state)
{
    struct event_set *set = calloc(1, sizeof(*set));
    uint32_t slot = 0;

    pthread_mutex_lock(&sets.lock);
    while (slot < MAX_SETS && sets.items[slot])
        slot++;
    if (!set || slot == MAX_SETS) {
        pthread_mutex_unlock(&sets.lock);
        free(set);
        return NULL;
    }
    set->kind = kind;
    set->state = state;
    set->generation = ++sets.generation & 0xfffff;
    sets.items[slot] = set;
    pthread_mutex_unlock(&sets.lock);
    return handle_make((struct handle){ .kind = kind, .gi = slot, .generation = set->generation });
}

static nvmlReturn_t free_set(struct door *door, const void *pointer, enum handle_kind kind)
{
    pthread_mutex_lock(&sets.lock);
    struct event_set *set = find_set(pointer, kind, door->state);
    bool waited_for = set && set->n_waiting > 0;

    for (size_t i = 0; set && i < MAX_SETS; i++) {
        if (sets.items[i] == set)
            sets.items[i] = NULL;
    }
    if (waited_for)
        set->freed = true;
    else
        free(set);
    pthread_mutex_unlock(&sets.lock);

    if (waited_for) { /* sends them away */
        sim_state_lock(door->state);
        sim_state_changed(door->state);
        sim_state_unlock(door->state);
    }
    return set ? NVML_SUCCESS : NVML_INVALID_ARGUMENT;
}

/* Sets that a client forgot die with the library. */
[[gnu::destructor]] static void free_sets(void)
{
    for (size_t i = 0; i < MAX_SETS; i++) {
        if (sets.items[i] && sets.items[i]->n_waiting == 0)
            free(sets.items[i]);
        sets.items[i] = NULL;
    }
}

/* Call with the state locked. */
static nvmlReturn_t register_types(const struct sim_state *state, const void *pointer,
                                   enum handle_kind kind, uint32_t row, uint64_t types)
{
    pthread_mutex_lock(&sets.lock);
    struct event_set *set = find_set(pointer, kind, state);

    for (unsigned bit = 0; set && bit < N_TYPES; bit++) {
        if ((types & 1ull << bit) && !set->since[row][bit])
            set->since[row][bit] = state->n_events + 1;
    }
    pthread_mutex_unlock(&sets.lock);
    return set ? NVML_SUCCESS : NVML_INVALID_ARGUMENT;
}

static bool wants(const struct event_set *set, const struct sim_event *event)
{
    uint32_t row = event->type & SIM_EVENT_SYSTEM ? SYSTEM_ROW : event->gpu;

    if (event->gpu >= SIM_MAX_GPUS)
        return false;
    for (unsigned bit = 0; bit < N_TYPES; bit++) {
        if ((event->type & 1ull << bit) && set->since[row][bit] &&
            event->sequence >= set->since[row][bit])
            return true;
    }
    return false;
}

/* --- waiting --------------------------------------------------------------------------------- */

struct waiting {
    struct door *door;
    const void *set;
    enum handle_kind kind;
    uint32_t max; /* events that are wanted at once */
    struct sim_event *ret_events;
    uint32_t n;
};

/* Takes what is there now. Call with the state and sets.lock held. */
static void take_events(struct waiting *waiting, struct event_set *set)
{
    struct sim_state *state = waiting->door->state;
    const struct sim_event *event;

    while (waiting->n < waiting->max && (event = sim_event_next(state, set->cursor))) {
        if (event->sequence <= set->cursor) { /* a damaged ring must not turn us round for ever */
            set->cursor = state->n_events;
            break;
        }
        set->cursor = event->sequence;
        if (wants(set, event))
            waiting->ret_events[waiting->n++] = *event;
    }
}

/* One look: NVML_TIMEOUT when there is nothing yet. */
static nvmlReturn_t look(struct waiting *waiting, struct event_set *set)
{
    struct sim_state *state = waiting->door->state;

    /* The state first, as in a call that registers, or both wait for each other. */
    sim_state_lock(state);
    pthread_mutex_lock(&sets.lock);
    bool freed = set->freed;
    if (!freed)
        take_events(waiting, set);
    pthread_mutex_unlock(&sets.lock);
    sim_state_unlock(state);
    if (freed)
        return NVML_INVALID_ARGUMENT;
    if (waiting->n > 0)
        return NVML_SUCCESS;
    if (!door_state())
        return NVML_UNINITIALIZED;
    return waiting->door->state->driver_loaded ? NVML_TIMEOUT : NVML_DRIVER_NOT_LOADED;
}

static nvmlReturn_t look_until(struct waiting *waiting, struct event_set *set, uint32_t timeout_ms)
{
    struct sim_state *state = waiting->door->state;
    uint64_t end = sim_now_ns() + timeout_ms * 1000000ull;

    for (;;) {
        uint32_t seen = __atomic_load_n(&state->wake, __ATOMIC_ACQUIRE);
        nvmlReturn_t r = look(waiting, set);
        uint64_t now = sim_now_ns();

        if (r != NVML_TIMEOUT)
            return r;
        if (timeout_ms == SIM_FOREVER)
            door_sleep(state, seen, SIM_FOREVER);
        else if (now < end)
            door_sleep(state, seen, (uint32_t)((end - now + 999999) / 1000000));
        else
            return NVML_TIMEOUT;
    }
}

static nvmlReturn_t wait_for_events(struct waiting *waiting, uint32_t timeout_ms)
{
    pthread_mutex_lock(&sets.lock);
    struct event_set *set = find_set(waiting->set, waiting->kind, waiting->door->state);
    if (set)
        set->n_waiting++;
    pthread_mutex_unlock(&sets.lock);
    if (!set)
        return NVML_INVALID_ARGUMENT;

    nvmlReturn_t r = look_until(waiting, set, timeout_ms);

    pthread_mutex_lock(&sets.lock);
    if (--set->n_waiting == 0 && set->freed)
        free(set);
    pthread_mutex_unlock(&sets.lock);
    return r;
}

/* --- events of GPUs -------------------------------------------------------------------------- */

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_system(&door, __func__, 0);

    if (r)
        return r;
    if (!set)
        return NVML_INVALID_ARGUMENT;
    nvmlEventSet_t made = make_set(HANDLE_EVENT_SET, door.state);
    if (!made)
        return NVML_MEMORY;
    *set = made;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_system(&door, __func__, 0);

    return r ? r : free_set(&door, set, HANDLE_EVENT_SET);
}

static uint64_t supported_types(const struct sim_gpu *gpu)
{
    uint64_t types = NVML_EVENT_PSTATE | NVML_EVENT_XID | NVML_EVENT_CLOCK;

    if (gpu->ecc_capable)
        types |= NVML_EVENT_SINGLE_BIT_ECC | NVML_EVENT_DOUBLE_BIT_ECC;
    if (gpu->mig_capable)
        types |= NVML_EVENT_MIG_CONFIG;
    if (gpu->architecture >= NVML_ARCH_AMPERE)
        types |= NVML_EVENT_GPU_UNAVAILABLE | NVML_EVENT_RECOVERY_ACTION;
    return types;
}

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, uint64_t *eventTypes)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD);

    if (r)
        return r;
    if (!eventTypes)
        return NVML_INVALID_ARGUMENT;
    *eventTypes = supported_types(door.gpu);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, uint64_t eventTypes, nvmlEventSet_t set)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD | DOOR_LOCK);

    if (r)
        return r;
    if (eventTypes & ~(uint64_t)KNOWN_TYPES)
        return NVML_INVALID_ARGUMENT;
    if (eventTypes & ~supported_types(door.gpu))
        return NVML_NOT_SUPPORTED;
    return register_types(door.state, set, HANDLE_EVENT_SET, door.gpu_index, eventTypes);
}

/* The first `size` bytes: callers of the unversioned entry point have a struct without ids. */
static nvmlReturn_t event_set_wait(const char *call, nvmlEventSet_t set,
                                   struct nvml_event_data *data, size_t size, uint32_t timeout_ms)
{
    auto_(door_leave) struct door door = {};
    struct sim_event event;
    struct waiting waiting = { &door, set, HANDLE_EVENT_SET, 1, &event, 0 };

    nvmlReturn_t r = door_system(&door, call, 0);
    if (r)
        return r;
    if (!data)
        return NVML_INVALID_ARGUMENT;
    r = wait_for_events(&waiting, timeout_ms);
    if (r)
        return r;

    bool told = door_privileged(); /* whose instance it was is not everybody's business */
    struct nvml_event_data found = {
        .device = door_gpu_handle(event.gpu),
        .eventType = event.type,
        .eventData = event.data,
        .gpuInstanceId = told ? event.gi_id : NVML_NO_INSTANCE,
        .computeInstanceId = told ? event.ci_id : NVML_NO_INSTANCE,
    };
    memcpy(data, &found, size);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, struct nvml_event_data *data,
                                 uint32_t timeoutms)
{
    return event_set_wait(__func__, set, data, sizeof(*data), timeoutms);
}

nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, struct nvml_event_data *data, uint32_t timeoutms)
{
    return event_set_wait(__func__, set, data, offsetof(struct nvml_event_data, gpuInstanceId),
                          timeoutms);
}

/* --- events of the node: GPUs bound to the driver and taken from it --------------------------- */

static nvmlReturn_t system_request(struct door *door, const char *call, const void *request,
                                   uint32_t version)
{
    nvmlReturn_t r = door_system(door, call, 0);

    if (r)
        return r;
    if (!request)
        return NVML_INVALID_ARGUMENT;
    return *(const uint32_t *)request == version ? NVML_SUCCESS : NVML_ARGUMENT_VERSION_MISMATCH;
}

nvmlReturn_t nvmlSystemEventSetCreate(struct nvml_system_event_set_create *request)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = system_request(&door, __func__, request, NVML_VERSION(typeof(*request), 1));

    if (r)
        return r;
    nvmlSystemEventSet_t made = make_set(HANDLE_SYSTEM_EVENT_SET, door.state);
    if (!made)
        return NVML_MEMORY;
    request->set = made;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemEventSetFree(struct nvml_system_event_set_free *request)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = system_request(&door, __func__, request, NVML_VERSION(typeof(*request), 1));

    return r ? r : free_set(&door, request->set, HANDLE_SYSTEM_EVENT_SET);
}

nvmlReturn_t nvmlSystemRegisterEvents(struct nvml_system_register_event *request)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = system_request(&door, __func__, request, NVML_VERSION(typeof(*request), 1));

    if (r)
        return r;
    if (request->eventTypes & ~(uint64_t)KNOWN_SYSTEM_TYPES)
        return NVML_INVALID_ARGUMENT;
    sim_state_lock(door.state);
    r = register_types(door.state, request->set, HANDLE_SYSTEM_EVENT_SET, SYSTEM_ROW,
                       request->eventTypes);
    sim_state_unlock(door.state);
    return r;
}

/* The driver's number for a GPU: its place on the PCI bus. */
static uint32_t gpu_number(const struct sim_gpu *gpu)
{
    return gpu->pci_domain << 16 | gpu->pci_bus << 8 | gpu->pci_device;
}

nvmlReturn_t nvmlSystemEventSetWait(struct nvml_system_event_set_wait *request)
{
    auto_(door_leave) struct door door = {};
    struct sim_event events[16];
    struct waiting waiting = { &door, NULL, HANDLE_SYSTEM_EVENT_SET, 0, events, 0 };

    nvmlReturn_t r = system_request(&door, __func__, request, NVML_VERSION(typeof(*request), 1));
    if (r)
        return r;
    if (!request->data || request->dataSize == 0)
        return NVML_INVALID_ARGUMENT;
    waiting.set = request->set;
    waiting.max = MIN(request->dataSize, (uint32_t)ARRAY_LEN(events));
    r = wait_for_events(&waiting, request->timeoutms);
    request->numEvent = waiting.n;
    for (uint32_t i = 0; i < waiting.n; i++)
        request->data[i] = (struct nvml_system_event_data){
            .eventType = events[i].type & ~SIM_EVENT_SYSTEM,
            .gpuId = gpu_number(&door.state->gpus[events[i].gpu]),
        };
    return r;
}
