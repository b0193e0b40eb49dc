#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/text.h"
#include "sim/gpu/event.h"
#include "sim/gpu/mig.h"

enum { MAX_REQUESTS = SIM_MAX_GPU_INSTANCES };

/* A GPU instance that shall exist, and the sizes of the compute instances in it. */
struct request {
    uint32_t profile;
    uint32_t n_compute, compute[SIM_MAX_COMPUTE_INSTANCES]; /* CI profiles; 0: one that fills it */
    struct sim_gpu_instance scratch; /* with the compute instances so far, to see what fits */
};

/* What was asked for, one entry per GPU instance, the largest first. */
struct requests {
    size_t n;
    struct request items[MAX_REQUESTS];
};

/* --- names ---------------------------------------------------------------------------------- */

static int find_profile(const struct sim_gpu *gpu, const char *name)
{
    for (int i = 0; i < SIM_MAX_PROFILES; i++) {
        if (gpu->profiles[i].supported && text_equal(gpu->profiles[i].name, name))
            return i;
    }
    return -ENOENT;
}

static int err_unknown_profile(const struct sim_gpu *gpu, const char *name, struct err *err)
{
    auto_(buf_done) struct buf all = BUF_MAX(KIB(1));

    for (int i = 0; i < SIM_MAX_PROFILES; i++) {
        if (gpu->profiles[i].supported)
            buf_printf(&all, "%s%s", all.len ? ", " : "", gpu->profiles[i].name);
    }
    return err_set(err, EINVAL, "%s has no MIG profile \"%.40s\"; it has %s", gpu->name, name,
                   buf_text(&all));
}

/* "1c.3g.40gb" is one compute slice of a 3g.40gb; *ret_slices is 0 for a name without the "1c.". */
static int read_name(const struct sim_gpu *gpu, const char *name, uint32_t *ret_slices,
                     struct err *err)
{
    const char *dot = strchr(name, '.');
    int profile = find_profile(gpu, name);

    *ret_slices = 0;
    if (profile < 0 && dot && dot == name + 2 && name[1] == 'c' && name[0] >= '1' &&
        name[0] <= '8') {
        profile = find_profile(gpu, dot + 1);
        *ret_slices = (uint32_t)(name[0] - '0');
    }
    if (profile < 0)
        return err_unknown_profile(gpu, name, err);
    if (*ret_slices == gpu->profiles[profile].slices)
        *ret_slices = 0;
    return profile;
}

/* --- from wishes to GPU instances ------------------------------------------------------------ */

static int err_too_many(const struct sim_gpu *gpu, struct err *err)
{
    return err_set(err, ENOSPC, "a GPU has at most %d GPU instances, and %s at most %u MIG devices",
                   SIM_MAX_GPU_INSTANCES, gpu->name, gpu->max_mig_devices);
}

static int request_add(const struct sim_gpu *gpu, struct requests *requests, uint32_t profile,
                       struct request **ret, struct err *err)
{
    if (requests->n == MAX_REQUESTS)
        return err_too_many(gpu, err);
    *ret = &requests->items[requests->n++];
    **ret = (struct request){ .profile = profile, .scratch = { .profile = profile } };
    return 0;
}

static int ci_profile_of_slices(const struct sim_gpu *gpu, const struct sim_gpu_instance *gi,
                                uint32_t slices)
{
    struct sim_ci_profile profile;

    for (uint32_t i = 0; i < SIM_CI_REV1; i++) {
        if (sim_ci_profile_get(gpu, gi, i, &profile, NULL) >= 0 && profile.slices == slices)
            return (int)i;
    }
    return -ENOENT;
}

/* Puts a compute instance into a GPU instance that is still being planned. */
static bool request_take(const struct sim_gpu *gpu, struct request *request, uint32_t ci_profile)
{
    struct sim_gpu_instance *gi = &request->scratch;
    struct sim_ci_profile profile;
    int start = sim_ci_first_fit(gpu, gi, ci_profile, NULL);

    if (start < 0 || request->n_compute == SIM_MAX_COMPUTE_INSTANCES ||
        sim_ci_profile_get(gpu, gi, ci_profile, &profile, NULL) < 0)
        return false;
    gi->compute[request->n_compute] = (struct sim_compute_instance){
        .exists = true,
        .start = (uint32_t)start,
        .size = profile.size,
    };
    request->compute[request->n_compute++] = ci_profile;
    return true;
}

/* One compute instance that shares its GPU instance: into the first with room, else a new one. */
static int want_shared(const struct sim_gpu *gpu, uint32_t profile, uint32_t slices,
                       struct requests *requests, struct err *err)
{
    struct sim_gpu_instance empty = { .profile = profile };
    struct request *request;
    int ci_profile = ci_profile_of_slices(gpu, &empty, slices);

