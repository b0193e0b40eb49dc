#include "sim/gpu/machine.h"

#include <errno.h>
#include <stdio.h>

enum { LEVEL_INTERNAL = 0, LEVEL_SWITCH = 10, LEVEL_NODE = 40, LEVEL_SYSTEM = 50 };
enum { HOPPER = 9, FABRIC_COMPLETED = 3 };
enum { LINKS_OF_A_PAIR = 12, GPUS_OF_A_MESH = 4, GPUS_OF_A_BOX = 8, GPUS_OF_TWO_NODES = 4 };

/* --- identities ------------------------------------------------------------------------------ */

/* splitmix64: each step is a well mixed number of its own. */
static uint64_t mix(uint64_t n)
{
    n += 0x9e3779b97f4a7c15ull;
    n = (n ^ (n >> 30)) * 0xbf58476d1ce4e5b9ull;
    n = (n ^ (n >> 27)) * 0x94d049bb133111ebull;
    return n ^ (n >> 31);
}

void sim_uuid_make(uint64_t seed, uint64_t n, const char *prefix, char ret[static 48])
{
    uint64_t high = mix(mix(seed) ^ (2 * n)), low = mix(mix(seed) ^ (2 * n + 1));

    /* The version (4) and variant (binary 10) bits of a random UUID. */
    snprintf(ret, 48, "%s%08x-%04x-4%03x-%04x-%012llx", prefix, (unsigned)(high >> 32),
             (unsigned)(high >> 16 & 0xffff), (unsigned)(high & 0xfff),
             (unsigned)(low >> 48 & 0x3fff) | 0x8000,
             (unsigned long long)(low & 0xffffffffffffull));
}

static void identify(struct sim_state *state, uint32_t index)
{
    struct sim_gpu *gpu = &state->gpus[index];

    gpu->minor = index;
    sim_uuid_make(state->seed, index, "GPU-", gpu->uuid);
    snprintf(gpu->serial, sizeof(gpu->serial), "16%011llu",
             (unsigned long long)(mix(state->seed ^ 0x5e71a1 ^ index) % 100000000000ull));
}

/* --- places ---------------------------------------------------------------------------------- */

/* Bus numbers as in real eight- and sixteen-GPU boxes, those of NUMA node 0 first. */
static const uint8_t buses_8[] = { 0x1b, 0x43, 0x52, 0x61, 0x9d, 0xc3, 0xd1, 0xdf };
static const uint8_t buses_16[] = { 0x1b, 0x26, 0x2f, 0x34, 0x43, 0x48, 0x52, 0x61,
                                    0x8a, 0x9d, 0xa3, 0xb5, 0xc3, 0xca, 0xd1, 0xdf };

static uint32_t on_first_node(const struct sim_state *state)
{
    return state->n_gpus < GPUS_OF_TWO_NODES ? state->n_gpus : (state->n_gpus + 1) / 2;
}

static void place(struct sim_state *state, uint32_t index)
{
    struct sim_gpu *gpu = &state->gpus[index];
    bool small = state->n_gpus <= ARRAY_LEN(buses_8);
    const uint8_t *buses = small ? buses_8 : buses_16;
    uint32_t half = small ? ARRAY_LEN(buses_8) / 2 : ARRAY_LEN(buses_16) / 2;
    uint32_t first = on_first_node(state);

    gpu->numa_node = index < first ? 0 : 1;
    gpu->pci_bus = buses[index < first ? index : half + index - first];
    /* A Grace superchip gives each GPU a PCI domain of its own. */
    if (gpu->c2c) {
        gpu->pci_domain = 8 + index;
        gpu->pci_bus = 1;
    }
}

static int place_by_hand(struct sim_state *state, const char *numa, struct err *err)
{
    struct span rest = span_of(numa), part;
    bool more = true;
    uint32_t n = 0;

    while (span_split(&rest, ',', &more, &part)) {
        int64_t node;

        if (text_to_i64(span_trim(part), &node) < 0 || node < -1 || node > 63)
            return err_set(err, EINVAL,
                           "NUMA nodes \"%.80s\": each is a number from 0 to 63, or -1", numa);
        if (n < state->n_gpus)
            state->gpus[n].numa_node = (int32_t)node;
        n++;
        state->n_numa_nodes = MAX(state->n_numa_nodes, (uint32_t)(node + 1));
    }
    if (n != state->n_gpus)
        return err_set(err, EINVAL, "NUMA nodes \"%.80s\": %u are given for %u GPUs", numa, n,
                       state->n_gpus);
    return 0;
}

static void connect_boards(struct sim_state *state, const struct sim_spec *spec)
{
    for (uint32_t a = 0; a < state->n_gpus; a++) {
        for (uint32_t b = 0; b < state->n_gpus; b++) {
            bool together = state->gpus[a].numa_node == state->gpus[b].numa_node;
            bool twins = a / 2 == b / 2 && spec->gpus[a]->wiring != SIM_WIRED_NOT &&
                         spec->gpus[b]->wiring != SIM_WIRED_NOT;

            state->topology.level[a][b] = a == b              ? LEVEL_INTERNAL
                                          : together && twins ? LEVEL_SWITCH
                                          : together          ? LEVEL_NODE
                                                              : LEVEL_SYSTEM;
        }
    }
}

