#include <errno.h>
#include <strings.h>

#include "base/text.h"
#include "cli/verb_sim.h"
#include "sim/gpu/control.h"
#include "sim/gpu/mig.h"

/* --- words ----------------------------------------------------------------------------------- */

static int unknown_option(const char *word, const struct sim_option *options, size_t n,
                          struct err *err)
{
    const char *names[SIM_MAX_WORDS];

    for (size_t i = 0; i < n; i++)
        names[i] = options[i].name;
    const char *near = text_nearest(word, names, n);
    if (near)
        return err_set(err, EINVAL, "there is no option %s; did you mean %s?", word, near);
    return err_set(err, EINVAL, "there is no option %s here", word);
}

static const struct sim_option *find_option(const char *word, size_t len,
                                            const struct sim_option *options, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strlen(options[i].name) == len && strncmp(options[i].name, word, len) == 0)
            return &options[i];
    }
    return NULL;
}

/* Takes the option at argv[i]; returns how many words it used. */
static int take_option(int argc, char **argv, int i, const struct sim_option *options, size_t n,
                       struct err *err)
{
    const char *word = argv[i], *equals = strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) : strlen(word);
    const struct sim_option *option = find_option(word, len, options, n);

    if (!option)
        return unknown_option(word, options, n, err);
    if (option->flag) {
        if (equals)
            return err_set(err, EINVAL, "%s takes no value", option->name);
        *option->flag = true;
        return 1;
    }
    if (!equals && i + 1 >= argc)
        return err_set(err, EINVAL, "%s needs a value", option->name);
    *option->value = equals ? equals + 1 : argv[i + 1];
    return equals ? 1 : 2;
}

int sim_words(int argc, char **argv, const struct sim_option *options, size_t n_options,
              const char *ret_rest[static SIM_MAX_WORDS], size_t *ret_n, struct err *err)
{
    bool only_rest = false;
    size_t n = 0;

    for (int i = 1; i < argc;) {
        if (!only_rest && text_equal(argv[i], "--")) {
            only_rest = true;
            i++;
        } else if (!only_rest && argv[i][0] == '-' && argv[i][1]) {
            int used = take_option(argc, argv, i, options, n_options, err);
            if (used < 0)
                return used;
            i += used;
        } else {
            if (n == SIM_MAX_WORDS)
                return err_set(err, EINVAL, "more than %d words are too many", SIM_MAX_WORDS);
            ret_rest[n++] = argv[i++];
        }
    }
    *ret_n = n;
    return 0;
}

int sim_word_u32(const char *name, const char *word, uint32_t *ret, struct err *err)
{
    uint64_t number;

    if (!word)
        return 0;
    if (text_to_u64(span_of(word), &number) < 0 || number > UINT32_MAX - 1)
        return err_set(err, EINVAL, "%s \"%.40s\" is not a number", name, word);
    *ret = (uint32_t)number;
    return 0;
}

int sim_words_expect(size_t n, size_t min, size_t max, const char *usage, struct err *err)
{
    if (n < min)
        return err_set(err, EINVAL, "words are missing: tranche sim %s", usage);
    if (n > max)
        return err_set(err, EINVAL, "there are too many words: tranche sim %s", usage);
    return 0;
}

/* --- where a command acts -------------------------------------------------------------------- */

static int sim_target_find(struct sim_state *state, const char *word, struct sim_target *ret,
                           struct err *err)
{
    struct sim_mig_device device;

    *ret = (struct sim_target){ .n = 1, .gi = SIM_NO_INSTANCE, .ci = SIM_NO_INSTANCE };
    if (text_equal(word, "all")) {
        ret->n = state->n_gpus;
        return 0;
    }
    if (strncasecmp(word, "MIG-", 4) == 0) {
        if (sim_mig_device_by_uuid(state, word, &device) < 0)
            return err_set(err, EINVAL, "there is no MIG device %.80s", word);
        ret->first = (uint32_t)(device.gpu - state->gpus);
        ret->gi = device.gi->id;
        ret->ci = device.ci->id;
        return 0;
    }
    return sim_gpu_find(state, word, &ret->first, err);
}

/* For what cannot be said of a MIG device. */
int sim_target_gpus(struct sim_state *state, const char *word, struct sim_target *ret,
                    struct err *err)
{
    int r = sim_target_find(state, word, ret, err);

    if (r >= 0 && ret->gi != SIM_NO_INSTANCE)
        return err_set(err, EINVAL, "%.80s is a MIG device; name its GPU", word);
    return r;
}

/* For what concerns one device alone. */
int sim_target_device(struct sim_state *state, const char *word, const char *gi, const char *ci,
                      struct sim_target *ret, struct err *err)
{
    int r = sim_target_find(state, word, ret, err);

    if (r >= 0 && ret->n != 1)
        return err_set(err, EINVAL, "name one GPU or MIG device, not all");
    if (r >= 0)
        r = sim_word_u32("--gi", gi, &ret->gi, err);
    if (r >= 0)
        r = sim_word_u32("--ci", ci, &ret->ci, err);
    /* Most GPU instances have one compute instance, and it is number 0. */
    if (r >= 0 && gi && !ci)
        ret->ci = 0;
    return r;
}

void sim_unlock(struct sim_state **state)
{
    sim_state_unlock(*state);
}
