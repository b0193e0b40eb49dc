#include <errno.h>

#include "base/text.h"
#include "cli/output.h"
#include "cli/verb_sim.h"
#include "sim/gpu/control.h"

/* --- processes ------------------------------------------------------------------------------- */

static int read_memory(const char *word, uint64_t *ret, struct err *err)
{
    struct span text = span_of(word);
    int64_t milli;

    if (!word)
        return 0;
    if (text.len > 1 && text.ptr[text.len - 1] == 'B')
        text.len--;
    if (text_to_quantity_milli(text, &milli) < 0 || milli < 0)
        return err_set(err, EINVAL, "--memory \"%.40s\" is not an amount such as 10Gi", word);
    *ret = (uint64_t)milli / 1000;
    return 0;
}

static int read_kind(const char *word, uint32_t *ret, struct err *err)
{
    static const char *const kinds[] = { "compute", "graphics", "mps" };

    for (uint32_t i = 0; word && i < ARRAY_LEN(kinds); i++) {
        if (text_equal(word, kinds[i])) {
            *ret = i;
            return 0;
        }
    }
    if (!word)
        return 0;
    return err_set(err, EINVAL, "--kind \"%.40s\" is none of compute, graphics and mps", word);
}

/* The first id from 1000 on that no process has. */
static uint32_t free_pid(const struct sim_state *state)
{
    uint32_t pid = 1000;

    for (size_t i = 0; i < SIM_MAX_PROCESSES; i++) {
        if (state->processes[i].exists && state->processes[i].pid == pid) {
            pid++;
            i = (size_t)-1;
        }
    }
    return pid;
}

static int process_add(struct sim_node *node, int argc, char **argv, struct err *err)
{
    const char *words[SIM_MAX_WORDS], *pid = NULL, *memory = NULL, *sm = NULL, *bandwidth = NULL;
    const char *encoder = NULL, *decoder = NULL, *kind = NULL, *gi = NULL, *ci = NULL, *name = NULL;
    const struct sim_option options[] = {
        { "--pid", &pid, NULL },         { "--memory", &memory, NULL },
        { "--sm", &sm, NULL },           { "--memory-utilization", &bandwidth, NULL },
        { "--encoder", &encoder, NULL }, { "--decoder", &decoder, NULL },
        { "--kind", &kind, NULL },       { "--gi", &gi, NULL },
        { "--ci", &ci, NULL },           { "--name", &name, NULL },
    };
    struct sim_process process = {};
    struct sim_target target;
    size_t n = 0;

    int r = sim_words(argc, argv, options, ARRAY_LEN(options), words, &n, err);
    if (r >= 0)
        r = sim_words_expect(n, 1, 1, SIM_PROCESS_ADD, err);
    if (r >= 0)
        r = sim_word_u32("--pid", pid, &process.pid, err);
    if (r >= 0)
        r = read_memory(memory, &process.memory_bytes, err);
    if (r >= 0)
        r = sim_word_u32("--sm", sm, &process.sm_pct, err);
    if (r >= 0)
        r = sim_word_u32("--memory-utilization", bandwidth, &process.memory_pct, err);
    if (r >= 0)
        r = sim_word_u32("--encoder", encoder, &process.encoder_pct, err);
    if (r >= 0)
        r = sim_word_u32("--decoder", decoder, &process.decoder_pct, err);
    if (r >= 0)
        r = read_kind(kind, &process.kind, err);
    if (r < 0)
        return r;
    snprintf(process.name, sizeof(process.name), "%s", name ? name : "");

    sim_state_lock(node->state);
    auto_(sim_unlock) struct sim_state *held = node->state;
    r = sim_target_device(held, words[0], gi, ci, &target, err);
    if (r < 0)
        return r;
    process.gpu = target.first;
    process.gi_id = target.gi;
    process.ci_id = target.ci;
    if (!pid)
        process.pid = free_pid(held);
    return sim_process_add(held, &process, err);
}

static int process_remove(struct sim_node *node, int argc, char **argv, struct err *err)
{
    const char *words[SIM_MAX_WORDS], *gpu = NULL;
    const struct sim_option options[] = { { "--gpu", &gpu, NULL } };
    uint32_t index = SIM_MAX_GPUS, pid = 0;
    size_t n = 0;

    int r = sim_words(argc, argv, options, ARRAY_LEN(options), words, &n, err);
    if (r >= 0)
        r = sim_words_expect(n, 1, 1, "process remove PID [--gpu GPU]", err);
    if (r >= 0)
        r = sim_word_u32("PID", words[0], &pid, err);
    if (r < 0)
        return r;
    sim_state_lock(node->state);
    auto_(sim_unlock) struct sim_state *held = node->state;
    if (gpu)
        r = sim_gpu_find(held, gpu, &index, err);
    return r < 0 ? r : sim_process_remove(held, pid, index, err);
}

/* A list that can be printed, and under which key `sim show` has it. */
struct list {
    const char *usage, *key;
    int (*print)(const struct sim_state *state, FILE *to, struct err *err);
};

/* Printing waits for a terminal: it is done from a copy, without the lock. */
static int act_list(struct sim_node *node, int argc, char **argv, const struct list *list,
                    struct err *err)
{
    const char *words[SIM_MAX_WORDS], *word = NULL;
    const struct sim_option options[] = { { "-o", &word, NULL }, { "--output", &word, NULL } };
    auto_free struct sim_state *copy = malloc(sizeof(*copy));
    enum output_format format = OUTPUT_TEXT;
    size_t n = 0;

