#include <errno.h>

#include "base/text.h"
#include "cli/verb_sim.h"
#include "sim/gpu/control.h"
#include "sim/gpu/mig.h"
#include "sim/gpu/root.h"

/* The files beside the node follow its MIG devices. */
static int update_files(struct sim_node *node, uint32_t first, uint32_t n, struct err *err)
{
    int r = 0;

    for (uint32_t i = first; r >= 0 && i < first + n; i++)
        r = sim_root_update(node->dir, node->state, i, SIM_NO_INSTANCE, err);
    return r;
}

/* --- set ------------------------------------------------------------------------------------- */

static int set_one(struct sim_state *state, const struct sim_target *target, bool node,
                   const char *word, struct err *err)
{
    const char *equals = strchr(word, '=');
    char key[64];
    int r = 0;

    if (!equals || equals == word || (size_t)(equals - word) >= sizeof(key))
        return err_set(err, EINVAL, "\"%.60s\" is not KEY=VALUE", word);
    snprintf(key, sizeof(key), "%.*s", (int)(equals - word), word);
    if (node)
        return sim_set_node(state, key, equals + 1, err);
    for (uint32_t i = target->first; r >= 0 && i < target->first + target->n; i++)
        r = sim_set(state, i, key, equals + 1, err);
    return r;
}

int sim_act_set(struct sim_node *node, int argc, char **argv, struct err *err)
{
    const char *words[SIM_MAX_WORDS];
    struct sim_target target = {};
    size_t n = 0;

    int r = sim_words(argc, argv, NULL, 0, words, &n, err);
    if (r >= 0)
        r = sim_words_expect(n, 2, SIM_MAX_WORDS, "set GPU KEY=VALUE…", err);
    if (r < 0)
        return r;

    bool whole_node = text_equal(words[0], "node");
    sim_state_lock(node->state);
    auto_(sim_unlock) struct sim_state *held = node->state;
    if (!whole_node)
        r = sim_target_gpus(held, words[0], &target, err);
    for (size_t i = 1; r >= 0 && i < n; i++)
        r = set_one(held, &target, whole_node, words[i], err);
    if (r >= 0 && whole_node)
        r = sim_root_update_node(node->dir, held, err);
    return r < 0 ? r : update_files(node, target.first, target.n, err);
}

/* --- Xids and losses ------------------------------------------------------------------------- */

int sim_act_xid(struct sim_node *node, int argc, char **argv, struct err *err)
{
    const char *words[SIM_MAX_WORDS], *gi = NULL, *ci = NULL;
    const struct sim_option options[] = { { "--gi", &gi, NULL }, { "--ci", &ci, NULL } };
    struct sim_target target;
    uint32_t xid = 0;
    size_t n = 0;

    int r = sim_words(argc, argv, options, ARRAY_LEN(options), words, &n, err);
    if (r >= 0)
        r = sim_words_expect(n, 2, 2, "xid GPU XID [--gi N [--ci N]]", err);
    if (r >= 0)
        r = sim_word_u32("Xid", words[1], &xid, err);
    if (r < 0)
        return r;
    sim_state_lock(node->state);
    auto_(sim_unlock) struct sim_state *held = node->state;
    r = sim_target_device(held, words[0], gi, ci, &target, err);
    return r < 0 ? r : sim_xid(held, target.first, xid, target.gi, target.ci, err);
}

/* The commands that do one thing to each GPU named. */
static int act_on_each(struct sim_node *node, int argc, char **argv, const char *usage,
                       int (*act)(struct sim_state *state, uint32_t gpu, struct err *err),
                       struct err *err)
{
    const char *words[SIM_MAX_WORDS];
    struct sim_target target;
    size_t n = 0;

    int r = sim_words(argc, argv, NULL, 0, words, &n, err);
    if (r >= 0)
        r = sim_words_expect(n, 1, 1, usage, err);
    if (r < 0)
        return r;
    sim_state_lock(node->state);
    auto_(sim_unlock) struct sim_state *held = node->state;
    r = sim_target_gpus(held, words[0], &target, err);
    for (uint32_t i = 0; r >= 0 && i < target.n; i++) {
        r = act(held, target.first + i, err);
        if (r >= 0)
            r = update_files(node, target.first + i, 1, err);
    }
    return r;
}

static int lose(struct sim_state *state, uint32_t gpu, struct err *err)
{
    sim_lose(state, gpu);
    return 0;
}

int sim_act_lose(struct sim_node *node, int argc, char **argv, struct err *err)
{
    return act_on_each(node, argc, argv, "lose GPU", lose, err);
}

static int come_back(struct sim_state *state, uint32_t gpu, struct err *err)
{
    sim_return(state, gpu);
    return 0;
}

int sim_act_return(struct sim_node *node, int argc, char **argv, struct err *err)
{
    return act_on_each(node, argc, argv, "return GPU", come_back, err);
}

