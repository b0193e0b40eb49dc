#include "gpu/health.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

/* ---- the filter ---- */

/* Errors of an application, not of the GPU: 13 graphics engine exception, 31 memory page fault,
 * 43 GPU stopped processing, 45 preemptive clean-up, 68 video processor exception, 109 context
 * switch timeout. */
static const uint64_t harmless[] = { 13, 31, 43, 45, 68, 109 };

static bool has_xid(const uint64_t *xids, size_t n, uint64_t xid)
{
    for (size_t i = 0; i < n; i++)
        if (xids[i] == xid)
            return true;
    return false;
}

static bool is_word(struct span token, const char *word)
{
    return token.len == strlen(word) && strncasecmp(token.ptr, word, token.len) == 0;
}

static void note_ignored(struct xid_filter *filter, struct span token)
{
    if (filter->n_ignored < XID_FILTER_MAX_IGNORED)
        filter->ignored[filter->n_ignored++] = token;
}

/* One list: `all`, `xids` and, as upstream has it, the number 0 stand for every XID. */
static void parse_list(struct xid_filter *filter, const char *text, bool *ret_all, uint64_t *xids,
                       size_t *n)
{
    struct span rest = span_of(text), token;
    bool more = text != NULL;
    uint64_t xid;

    while (span_split(&rest, ',', &more, &token)) {
        token = span_trim(token);
        if (is_word(token, "all") || is_word(token, "xids"))
            *ret_all = true;
        else if (token.len == 0)
            continue;
        else if (text_to_u64(token, &xid) < 0 || *n >= XID_FILTER_MAX)
            note_ignored(filter, token);
        else if (xid == 0)
            *ret_all = true;
        else
            xids[(*n)++] = xid;
    }
}

void xid_filter_parse(const char *disable, const char *enable, struct xid_filter *ret)
{
    *ret = (struct xid_filter){};
    parse_list(ret, disable, &ret->disable_all, ret->disabled, &ret->n_disabled);
    parse_list(ret, enable, &ret->enable_all, ret->enabled, &ret->n_enabled);
}

bool xid_filter_watches(const struct xid_filter *filter)
{
    return !filter->disable_all || filter->enable_all || filter->n_enabled > 0;
}

bool xid_filter_is_fatal(const struct xid_filter *filter, uint64_t xid)
{
    if (filter->enable_all || has_xid(filter->enabled, filter->n_enabled, xid))
        return true;
    return !filter->disable_all && !has_xid(harmless, ARRAY_LEN(harmless), xid) &&
           !has_xid(filter->disabled, filter->n_disabled, xid);
}

/* ---- who is ill ---- */

void ailments_done(struct ailments *ailments)
{
    mem_free(ailments->items);
    *ailments = (struct ailments){};
}

void ailments_clear(struct ailments *ailments)
{
    ailments->n = 0;
}

static bool is_of_gpu(const struct ailment *ailment)
{
    return ailment->gi == HEALTH_NO_INSTANCE && ailment->ci == HEALTH_NO_INSTANCE &&
           !ailment->mig[0];
}

/* NVML says both ids or none; an id it does not say matches all. */
static bool is_instance(const struct mig_device *mig, uint32_t gi, uint32_t ci)
{
    return (gi == HEALTH_NO_INSTANCE || gi == mig->gi_id) &&
           (ci == HEALTH_NO_INSTANCE || ci == mig->ci_id);
}

const char *ailments_of_gpu(const struct ailments *ailments, const char *gpu)
{
    for (size_t i = 0; i < ailments->n; i++)
        if (is_of_gpu(&ailments->items[i]) && text_equal(ailments->items[i].gpu, gpu))
            return ailments->items[i].reason;
    return NULL;
}

const char *ailments_of_mig(const struct ailments *ailments, const char *gpu,
                            const struct mig_device *mig)
{
    for (size_t i = 0; i < ailments->n; i++) {
        const struct ailment *ailment = &ailments->items[i];
        if (is_of_gpu(ailment) || !text_equal(ailment->gpu, gpu))
            continue;
        if (ailment->mig[0] ? text_equal(ailment->mig, mig->uuid)
                            : is_instance(mig, ailment->gi, ailment->ci))
            return ailment->reason;
    }
    return NULL;
}

static int add(struct ailments *ailments, const char *gpu, const char *mig, uint32_t gi,
               uint32_t ci, const char *reason, struct err *err)
{
    if (ailments->n >= AILMENTS_MAX)
        return err_set(err, ENOSPC, "%d devices are unhealthy already", AILMENTS_MAX);
    if (ailments->n == ailments->cap) {
        size_t cap = MAX(2 * ailments->cap, (size_t)8);
        struct ailment *items = mem_resize(ailments->items, cap * sizeof(*items));
        if (!items)
            return err_no_memory(err);
        ailments->items = items;
        ailments->cap = cap;
    }
    struct ailment *ailment = &ailments->items[ailments->n++];
    *ailment = (struct ailment){ .gi = gi, .ci = ci };
    snprintf(ailment->gpu, sizeof(ailment->gpu), "%s", gpu);
    snprintf(ailment->mig, sizeof(ailment->mig), "%s", mig);
    snprintf(ailment->reason, sizeof(ailment->reason), "%s", reason);
    return 1;
}

/* Each device of the instance that the inventory knows; *ret_found says whether there is one. */
static int add_devices(struct ailments *ailments, const struct gpu *gpu, uint32_t gi, uint32_t ci,
                       const char *reason, bool *ret_found, struct err *err)
{
    int noted = 0;

    for (size_t i = 0; i < gpu->n_mig_devices; i++) {
        const struct mig_device *mig = &gpu->mig_devices[i];
        if (!is_instance(mig, gi, ci))
            continue;
        *ret_found = true;
        if (ailments_of_mig(ailments, gpu->uuid, mig))
            continue;
        int r = add(ailments, gpu->uuid, mig->uuid, mig->gi_id, mig->ci_id, reason, err);
        if (r < 0)
            return r;
        noted = 1;
    }
    return noted;
}

int ailments_add(struct ailments *ailments, const struct inventory *now, const char *gpu,
                 uint32_t gi, uint32_t ci, const char *reason, struct err *err)
{
    const struct gpu *known = now ? inventory_gpu_by_uuid(now, gpu) : NULL;
    bool found = false;

    if (gi == HEALTH_NO_INSTANCE && ci == HEALTH_NO_INSTANCE)
        return ailments_of_gpu(ailments, gpu) ? 0 : add(ailments, gpu, "", gi, ci, reason, err);

    int r = known ? add_devices(ailments, known, gi, ci, reason, &found, err) : 0;
    if (r < 0 || found)
        return r;
    struct mig_device unseen = { .uuid = "", .gi_id = gi, .ci_id = ci };
    return ailments_of_mig(ailments, gpu, &unseen) ? 0
                                                   : add(ailments, gpu, "", gi, ci, reason, err);
}