/* --- NVLink ---------------------------------------------------------------------------------- */

static void link_add(struct sim_state *state, uint32_t from, uint32_t to)
{
    struct sim_gpu *gpu = &state->gpus[from], *peer = &state->gpus[to];

    for (uint32_t i = 0; i < gpu->n_links; i++) {
        struct sim_link *link = &gpu->links[i];

        if (link->active)
            continue;
        link->active = true;
        snprintf(link->remote_bus_id, sizeof(link->remote_bus_id), "%08X:%02X:%02X.0",
                 peer->pci_domain, peer->pci_bus, peer->pci_device);
        return;
    }
}

static uint32_t links_free(const struct sim_gpu *gpu)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < gpu->n_links; i++)
        n += !gpu->links[i].active;
    return n;
}

static void wire_pair(struct sim_state *state, uint32_t a, uint32_t b, uint32_t n)
{
    n = MIN(n, MIN(links_free(&state->gpus[a]), links_free(&state->gpus[b])));
    for (uint32_t i = 0; i < n; i++) {
        link_add(state, a, b);
        link_add(state, b, a);
    }
}

static bool alike(const struct sim_gpu *a, const struct sim_gpu *b)
{
    return text_equal(a->model, b->model);
}

/* Neighbours of one model, two by two. */
static void wire_pairs(struct sim_state *state, uint32_t first, uint32_t n)
{
    for (uint32_t i = first; i + 1 < first + n; i += 2)
        wire_pair(state, i, i + 1, LINKS_OF_A_PAIR);
}

static void wire_mesh(struct sim_state *state, uint32_t first, uint32_t n)
{
    for (uint32_t a = first; a < first + n; a++) {
        for (uint32_t b = a + 1; b < first + n; b++)
            wire_pair(state, a, b, state->gpus[a].n_links / (n - 1));
    }
}

/* All links of all boards, spread over the box's NVSwitches. */
static void wire_switch(struct sim_state *state, uint32_t first, uint32_t n, uint32_t n_switches)
{
    for (uint32_t i = first; i < first + n; i++) {
        struct sim_gpu *gpu = &state->gpus[i];

        /* The fabric manager of such a box is done: completed, in no cluster of boxes. */
        gpu->fabric_state = gpu->architecture >= HOPPER && !gpu->c2c ? FABRIC_COMPLETED : 0;
        for (uint32_t j = 0; j < gpu->n_links; j++) {
            gpu->links[j].active = true;
            gpu->links[j].remote_is_switch = true;
            snprintf(gpu->links[j].remote_bus_id, sizeof(gpu->links[j].remote_bus_id),
                     "00000000:%02X:00.0", 5 + j % MAX(n_switches, 1u));
        }
    }
}

static void wire_usual(struct sim_state *state, const struct sim_model *model, uint32_t first,
                       uint32_t n)
{
    bool mesh = model->wiring == SIM_WIRED_MESH || model->wiring == SIM_WIRED_BOX;

    if (model->wiring == SIM_WIRED_SWITCH || (model->wiring == SIM_WIRED_BOX && n >= GPUS_OF_A_BOX))
        wire_switch(state, first, n, model->n_switches);
    else if (mesh && n > 1 && n <= GPUS_OF_A_MESH)
        wire_mesh(state, first, n);
    else if (mesh && n > 1)
        wire_pairs(state, first, n);
}

static int wire_by_hand(struct sim_state *state, const char *pairs, struct err *err)
{
    struct span rest = span_of(pairs), part;
    bool more = true;

    while (span_split(&rest, ',', &more, &part)) {
        struct span end = span_trim(part), left = {}, right = {};
        bool more_ends = true;
        uint64_t a = SIM_MAX_GPUS, b = SIM_MAX_GPUS;

        if (!span_split(&end, '-', &more_ends, &left) ||
            !span_split(&end, '-', &more_ends, &right) || more_ends || text_to_u64(left, &a) < 0 ||
            text_to_u64(right, &b) < 0)
            return err_set(err, EINVAL,
                           "NVLink \"%.80s\" is neither none, pairs, mesh, switch nor pairs such "
                           "as 0-1,2-3",
                           pairs);
        if (a >= state->n_gpus || b >= state->n_gpus || a == b)
            return err_set(err, EINVAL,
                           "NVLink \"%.80s\": a pair joins two different GPUs of 0 to %u", pairs,
                           state->n_gpus - 1);
        if (state->gpus[a].n_links == 0 || state->gpus[b].n_links == 0)
            return err_set(err, EINVAL, "NVLink \"%.80s\": a %s has no NVLinks", pairs,
                           state->gpus[state->gpus[a].n_links ? b : a].model);
        wire_pair(state, (uint32_t)a, (uint32_t)b, LINKS_OF_A_PAIR);
    }
    return 0;
}