static int reset(struct sim_state *state, uint32_t gpu, struct err *err)
{
    return sim_gpu_reset(state, &state->gpus[gpu], err);
}

int sim_act_reset(struct sim_node *node, int argc, char **argv, struct err *err)
{
    return act_on_each(node, argc, argv, "reset GPU", reset, err);
}

int sim_act_reboot(struct sim_node *node, int argc, char **argv, struct err *err)
{
    const char *words[SIM_MAX_WORDS];
    size_t n = 0;

    int r = sim_words(argc, argv, NULL, 0, words, &n, err);
    if (r >= 0)
        r = sim_words_expect(n, 0, 0, "reboot", err);
    if (r < 0)
        return r;
    sim_state_lock(node->state);
    auto_(sim_unlock) struct sim_state *held = node->state;
    sim_reboot(held);
    held->driver_loaded = true;
    r = sim_root_update_node(node->dir, held, err);
    return r < 0 ? r : update_files(node, 0, held->n_gpus, err);
}

/* --- MIG ------------------------------------------------------------------------------------- */

/* "1g.10gb:2,3g.40gb" cut up in place. */
static int read_wants(char *text, struct sim_mig_want wants[static SIM_MAX_WORDS], size_t *ret_n,
                      struct err *err)
{
    size_t n = 0;

    for (char *part = text, *next; part; part = next) {
        char *colon;
        uint32_t count = 1;

        next = strchr(part, ',');
        if (next)
            *next++ = '\0';
        colon = strchr(part, ':');
        if (colon)
            *colon++ = '\0';
        int r = sim_word_u32("count", colon, &count, err);
        if (r < 0)
            return r;
        if (!*part || n == SIM_MAX_WORDS)
            return err_set(err, EINVAL,
                           "a partition is PROFILE[:COUNT],…, such as 1g.10gb:2,3g.40gb");
        wants[n++] = (struct sim_mig_want){ part, count };
    }
    *ret_n = n;
    return 0;
}

/* Off at once, without the reset that the driver might want. */
static int mig_off(struct sim_state *state, struct sim_gpu *gpu, struct err *err)
{
    enum sim_mig_activation activation;
    bool needs_reset = gpu->mig_needs_reset;

    if (!gpu->mig_capable)
        return 0; /* never on */
    int r = sim_mig_clear(state, gpu, err);
    if (r < 0)
        return r;
    gpu->mig_needs_reset = false;
    r = sim_mig_mode_set(state, gpu, 0, &activation, err);
    gpu->mig_needs_reset = needs_reset;
    if (r >= 0 && activation == SIM_MIG_IN_USE)
        return err_set(err, EBUSY, "a process still holds %s", gpu->uuid);
    return r;
}

static int mig_set(struct sim_state *state, const struct sim_target *target, bool off,
                   const struct sim_mig_want *wants, size_t n_wants, struct err *err)
{
    int r = 0;

    for (uint32_t i = 0; r >= 0 && i < target->n; i++) {
        struct sim_gpu *gpu = &state->gpus[target->first + i];

        r = off ? mig_off(state, gpu, err) : sim_mig_partition(state, gpu, wants, n_wants, err);
    }
    return r;
}

/* All of them or none: tried on a copy first. */
static int mig_set_all(struct sim_state *state, const struct sim_target *target, bool off,
                       const struct sim_mig_want *wants, size_t n_wants, struct err *err)
{
    auto_free struct sim_state *copy = malloc(sizeof(*copy));

    if (!copy)
        return err_no_memory(err);
    memcpy(copy, state, sizeof(*copy));
    int r = mig_set(copy, target, off, wants, n_wants, err);
    return r < 0 ? r : mig_set(state, target, off, wants, n_wants, err);
}

int sim_act_mig(struct sim_node *node, int argc, char **argv, struct err *err)
{
    const char *words[SIM_MAX_WORDS];
    struct sim_mig_want wants[SIM_MAX_WORDS];
    struct sim_target target;
    size_t n = 0, n_wants = 0;
    char layout[256];

    int r = sim_words(argc, argv, NULL, 0, words, &n, err);
    if (r >= 0)
        r = sim_words_expect(n, 2, 2, "mig GPU PROFILE[:COUNT],…|on|off", err);
    if (r < 0)
        return r;
    bool on = text_equal(words[1], "on"), off = text_equal(words[1], "off");
    if (strlen(words[1]) >= sizeof(layout))
        return err_set(err, EINVAL, "\"%.40s…\" is too long for a partition", words[1]);
    snprintf(layout, sizeof(layout), "%s", words[1]);
    if (!on && !off)
        r = read_wants(layout, wants, &n_wants, err);
    if (r < 0)
        return r;

    sim_state_lock(node->state);
    auto_(sim_unlock) struct sim_state *held = node->state;
    r = sim_target_gpus(held, words[0], &target, err);
    if (r >= 0)
        r = mig_set_all(held, &target, off, wants, n_wants, err);
    return r < 0 ? r : update_files(node, target.first, target.n, err);
}