    if (!copy)
        return err_no_memory(err);
    int r = sim_words(argc, argv, options, ARRAY_LEN(options), words, &n, err);
    if (r >= 0)
        r = sim_words_expect(n, 0, 0, list->usage, err);
    if (r >= 0 && word)
        r = output_format_parse(word, &format, err);
    if (r < 0)
        return r;
    sim_state_lock(node->state);
    memcpy(copy, node->state, sizeof(*copy));
    sim_state_unlock(node->state);
    if (format == OUTPUT_TEXT)
        return list->print(copy, stdout, err);

    auto_(json_decrefp) json_t *all = sim_show_json(copy, node->dir);
    auto_(json_decrefp) json_t *part =
        all ? json_pack("{s:O}", list->key, json_object_get(all, list->key)) : NULL;
    return part ? output_print(stdout, format, part, err) : err_no_memory(err);
}

/* Two words in one: `process add`, `fault clear`. */
static int act_second(struct sim_node *node, int argc, char **argv,
                      const struct sim_command *seconds, size_t n, struct err *err)
{
    const char *names[8];

    for (size_t i = 0; i < n; i++) {
        names[i] = seconds[i].name;
        if (argc > 1 && text_equal(argv[1], names[i]))
            return seconds[i].act(node, argc - 1, argv + 1, err);
    }
    if (argc < 2)
        return err_set(err, EINVAL, "say what to do: %s %s, %s %s or %s %s", argv[0], names[0],
                       argv[0], names[1], argv[0], names[2]);
    const char *near = text_nearest(argv[1], names, n);
    if (near)
        return err_set(err, EINVAL, "there is no \"%s %.40s\"; did you mean \"%s %s\"?", argv[0],
                       argv[1], argv[0], near);
    return err_set(err, EINVAL, "there is no \"%s %.40s\": %s, %s or %s", argv[0], argv[1],
                   names[0], names[1], names[2]);
}

static int process_list(struct sim_node *node, int argc, char **argv, struct err *err)
{
    static const struct list processes = { SIM_PROCESS_LIST, "processes", sim_show_processes };

    return act_list(node, argc, argv, &processes, err);
}

int sim_act_process(struct sim_node *node, int argc, char **argv, struct err *err)
{
    static const struct sim_command seconds[] = {
        { .name = "add", .act = process_add },
        { .name = "remove", .act = process_remove },
        { .name = "list", .act = process_list },
    };

    return act_second(node, argc, argv, seconds, ARRAY_LEN(seconds), err);
}

/* --- faults ---------------------------------------------------------------------------------- */

static int read_hang(const char *word, uint32_t *ret_ms, struct err *err)
{
    int64_t ns;

    if (!word)
        return 0;
    if (text_equal(word, "forever")) {
        *ret_ms = SIM_FOREVER;
        return 0;
    }
    if (text_to_duration_ns(span_of(word), &ns, NULL) >= 0 && ns > 0 && ns / 1000000 < INT32_MAX) {
        *ret_ms = (uint32_t)(ns / 1000000);
        return 0;
    }
    return sim_word_u32("--hang", word, ret_ms, err);
}

static int fault_add(struct sim_node *node, int argc, char **argv, struct err *err)
{
    const char *words[SIM_MAX_WORDS], *gpu = NULL, *after = NULL, *times = NULL, *code = NULL;
    const char *hang = NULL;
    const struct sim_option options[] = {
        { "--gpu", &gpu, NULL },   { "--after", &after, NULL }, { "--times", &times, NULL },
        { "--code", &code, NULL }, { "--hang", &hang, NULL },
    };
    struct sim_fault fault = { .gpu = -1 };
    uint32_t index = 0;
    size_t n = 0;

    int r = sim_words(argc, argv, options, ARRAY_LEN(options), words, &n, err);
    if (r >= 0)
        r = sim_words_expect(n, 1, 1, SIM_FAULT_ADD, err);
    if (r >= 0)
        r = sim_word_u32("--after", after, &fault.after, err);
    if (r >= 0)
        r = sim_word_u32("--times", times, &fault.times, err);
    if (r >= 0)
        r = read_hang(hang, &fault.hang_ms, err);
    /* A call that shall fail needs no reason; one that hangs goes on unless told otherwise. */
    if (r >= 0 && (code || !hang))
        r = sim_code_parse(code ? code : "UNKNOWN", &fault.code, err);
    if (r < 0)
        return r;
    snprintf(fault.call, sizeof(fault.call), "%s", words[0]);
    sim_state_lock(node->state);
    auto_(sim_unlock) struct sim_state *held = node->state;
    if (gpu) {
        r = sim_gpu_find(held, gpu, &index, err);
        fault.gpu = (int32_t)index;
    }
    return r < 0 ? r : sim_fault_add(held, &fault, err);
}

static int fault_clear(struct sim_node *node, int argc, char **argv, struct err *err)
{
    const char *words[SIM_MAX_WORDS];
    size_t n = 0;
    int r = sim_words(argc, argv, NULL, 0, words, &n, err);

    if (r >= 0)
        r = sim_words_expect(n, 0, 0, "fault clear", err);
    if (r < 0)
        return r;
    sim_state_lock(node->state);
    sim_fault_clear(node->state);
    sim_state_unlock(node->state);
    return 0;
}

static int fault_list(struct sim_node *node, int argc, char **argv, struct err *err)
{
    static const struct list faults = { SIM_FAULT_LIST, "faults", sim_show_faults };

    return act_list(node, argc, argv, &faults, err);
}

int sim_act_fault(struct sim_node *node, int argc, char **argv, struct err *err)
{
    static const struct sim_command seconds[] = {
        { .name = "add", .act = fault_add },
        { .name = "clear", .act = fault_clear },
        { .name = "list", .act = fault_list },
    };

    return act_second(node, argc, argv, seconds, ARRAY_LEN(seconds), err);
}