static int wire(struct sim_state *state, const struct sim_spec *spec, const char *how,
                struct err *err)
{
    static const char *const words[] = { "none", "pairs", "mesh", "switch" };
    bool known = !how;

    for (size_t i = 0; how && i < ARRAY_LEN(words); i++)
        known = known || text_equal(how, words[i]);
    if (!known)
        return wire_by_hand(state, how, err);

    /* NVLink joins neighbours of one model: walk the runs of equal boards. */
    for (uint32_t first = 0, n; first < state->n_gpus; first += n) {
        for (n = 1; first + n < state->n_gpus; n++) {
            if (!alike(&state->gpus[first], &state->gpus[first + n]))
                break;
        }
        if (!how)
            wire_usual(state, spec->gpus[first], first, n);
        else if (text_equal(how, "pairs"))
            wire_pairs(state, first, n);
        else if (text_equal(how, "mesh") && n > 1)
            wire_mesh(state, first, n);
        else if (text_equal(how, "switch"))
            wire_switch(state, first, n, spec->gpus[first]->n_switches);
    }
    return 0;
}

/* --- driver ---------------------------------------------------------------------------------- */

/* Which CUDA a driver branch brought. */
static const struct {
    uint32_t branch;
    int32_t cuda;
} branches[] = {
    { 470, 11040 }, { 510, 11060 }, { 515, 11070 }, { 520, 11080 }, { 525, 12000 }, { 530, 12010 },
    { 535, 12020 }, { 545, 12030 }, { 550, 12040 }, { 555, 12050 }, { 560, 12060 }, { 565, 12070 },
    { 570, 12080 }, { 575, 12090 }, { 580, 13000 }, { 590, 13010 }, { 595, 13020 },
};

static int read_version(const char *text, size_t min_parts, size_t max_parts, uint64_t *ret_parts,
                        const char *what, const char *example, struct err *err)
{
    struct span rest = span_of(text), part;
    bool more = true, good = strlen(text) < 40;
    size_t n = 0;

    while (good && span_split(&rest, '.', &more, &part)) {
        uint64_t number;

        good = n < max_parts && text_to_u64(part, &number) >= 0 && number < 100000;
        if (good)
            ret_parts[n++] = number;
    }
    if (!good || n < min_parts)
        return err_set(err, EINVAL, "%s \"%.40s\" is not a version such as %s", what, text,
                       example);
    return 0;
}

static int install_driver(struct sim_state *state, const struct sim_machine_options *options,
                          struct err *err)
{
    const char *driver = options->driver ? options->driver : "570.124.06";
    uint64_t parts[3] = {}, cuda[2] = {};

    int r = read_version(driver, 2, 3, parts, "driver", "570.124.06", err);
    if (r >= 0 && options->cuda)
        r = read_version(options->cuda, 2, 2, cuda, "CUDA", "12.8", err);
    if (r < 0)
        return r;

    state->cuda_version = (int32_t)(cuda[0] * 1000 + cuda[1] * 10);
    for (size_t i = 0; !options->cuda && i < ARRAY_LEN(branches); i++) {
        if (i == 0 || branches[i].branch <= parts[0])
            state->cuda_version = branches[i].cuda;
    }
    snprintf(state->driver_version, sizeof(state->driver_version), "%s", driver);
    snprintf(state->nvml_version, sizeof(state->nvml_version), "%d.%s", state->cuda_version / 1000,
             driver);
    snprintf(state->driver_branch, sizeof(state->driver_branch), "r%llu_00",
             (unsigned long long)parts[0]);
    state->driver_loaded = true;
    return 0;
}

/* --- all together ---------------------------------------------------------------------------- */

int sim_machine_build(const struct sim_spec *spec, const struct sim_machine_options *options,
                      struct sim_state *ret, struct err *err)
{
    const char *machine = options->machine ? options->machine : "tranche simulated node";

    sim_state_init(ret);
    if (strlen(machine) >= sizeof(ret->machine))
        return err_set(err, EINVAL, "machine name \"%.40s…\" is longer than %zu characters",
                       machine, sizeof(ret->machine) - 1);
    snprintf(ret->machine, sizeof(ret->machine), "%s", machine);
    ret->seed = options->seed;
    ret->n_gpus = spec->n_gpus;
    ret->n_numa_nodes = ret->n_gpus < GPUS_OF_TWO_NODES ? 1 : 2;
    ret->cpus_per_node = 32;
    for (uint32_t i = 0; i < ret->n_gpus; i++) {
        sim_model_fill(spec->gpus[i], &ret->gpus[i]);
        identify(ret, i);
        place(ret, i);
        ret->gpus[i].advanced_ns = sim_now_ns();
    }

    int r = install_driver(ret, options, err);
    if (r >= 0 && options->numa)
        r = place_by_hand(ret, options->numa, err);
    if (r < 0)
        return r;
    connect_boards(ret, spec);
    return wire(ret, spec, options->nvlink, err);
}
