#include <errno.h>
#include <fcntl.h>
#include <time.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/text.h"
#include "cli/verb_sim.h"
#include "codec/yaml.h"

enum { MAX_STEPS = 10000, MAX_FILE = 1 << 20 };

struct step {
    struct place place;
    const struct sim_command *command;
    int64_t after_ns;
    int argc;
    char *argv[SIM_MAX_WORDS + 1];
};

/* A file being read. */
struct script {
    const char *path;
    struct arena *arena; /* borrowed */
    struct step *steps;  /* in the arena */
    size_t n_steps;
};

#define COMPLAIN(script, where, err, ...) complain((script)->path, (where), (err), __VA_ARGS__)

PRINTF(4, 5)
static int complain(const char *path, struct place place, struct err *err, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return err_set(err, EINVAL, "%s:%u:%u: %s", path, place.line, place.column, text);
}

/* --- reading --------------------------------------------------------------------------------- */

static int add_word(const struct script *script, struct step *step, struct span word,
                    struct err *err)
{
    if (step->argc >= SIM_MAX_WORDS)
        return COMPLAIN(script, step->place, err, "a step has at most %d words", SIM_MAX_WORDS);
    step->argv[step->argc] = arena_spandup(script->arena, word);
    if (!step->argv[step->argc])
        return err_no_memory(err);
    step->argc++;
    return 0;
}

/* Words are what blanks part; quotes mean nothing (a list keeps a blank inside a word). */
static int split_words(const struct script *script, struct step *step, struct span text,
                       struct err *err)
{
    struct span word;
    bool more = true;
    int r = 0;

    while (r >= 0 && span_split(&text, ' ', &more, &word)) {
        word = span_trim(word);
        if (word.len > 0)
            r = add_word(script, step, word, err);
    }
    return r;
}

static int read_words(const struct script *script, struct step *step, const struct value *value,
                      struct err *err)
{
    int r = 0;

    switch (value ? value->kind : VALUE_NULL) {
    case VALUE_NULL:
        return 0;
    case VALUE_LIST:
        for (size_t i = 0; r >= 0 && i < value->n_items; i++) {
            const struct value *item = value->items[i];

            if (item->kind == VALUE_LIST || item->kind == VALUE_MAP || item->kind == VALUE_NULL)
                return COMPLAIN(script, item->place, err, "a word is a string or a number, not %s",
                                value_kind_names[item->kind]);
            r = add_word(script, step, item->text, err);
        }
        return r;
    case VALUE_MAP:
        return COMPLAIN(script, value->place, err, "words are a string or a list, not a map");
    default:
        return split_words(script, step, value->text, err);
    }
}

/* The command whose name is the step's first word. */
static int look_up(const struct script *script, struct step *step, struct err *err)
{
    const char *name = step->argc > 0 ? step->argv[0] : "";

    step->command = sim_command_find(name);
    if (!step->command)
        return COMPLAIN(script, step->place, err, "there is no command \"%.40s\"", name);
    if (!step->command->steps)
        return COMPLAIN(script, step->place, err, "%s cannot be a step", name);
    return 0;
}

static int read_after(const struct script *script, struct step *step, const struct value *value,
                      struct err *err)
{
    struct err why = {};

    if (value->kind == VALUE_LIST || value->kind == VALUE_MAP ||
        text_to_duration_ns(value->text, &step->after_ns, &why) < 0 || step->after_ns < 0)
        return COMPLAIN(script, value->place, err, "after is a time such as 100ms or 2s%s%s",
                        why.text[0] ? ": " : "", why.text);
    return 0;
}

static int read_map(const struct script *script, struct step *step, const struct value *map,
                    struct err *err)
{
    int r = 0;

    for (size_t i = 0; r >= 0 && i < map->n_entries; i++) {
        const struct value_entry *entry = &map->entries[i];

        if (text_equal(entry->key, "after")) {
            r = read_after(script, step, entry->value, err);
            continue;
        }
        if (step->argc > 0)
            return COMPLAIN(script, entry->place, err,
                            "a step is one command; \"%.40s\" is a second", entry->key);
        step->place = entry->place;
        r = add_word(script, step, span_of(entry->key), err);
        if (r >= 0)
            r = read_words(script, step, entry->value, err);
    }
    /* A step may only wait. */
    return r < 0 || (step->argc == 0 && step->after_ns > 0) ? r : look_up(script, step, err);
}

static int read_step(struct script *script, const struct value *value, struct err *err)
{
    struct step *step = &script->steps[script->n_steps++];

    step->place = value->place;
    if (value->kind == VALUE_MAP)
        return read_map(script, step, value, err);
    if (value->kind != VALUE_STRING)
        return COMPLAIN(script, value->place, err, "a step is a command, not %s",
                        value_kind_names[value->kind]);
    int r = split_words(script, step, value->text, err);
    return r < 0 ? r : look_up(script, step, err);
}

static int read_script(struct script *script, struct err *err)
{
    struct span text;
    struct value *root = NULL;

    int r = file_read(AT_FDCWD, script->path, MAX_FILE, script->arena, &text, err);
    if (r >= 0)
        r = yaml_parse(text, script->path, NULL, script->arena, &root, err);
    if (r < 0)
        return r;
    if (root->kind != VALUE_LIST)
        return COMPLAIN(script, root->place, err, "a scenario is a list of steps, not %s",
                        value_kind_names[root->kind]);
    if (root->n_items > MAX_STEPS)
        return COMPLAIN(script, root->place, err, "a scenario has at most %d steps", MAX_STEPS);
    script->steps = arena_new_array(script->arena, struct step, MAX(root->n_items, (size_t)1));
    if (!script->steps)
        return err_no_memory(err);
    for (size_t i = 0; r >= 0 && i < root->n_items; i++)
        r = read_step(script, root->items[i], err);
    return r;
}

/* --- playing --------------------------------------------------------------------------------- */

static void wait_ns(int64_t ns)
{
    struct timespec left = { ns / 1000000000, ns % 1000000000 };

    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

int sim_play(struct sim_node *node, const char *path, struct err *err)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(64));
    struct script script = { .path = path, .arena = &arena };

    int r = read_script(&script, err);
    for (size_t i = 0; r >= 0 && i < script.n_steps; i++) {
        struct step *step = &script.steps[i];

        wait_ns(step->after_ns);
        if (!step->command)
            continue;
        r = step->command->act(node, step->argc, step->argv, err);
        if (r < 0)
            return err_wrap(err, r, "%s:%u:%u: %s", path, step->place.line, step->place.column,
                            step->command->name);
    }
    return r;
}