    if (ci_profile < 0)
        return err_set(err, EINVAL, "%s cannot be cut into parts of %u slices",
                       gpu->profiles[profile].name, slices);
    for (size_t i = 0; i < requests->n; i++) {
        request = &requests->items[i];
        if (request->profile == profile && request->n_compute > 0 &&
            request_take(gpu, request, (uint32_t)ci_profile))
            return 0;
    }
    int r = request_add(gpu, requests, profile, &request, err);
    if (r >= 0 && !request_take(gpu, request, (uint32_t)ci_profile))
        r = err_set(err, ENOSPC, "%s has no room for %u slices", gpu->profiles[profile].name,
                    slices);
    return r;
}

/* All wishes for parts of `slices` slices, or (0) for whole GPU instances. */
static int want_slices(const struct sim_gpu *gpu, const struct sim_mig_want *wants, size_t n_wants,
                       uint32_t slices, struct requests *requests, struct err *err)
{
    for (size_t i = 0; i < n_wants; i++) {
        struct request *request;
        uint32_t its_slices;
        int profile = read_name(gpu, wants[i].profile, &its_slices, err);

        if (profile < 0)
            return profile;
        if (its_slices != slices)
            continue;
        if (wants[i].count > gpu->max_mig_devices)
            return err_set(err, ENOSPC,
                           "%u × %s do not fit on %s, which has at most %u MIG devices",
                           wants[i].count, wants[i].profile, gpu->name, gpu->max_mig_devices);
        for (uint32_t n = 0; n < wants[i].count; n++) {
            int r = slices ? want_shared(gpu, (uint32_t)profile, slices, requests, err)
                           : request_add(gpu, requests, (uint32_t)profile, &request, err);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

/* Larger parts first: they have fewer places, in a GPU instance as on the GPU. */
static int requests_make(const struct sim_gpu *gpu, const struct sim_mig_want *wants,
                         size_t n_wants, struct requests *ret, struct err *err)
{
    int r = want_slices(gpu, wants, n_wants, 0, ret, err);

    for (uint32_t slices = SIM_MAX_COMPUTE_INSTANCES; r >= 0 && slices > 0; slices--)
        r = want_slices(gpu, wants, n_wants, slices, ret, err);
    if (r < 0)
        return r;
    for (size_t i = 1; i < ret->n; i++) {
        struct request moving = ret->items[i];
        size_t at = i;

        for (; at > 0 &&
               gpu->profiles[ret->items[at - 1].profile].size < gpu->profiles[moving.profile].size;
             at--)
            ret->items[at] = ret->items[at - 1];
        ret->items[at] = moving;
    }
    return 0;
}

/* --- places ---------------------------------------------------------------------------------- */

/* Is there a legal layout for profiles[done …]? `scratch` holds those before it at slots [0, done)
 * and, on success, all of them. Tries every start, the driver's favourite first. */
static bool place_rest(const struct sim_state *state, struct sim_gpu *scratch,
                       const uint32_t *profiles, size_t n, size_t done)
{
    uint32_t starts[SIM_MAX_PLACEMENTS], n_starts;

    if (done == n)
        return true;
    n_starts = sim_gi_starts_tried(state, scratch, profiles[done], starts);
    for (uint32_t i = 0; i < n_starts; i++) {
        if (!sim_gi_fits(scratch, profiles[done], starts[i]))
            continue;
        scratch->instances[done] = (struct sim_gpu_instance){
            .exists = true,
            .profile = profiles[done],
            .start = starts[i],
            .size = scratch->profiles[profiles[done]].size,
        };
        if (place_rest(state, scratch, profiles, n, done + 1))
            return true;
        scratch->instances[done].exists = false;
    }
    return false;
}

static bool place(const struct sim_state *state, const struct sim_gpu *gpu,
                  const uint32_t *profiles, size_t n, struct sim_gpu *ret_layout)
{
    *ret_layout = *gpu;
    memset(ret_layout->instances, 0, sizeof(ret_layout->instances));
    return n <= SIM_MAX_GPU_INSTANCES && place_rest(state, ret_layout, profiles, n, 0);
}

/* --- saying what does not fit ---------------------------------------------------------------- */

static void add_counts(const struct sim_gpu *gpu, const uint32_t *profiles, size_t n,
                       struct buf *text)
{
    bool first = true;

    for (uint32_t p = 0; p < SIM_MAX_PROFILES; p++) {
        uint32_t count = 0;

        for (size_t i = 0; i < n; i++)
            count += profiles[i] == p;
        if (count == 0)
            continue;
        buf_printf(text, "%s%u × %s", first ? "" : " + ", count, gpu->profiles[p].name);
        first = false;
    }
}

/* The profiles that could join `kept`, each with how many of it: "2 × 2g.20gb or 4 × 1g.10gb". */
static void add_room(const struct sim_state *state, const struct sim_gpu *gpu, const uint32_t *kept,
                     size_t n_kept, struct buf *text)
{
    struct sim_gpu layout;
    bool first = true;

    for (uint32_t p = 0; p < SIM_MAX_PROFILES; p++) {
        uint32_t more[MAX_REQUESTS];
        size_t n = n_kept;

        if (!gpu->profiles[p].supported)
            continue;
        memcpy(more, kept, n_kept * sizeof(*kept));
        while (n < MAX_REQUESTS) {
            more[n] = p;
            if (!place(state, gpu, more, n + 1, &layout))
                break;
            n++;
        }
        if (n == n_kept)
            continue;
        buf_printf(text, "%s%zu × %s", first ? "" : " or ", n - n_kept, gpu->profiles[p].name);
        first = false;
    }
    if (first)
        buf_add_text(text, "nothing");
}

static int err_does_not_fit(const struct sim_state *state, const struct sim_gpu *gpu,
                            const uint32_t *profiles, size_t n, struct err *err)
{
    auto_(buf_done) struct buf text = BUF_MAX(KIB(2));
    uint32_t kept[MAX_REQUESTS], left[MAX_REQUESTS];
    size_t n_kept = 0, n_left = 0;
    struct sim_gpu layout;

    for (size_t i = 0; i < n; i++) {
        kept[n_kept] = profiles[i];
        if (place(state, gpu, kept, n_kept + 1, &layout))
            n_kept++;
        else
            left[n_left++] = profiles[i];
    }
    add_counts(gpu, profiles, n, &text);
    buf_printf(&text, " do not fit on %s: beside ", gpu->name);
    add_counts(gpu, kept, n_kept, &text);
    buf_add_text(&text, " there is no room for ");
    add_counts(gpu, left, n_left, &text);
    buf_add_text(&text, "; there would be for ");
    add_room(state, gpu, kept, n_kept, &text);
    return err_set(err, ENOSPC, "%s", buf_text(&text));
}

/* --- doing it -------------------------------------------------------------------------------- */

static int err_if_held(const struct sim_state *state, const struct sim_gpu *gpu, struct err *err)
{
    const struct sim_process *holder = sim_mig_holder(state, gpu, SIM_NO_INSTANCE, SIM_NO_INSTANCE);

    if (gpu->lost)
        return err_set(err, ENODEV, "the GPU is lost");
    if (holder)
        return err_set(err, EBUSY, "process %u (%s) still holds the GPU", holder->pid,
                       holder->name);
    return 0;
}

int sim_mig_clear(struct sim_state *state, struct sim_gpu *gpu, struct err *err)
{
    int r = err_if_held(state, gpu, err);

    for (size_t i = 0; r >= 0 && i < SIM_MAX_GPU_INSTANCES; i++) {
        struct sim_gpu_instance *gi = &gpu->instances[i];

        if (!gi->exists)
            continue;
        for (uint32_t id = 0; id < SIM_MAX_COMPUTE_INSTANCES; id++)
            gi->compute[id].exists = false;
        r = sim_gi_destroy(state, gpu, gi, err);
    }
    return r;
}

static int make_compute(struct sim_state *state, struct sim_gpu *gpu, struct sim_gpu_instance *gi,
                        const struct request *request, struct err *err)
{
    struct sim_compute_instance *ci;
    int r = 0;

    if (request->n_compute == 0)
        return sim_ci_create(state, gpu, gi, sim_ci_whole(gpu, gi), NULL, &ci, err);
    for (uint32_t i = 0; r >= 0 && i < request->n_compute; i++)
        r = sim_ci_create(state, gpu, gi, request->compute[i], NULL, &ci, err);
    return r;
}

int sim_mig_partition(struct sim_state *state, struct sim_gpu *gpu,
                      const struct sim_mig_want *wants, size_t n_wants, struct err *err)
{
    struct requests requests = {};
    struct sim_gpu layout;
    uint32_t profiles[MAX_REQUESTS];

    if (!gpu->mig_capable)
        return err_set(err, ENOTSUP, "%s cannot do MIG", gpu->name);
    int r = requests_make(gpu, wants, n_wants, &requests, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < requests.n; i++)
        profiles[i] = requests.items[i].profile;
    if (!place(state, gpu, profiles, requests.n, &layout))
        return err_does_not_fit(state, gpu, profiles, requests.n, err);

    r = sim_mig_clear(state, gpu, err);
    if (r < 0)
        return r;
    gpu->mig_current = gpu->mig_pending = 1;
    sim_event_raise(state, gpu, SIM_EVENT_MIG_CONFIG, 0, SIM_NO_INSTANCE, SIM_NO_INSTANCE);
    for (size_t i = 0; r >= 0 && i < requests.n; i++) {
        struct sim_placement at = { layout.instances[i].start, layout.instances[i].size };
        struct sim_gpu_instance *gi;

        r = sim_gi_create(state, gpu, profiles[i], &at, &gi, err);
        if (r >= 0)
            r = make_compute(state, gpu, gi, &requests.items[i], err);
    }
    return r;
}
